"""The `l4` command: registers its subcommands and turns errors into one line and an exit code."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
from contextlib import nullcontext
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from convert.errors import ConvertError
from l4cli import __version__, console
from l4cli.commands import completion
from l4cli.commands.ask import ask
from l4cli.commands.bench import bench
from l4cli.commands.chat import chat
from l4cli.commands.config import config
from l4cli.commands.convert import convert
from l4cli.commands.ctx_test import ctx_test
from l4cli.commands.defaults import WITHOUT_CONFIG, from_config_file, plain
from l4cli.commands.docs import docs
from l4cli.commands.doctor import doctor
from l4cli.commands.eval import evaluate
from l4cli.commands.experts import show_experts
from l4cli.commands.group import Command, Group, about_option
from l4cli.commands.imatrix import imatrix
from l4cli.commands.info import info
from l4cli.commands.models import models
from l4cli.commands.plan import plan
from l4cli.commands.pull import pull
from l4cli.commands.quantize import quantize
from l4cli.commands.rm import rm
from l4cli.commands.run import run
from l4cli.commands.serve import serve
from l4cli.commands.sessions import sessions
from l4cli.commands.template_options import TemplatedCommand
from l4cli.commands.templates import templates
from l4cli.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_USAGE,
    L4Error,
)
from l4cli.native.watcher import watching
from l4cli.signals import GivenUpError

# Of a line on stderr. A path has up to 4,096, and what a file holds may have any number.
_MOST_CHARACTERS = 6_000
# What a system refuses for reasons of its own. Code that asks about a file, as `Path.exists` does,
# may get any of these for any name.
_OF_THE_SYSTEM = {
    *(errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.EIO),
    *(errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE),
}

app = typer.Typer(
    name="l4",
    cls=Group,
    add_completion=False,
    help="Run Llama 4 and other GGUF models: convert checkpoints, chat, answer files of prompts, "
    "ask questions about documents.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run", cls=Command)(run)
app.command("chat", cls=TemplatedCommand)(chat)
app.command("ask", cls=TemplatedCommand)(ask)
app.command("serve", cls=Command)(serve)
app.add_typer(docs, name="docs")
app.add_typer(sessions, name="sessions")
app.add_typer(templates, name="templates")
app.command("convert", cls=Command)(convert)
app.command("quantize", cls=Command, context_settings={"allow_extra_args": True})(quantize)
app.command("imatrix", cls=Command)(imatrix)
app.command("info", cls=Command)(info)
app.add_typer(models, name="models")
app.add_typer(config, name="config")
app.command("pull", cls=Command)(pull)
app.command("rm", cls=Command)(rm)
app.command("bench", cls=Command)(bench)
app.command("ctx-test", cls=Command)(ctx_test)
app.command("eval", cls=Command)(evaluate)
app.command("experts", cls=Command)(show_experts)
app.command("plan", cls=Command)(plan)
app.command("doctor", cls=Command)(doctor)
app.command("completion", cls=Command)(completion.completion)


@app.callback()
def _global_options(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, help="Show the version and exit."),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show llama.cpp's own log on stderr.")
    ] = False,
    _debug: Annotated[
        bool, typer.Option("--debug", help="Show the full traceback of an error.")
    ] = False,
) -> None:
    if context.invoked_subcommand in WITHOUT_CONFIG:
        return  # doctor must work even where llama.cpp cannot be loaded, too
    if verbose:
        from l4cli.engine.llamacpp import library

        library.echo_log(True)
    context.default_map = from_config_file(context.command)


def main() -> None:
    """Entry point of the `l4` command. Exits with one of the codes in `l4cli.errors`."""
    try:
        console.hold_standard_streams()
    except L4Error as error:
        console.warn(str(error))
        sys.exit(error.exit_code)
    if "--version" in sys.argv[1:2]:
        console.data(f"l4 {__version__}")
        sys.exit(EXIT_OK)
    if completion.VARIABLE in os.environ:
        completion.prepare()
    console.use_utf8()
    signal.signal(signal.SIGTERM, _on_terminate)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, _on_terminate)  # the terminal closed; not under `nohup`
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _on_interrupt)
    arguments = sys.argv[1:]
    try:
        with nullcontext() if {"--help", "-h"} & {*arguments} else watching(arguments):
            exit_code = invoke(debug="--debug" in arguments)
    except KeyboardInterrupt:
        exit_code = EXIT_INTERRUPTED
    console.end_interrupted_line()
    sys.exit(exit_code)


def invoke(debug: bool) -> int:
    """Run the command in sys.argv and return its exit code.

    With `debug`, errors are raised instead of being reported in one line.
    """
    try:
        return app(prog_name="l4", standalone_mode=False) or EXIT_OK
    except console.ReaderGoneError:
        return _reader_gone()
    except SystemExit as leaving:
        if isinstance(leaving.__context__, GivenUpError):
            _note_given_up(leaving.__context__)
        if not isinstance(leaving.__context__, BrokenPipeError):
            raise
        return _reader_gone()  # of a help text, which typer writes
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except GivenUpError as given_up:
        _note_given_up(given_up)
        return given_up.exit_code
    except (L4Error, ConvertError, TyperException) as error:
        if debug:
            raise
        console.warn(_line(error))
        return error.exit_code if isinstance(error, L4Error) else EXIT_USAGE
    except MemoryError:
        if debug:
            raise
        console.warn(
            "out of memory: use a smaller --ctx, --parallel or quantization "
            "(`l4 plan` shows how much memory each needs)"
        )
        return EXIT_FAILED
    except Exception as error:
        if debug:
            raise
        if isinstance(error, OSError) and error.errno in _OF_THE_SYSTEM and error.filename:
            console.warn(f"{_short(os.fsdecode(error.filename))}: {error.strerror}")
            return EXIT_USAGE
        # A bug in l4. The message must not look like a mistake of the user.
        console.warn(
            f"this is a bug in l4 ({type(error).__name__}: {error}); "
            "run it again with `l4 --debug …` and report the traceback"
        )
        return EXIT_FAILED


def _note_given_up(given_up: GivenUpError) -> None:
    if given_up.exit_code == EXIT_INTERRUPTED:
        console.note_interrupt()


def _reader_gone() -> int:
    """Let the command end quietly, since nobody reads its output; return the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes stdout at exit; this cannot fail
    return EXIT_OK


def _line(error: Exception) -> str:
    """The error's message as one line."""
    if isinstance(error, TyperException):
        context = getattr(error, "ctx", None)
        hint = f" (see `{context.command_path} --help`)" if context else ""
        message = plain(error.format_message().rstrip("."))
        parameter = getattr(error, "param", None)
        source = context and parameter and context.get_parameter_source(parameter.name)
        if source and source.name == "ENVIRONMENT":
            message = re.sub(r"(?<=nvalid value for )'.*?'(?=:)", _variable_of(parameter), message)
        unknown = getattr(error, "option_name", None)
        if context and unknown and hasattr(error, "possibilities"):  # click's NoSuchOption
            advice = about_option(unknown, context.command)
            message = f"no such option: {unknown}" + (f"; {advice}" if advice else "")
        line = message[:1].lower() + message[1:] + hint
    else:
        line = " ".join(str(error).split())
    if len(line) <= _MOST_CHARACTERS:
        return line
    return f"{line[: _MOST_CHARACTERS - 500]} … {line[-500:]}"  # the file, and the way out


def _variable_of(parameter: Any) -> str:
    """The environment variable that an option has its value from."""
    names = parameter.envvar
    names = [names] if isinstance(names, str) else names
    return str(next(name for name in names if os.environ.get(name)))


def _short(name: str) -> str:
    return name if len(name) <= 200 else f"{name[:100]}…{name[-99:]}"


def _on_interrupt(_number: int, _frame: object) -> None:
    console.note_interrupt()
    raise KeyboardInterrupt


def _on_terminate(number: int, _frame: object) -> None:
    sys.exit(128 + number)
