"""`l4 chat`: a conversation in the terminal, or one answer for a pipe or script."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from l4cli import console
from l4cli.commands import chat_options as own
from l4cli.commands import completion, options
from l4cli.commands import sampling_options as sampler
from l4cli.commands import template_options as templates
from l4cli.commands.find_gguf import refuse_unknown
from l4cli.errors import EXIT_FAILED, EXIT_OK, ContextOverflowError, UsageError

if TYPE_CHECKING:
    from l4cli.chat.history.session_file import SessionFile
    from l4cli.chat.session import ChatSession
    from l4cli.chat.tools.rounds import Ask, ToolRounds
    from l4cli.templates.template import FilledTemplate


def chat(
    context: typer.Context,
    words: own.Words = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt", "-p", metavar="TEXT", help="Answer this one prompt on stdout and exit."
        ),
    ] = None,
    file: Annotated[
        list[Path] | None,
        typer.Option(
            "--file",
            "-f",
            metavar="FILE",
            help="Put this file (text, PDF, DOCX …) before the first question; may be repeated.",
        ),
    ] = None,
    go_on: Annotated[
        bool, typer.Option("--continue", "-c", help="Continue the session used last.")
    ] = False,
    session_name: Annotated[
        str | None,
        typer.Option(
            "--session",
            metavar="NAME",
            autocompletion=completion.sessions,
            help="Continue the session NAME, or start it if it is new.",
        ),
    ] = None,
    no_markdown: Annotated[
        bool,
        typer.Option(
            "--no-markdown", help="Show answers as plain text, without rendering Markdown."
        ),
    ] = False,
    no_history: Annotated[
        bool,
        typer.Option(
            "--no-history", help="Save neither the session nor the history of typed lines."
        ),
    ] = False,
    json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Write the one answer as JSON: text, finish_reason, usage, and its value with "
            "--schema.",
        ),
    ] = False,
    template: templates.Name = None,
    variable: templates.Variables = None,
    save_template: templates.Save = None,
    tools: own.Tools = None,
    yes: own.Yes = False,
    max_rounds: own.MaxRounds = 8,
    tool_timeout: own.ToolTimeout = 30.0,
    model: options.Model = None,
    experts: options.Experts = None,
    system: options.System = None,
    max_tokens: sampler.MaxTokens = None,
    temperature: sampler.Temperature = None,
    top_p: sampler.TopP = None,
    top_k: sampler.TopK = None,
    min_p: sampler.MinP = None,
    seed: sampler.Seed = None,
    schema: sampler.Schema = None,
    ctx: options.Ctx = None,
    threads: options.ThreadsByName = None,
    gpu_layers: options.GpuLayers = "-1",
    cpu_moe: options.CpuMoe = None,
    tensor_split: options.TensorSplit = None,
    kv_type: options.KvType = "f16",
    store_limit: options.StoreLimit = None,
    force: options.Force = False,
) -> None:
    """Chat with a model.

    In a terminal, this starts a conversation. /help lists its commands, Ctrl-C
    stops an answer, Ctrl-D leaves.

    With -p or with text from a pipe, it writes one answer to stdout. The model
    reads the files first, then the text from the pipe, then the prompt:

        cat notes.md | l4 chat -p "Summarise these notes"
        l4 chat -p "Invent a dog" --schema "name, age int, tricks [str]"

    With -t, a template asks: a prompt with variables, kept with its options by
    --save-template.

        l4 chat 'In $lang: $input' --save-template say
        l4 chat -t say -P lang=French "Good night"

    With --tools, the model can call the functions of a Python file. Each call
    is shown, and you are asked before it runs.

    Each conversation is saved as a session; -c continues the last one. With
    -p, a session is saved only if you give -c or --session.
    """
    from l4cli.batch.input import constraint_of
    from l4cli.chat import files
    from l4cli.chat.tty import typing_held

    named = words.pop(0) if words and _names_model(context, words[0]) else None
    if words:
        _refuse_file(words)
    if words and prompt is not None:
        raise UsageError(f"two prompts: {' '.join(words)!r} and -p {prompt!r}; give one")
    prompt = " ".join(words) if words else prompt
    if save_template is not None:
        given = {"model": named, "prompt": prompt}
        templates.save(context, save_template, given, variable, yes=yes)
        return
    chosen = templates.choose(context, template, variable)
    model = named or chosen.over("model", model)
    tools, schema = chosen.over("tools", tools), chosen.over("schema", schema)
    texts = [(str(path), files.read_text(path)) for path in file or []]
    question = _question(prompt, chosen.filled)
    if question is None and not sys.stdout.isatty():
        raise UsageError(
            "a conversation needs a terminal for its answers; use -p PROMPT for a single question"
        )
    if question is None and (json or schema is not None):
        raise UsageError("--json and --schema are for one answer: give its question with -p PROMPT")
    if tools and schema is not None:
        raise UsageError("--tools and --schema cannot be combined: give one")
    constraint = constraint_of(schema, None)
    system = chosen.system(system)
    keep = not no_history
    loading = options.loading(
        threads,
        gpu_layers,
        cpu_moe,
        tensor_split,
        kv_type,
        force,
        store_limit,
        experts=experts,
    )
    sampling = sampler.given(max_tokens, temperature, top_p, top_k, min_p, seed)
    refuse_unknown(model)

    from l4cli.commands.open_model import find_file, open_model

    located = find_file(model, yes=yes)
    kept = _session_file(go_on, session_name, keep, is_conversation=question is None)
    loading = loading.but(ctx=ctx, store=kept is not None)
    with (
        nullcontext() if question else typing_held(),
        _rounds(tools, yes, max_rounds, tool_timeout, is_conversation=question is None) as rounds,
        open_model(located, loading) as llm,
        ExitStack() as at_end,
    ):
        from l4cli.chat.session import ChatSession
        from l4cli.chat.terminal.render import silent_view, view_for_stdout
        from l4cli.commands.chat_models import ModelsHere

        is_resumed = kept is not None and kept.exists
        with console.status("restoring the session") if is_resumed else nullcontext():
            session = ChatSession(
                llm,
                # A value is no Markdown.
                silent_view if json else view_for_stdout(markdown=not no_markdown and not schema),
                system=system,
                sampling=chosen.sampling(sampling),
                file=kept,
                conditions=llm.conditions,
                rounds=rounds,
                models=ModelsHere(loading),
            )
        at_end.callback(lambda: session.llm.close())  # it may be another one by then
        session.constraint = constraint
        for name, text in texts:
            session.attach(name, text)
        if question is not None:
            code = _one_shot(session, question, json=json, has_schema=constraint is not None)
            session.close()
        else:
            from l4cli.chat.terminal.loop import chat_loop

            code = chat_loop(session, use_history=keep)
    if code:
        raise typer.Exit(code)


def _names_model(context: typer.Context, word: str) -> bool:
    """Whether the first word is a model. With -m it is not: that names the model already."""
    from l4cli.models.locate import names_a_model

    source = context.get_parameter_source("model")
    return (source is None or source.name != "COMMANDLINE") and names_a_model(word)


def _refuse_file(words: list[str]) -> None:
    """Raise UsageError if the prompt begins with the name of a file: it is meant to be read."""
    first, *more = words
    is_name = not more or "." in first  # a folder may have a file named as a word of a prompt
    if not is_name or not os.path.isfile(first):  # noqa: PTH113 - Path.is_file raises for some
        return
    question, file = shlex.join(more), shlex.quote(first)
    if _begins_as_gguf(first):
        raise UsageError(f"{first} is a model: l4 chat {shlex.join(['-m', first, *more])}")
    asking = f"l4 ask {file} {question}".rstrip()
    raise UsageError(f"{first} is a file: read it with -f {file}, or ask about it: {asking}")


def _begins_as_gguf(path: str) -> bool:
    try:
        with open(path, "rb") as content:  # noqa: PTH123
            return content.read(4) == b"GGUF"
    except OSError:  # whatever reads it next says so
        return False


def _one_shot(session: ChatSession, question: str, *, json: bool, has_schema: bool) -> int:
    """Write one answer to stdout; return the exit code."""
    try:
        answer = session.ask(question)
    except ContextOverflowError as error:  # its ways out are commands of a chat
        numbers = str(error).partition(":")[0]
        raise ContextOverflowError(f"{numbers}: shorten the prompt, or raise --ctx") from None
    if json:
        from l4cli.commands.one_answer import as_json

        console.data_json(as_json(answer, session.llm.name, has_schema=has_schema))
    if answer.finish_reason == "length":
        from l4cli.commands.one_answer import cut_off

        console.warn(cut_off(answer))
        return answer.exit_code or (EXIT_FAILED if has_schema else EXIT_OK)  # half a value is none
    return answer.exit_code


@contextmanager
def _rounds(
    file: Path | None, yes: bool, max_rounds: int, timeout: float, *, is_conversation: bool
) -> Iterator[ToolRounds | None]:
    """Yield the ToolRounds that run tool calls, in a process of their own; None without --tools."""
    if file is None:
        yield None
        return
    if not (yes or is_conversation or (sys.stdin.isatty() and sys.stderr.isatty())):
        raise UsageError(
            "without a terminal, --tools cannot ask before a call: --yes runs calls unasked"
        )
    from l4cli.chat.tools.rounds import ToolRounds
    from l4cli.chat.tools.toolbox import Toolbox

    with Toolbox(file, timeout) as toolbox:
        if toolbox.printed:
            console.note(toolbox.printed)
        yield ToolRounds(
            toolbox,
            None if yes else _ask(is_conversation),
            max_rounds=max_rounds,
            streams=sys.stdout.isatty(),
        )


def _ask(is_conversation: bool) -> Ask:
    from l4cli.chat.tools.permission import ask_in_chat, ask_on_stderr

    return ask_in_chat if is_conversation else ask_on_stderr


def _session_file(
    go_on: bool, name: str | None, keep: bool, *, is_conversation: bool
) -> SessionFile | None:
    """Open the session that the options name, or a new one for a conversation.

    Returns None if nothing is to be saved.
    """
    from l4cli.chat.history.session_file import (
        SessionFile,
        last_session,
        new_session_path,
        session_path,
    )

    if not keep:
        if go_on or name:
            raise UsageError(
                "--no-history saves no session: do not combine it with --continue or --session"
            )
        return None
    if go_on and name:
        raise UsageError("--continue and --session NAME cannot be combined: give one of them")
    if go_on or name:
        return SessionFile(session_path(name or last_session()), is_named=True)
    return SessionFile(new_session_path()) if is_conversation else None


def _question(prompt: str | None, filled: FilledTemplate) -> str | None:
    """The question from stdin, -p and the template, joined; None for a conversation."""
    from l4cli.chat import files

    is_asked = prompt is not None or filled.template.prompt is not None
    if sys.stdin is None or sys.stdin.isatty():
        piped = b""
        if not is_asked:
            return None
    else:
        piped = sys.stdin.buffer.read()
    if not piped.strip() and not is_asked:
        raise UsageError("nothing to answer: stdin is empty; give -p PROMPT or pipe in a text")
    if prompt is not None and not prompt.strip():
        raise UsageError("-p is empty: give it a question")
    text = files.decode(piped, "stdin") if piped.strip() else ""
    return filled.question(text, prompt or "")
