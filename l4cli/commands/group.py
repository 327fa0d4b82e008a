"""How commands show their help and take their words.

What users of other tools type first works or is explained: `l4 ls` is `l4 models`, and words and
options that l4 does not have are answered by a line that names what to type instead.
"""

from __future__ import annotations

import difflib
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from l4cli import console
from l4cli.commands import words
from l4cli.commands.examples import examples
from l4cli.errors import EXIT_USAGE, ModelNotFoundError, UsageError
from l4cli.near import nearest
from l4cli.paths import expanded

_NARROW = 70  # columns
_OPTIONS = {
    "-v": "`l4 --version` shows the version, `l4 --verbose COMMAND` llama.cpp's log",
    "--verbose": "it stands before the command: l4 --verbose COMMAND",
    "--debug": "it stands before the command: l4 --debug COMMAND",
    "--version": "it stands alone: l4 --version",
}


class _Help:
    """What the help of commands and of groups has in common."""

    epilog: Any
    rich_markup_mode: Any

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters; the help shows a type only of options that take a value."""
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for each in parameters:
            if isinstance(each, TyperArgument) or getattr(each, "is_flag", False):
                each.display_type_rich = lambda ctx: None  # not <str> and <bool>
        return parameters

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words of the usage line."""
        return list(map(_usage, super().collect_usage_pieces(ctx)))  # type: ignore[misc]

    def get_short_help_str(self, limit: int = 0) -> str:
        """The first sentence of the help, whole."""
        return str(super().get_short_help_str(limit=1000))  # type: ignore[misc]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, and examples at its end; without boxes where they would cut words."""
        columns = shutil.get_terminal_size().columns
        is_narrow = columns < _NARROW
        if is_narrow:
            self.rich_markup_mode = None
            formatter.width = columns
        if lines := examples(ctx.command_path):
            keep_lines = ["\b"] if is_narrow else []  # a mark of click's
            self.epilog = "\n".join([*keep_lines, "Examples:", *(f"  {line}" for line in lines)])
        with _brackets_kept(*([] if is_narrow else _described(self))):
            super().format_help(ctx, formatter)  # type: ignore[misc]


def _usage(piece: str) -> str:
    """A word of the usage line without what typer puts around it twice.

    >>> [_usage(piece) for piece in ("{SRC}", "[[NAME]]", "[DOC...]...", "[FILE]...")]
    ['SRC', '[NAME]', '[DOC...]', '[FILE]...']
    """
    dots = "..." if piece.endswith("...") else ""
    inner = piece.removesuffix("...")
    if inner.startswith(("{", "[[")):
        inner = inner[1:-1]
    has_dots = inner.endswith(("...", "...]")) or "] [" in inner
    return inner if has_dots else inner + dots


def _described(command: Any) -> list[Any]:
    """The command and its options: what has a help text."""
    return [each for each in (command, *command.params) if hasattr(each, "help")]


@contextmanager
def _brackets_kept(*described: Any) -> Iterator[None]:
    """Let `[str]` in help texts stand as it is: typer would take it for a style of rich."""
    before = [each.help for each in described]
    for each in described:
        each.help = each.help and re.sub(r"\[(?=[a-z#/@])", r"\\[", each.help)
    try:
        yield
    finally:
        for each, text in zip(described, before, strict=True):
            each.help = text


# Options whose value may be left out, and the value that they then have.
_OPTIONAL = {"--eval": "60"}


class Command(_Help, TyperCommand):
    """A command of l4."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the arguments, with a value for each option whose value may be left out."""
        has = {name for each in self.params for name in each.opts}
        given = list(_with_values(args, {name: _OPTIONAL[name] for name in has & {*_OPTIONAL}}))
        return list(super().parse_args(ctx, given))

    def invoke(self, ctx: Any) -> Any:
        """Run the command. If there is no such model, say which default named it."""
        try:
            return super().invoke(ctx)
        except ModelNotFoundError as error:
            if origin := _origin_of_model(ctx, str(error)):
                error.args = (f"{error} ({origin})", *error.args[1:])
            raise


def _with_values(args: list[str], optional: Mapping[str, str]) -> Iterator[str]:
    """Yield the arguments; behind an option without a number comes the number that it means."""
    for at, word in enumerate(args):
        yield word
        following = "".join(args[at + 1 : at + 2])
        if word in optional and not re.fullmatch(r"-?\d+", following):
            yield optional[word]


class Group(_Help, TyperGroup):
    """`l4`, or a command that has commands of its own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the arguments; without any, `l4` shows its help, but not while Tab completes."""
        if not args and self.no_args_is_help and not ctx.resilient_parsing:
            console.data(ctx.get_help())
            raise typer.Exit(EXIT_USAGE)
        return list(super().parse_args(ctx, args))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command for the first word of `args`; UsageError if there is none."""
        name, *rest = args
        if name in self.commands:
            return super().resolve_command(ctx, args)
        if name == "help":
            if rest:
                return self.resolve_command(ctx, [*rest, "--help"])
            console.data(ctx.get_help())
            raise typer.Exit
        for meant in words.meant(ctx.command.name, name):
            if meant in self.commands:
                return super().resolve_command(ctx, [meant, *rest])
        advice = (
            words.advice(ctx.command.name, name, rest)
            or self.about_word(ctx, name, rest)
            or _asked(name, rest)
            or _did_you_mean(difflib.get_close_matches(name, self.commands))
            or f"`{ctx.command_path} --help` lists the commands"
        )
        raise UsageError(f"no such command: {name}; {advice}")

    def about_word(self, _ctx: Any, _word: str, _rest: list[str]) -> str:
        """What to type instead of a word that only this group can explain; "" if nothing."""
        return ""


def _asked(word: str, rest: list[str]) -> str:
    """What to type if the first word is a question; "" if it is none."""
    if " " not in word.strip() and not word.endswith("?"):
        return ""
    return f"for one answer: l4 chat {shlex.join([word, *rest])}"


class ListingGroup(Group):
    """A group that lists what it has if no command is given; options alone are the list's."""

    if_none = "list"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        is_help = args[:1] in (["--help"], ["-h"])
        if not args or (args[0].startswith("-") and not is_help):
            args = [self.if_none, *args]
        return super().parse_args(ctx, args)


class ShowingGroup(ListingGroup):
    """A group that shows what it has if no command is given."""

    if_none = "show"


def about_option(name: str, command: Any) -> str:
    """Return what to type instead of the option `name`, which a command does not have, or ""."""
    if name in _OPTIONS:
        return _OPTIONS[name]
    if name in ("-m", "--model") and command.name in (
        "bench",
        "eval",
        "experts",
        "imatrix",
        "info",
        "plan",
        "pull",
        "rm",
    ):
        return f"the model stands alone: l4 {command.name} MODEL"
    if (others := getattr(command, "commands", {})) and "chat" in others:
        behind = _behind_the_command(name, others)
        return behind or _did_you_mean(nearest(name, ["--version", *_options_of(command)]))
    return _did_you_mean(nearest(name, _options_of(command), n=2))


def _options_of(command: Any) -> list[str]:
    return ["--help", *(option for each in command.params for option in each.opts)]


def _behind_the_command(name: str, commands: Mapping[str, Any]) -> str:
    """What to type instead of an option in front of the command; "" if no command has it."""
    if not any(name in _options_of(command) for command in commands.values()):
        return ""
    given = sys.argv[1:]
    command = next((word for word in given if word in commands), "chat")
    if command in given:
        given.remove(command)
    return f"it stands behind the command: {shlex.join(['l4', command, *given])}"


def _origin_of_model(ctx: Any, complaint: str) -> str:
    """The default that names the model which `complaint` is about; "" if none does."""
    from l4cli.models.registry import load_registry

    if "model" not in ctx.params:
        return ""
    registry, source = load_registry(), ctx.get_parameter_source("model")
    given = ctx.params["model"] or registry.default
    places = {
        "ENVIRONMENT": "L4_MODEL",
        "DEFAULT_MAP": "config.toml",
        "DEFAULT": "models.toml",
    }
    place = places.get(source.name if source else "DEFAULT")
    for model in [given] if isinstance(given, str) else given:  # `l4 serve` takes several
        name = model.partition(":")[0]
        begins = (name, registry.meant(name).partition(":")[0], str(expanded(model)))
        is_it = complaint.startswith(begins) or f"named {name!r}" in complaint
        if place and is_it:
            return f"the default model is {model}, from {place}"
    return ""


def _did_you_mean(names: list[str]) -> str:
    return f"did you mean {' or '.join(names)}?" if names else ""
