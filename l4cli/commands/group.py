"""How commands show their help and take their words.

What users of other tools type first works or is explained: `l4 ls` is `l4 models`, and words and
options that l4 does not have are answered by a line that names what to type instead.
"""

from __future__ import annotations

import difflib
import shutil
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from l4cli import console
from l4cli.commands.examples import examples
from l4cli.errors import EXIT_USAGE, UsageError

_MEANT = {  # the commands that a word may mean, in any group
    "ls": ("models", "list"),
    "list": ("models",),
    "show": ("info", "text"),
    "download": ("pull",),
    "remove": ("rm",),
    "delete": ("rm",),
}
_NARROW = 70  # columns
_ONE_ANSWER = "for one answer, use `l4 chat -p PROMPT`; for a file of prompts, `l4 run FILE`"
_EXPLAINED = {
    "create": "`l4 convert` makes a GGUF file from a checkpoint",
    "generate": _ONE_ANSWER,
    "login": "l4 takes the token that `hf auth login` stores, or $HF_TOKEN",
    "prompt": _ONE_ANSWER,
    "ps": "no model stays loaded after a command; `l4 models` lists those on disk",
    "stop": "no model stays loaded after a command",
    "version": "`l4 --version` shows the version",
}
_OPTIONS = {
    "--ctx-size": "did you mean --ctx?",
    "--temp": "did you mean --temperature?",  # not --template
    "--n-predict": "did you mean --max-tokens?",
    "--num-predict": "did you mean --max-tokens?",
    "--ngl": "did you mean --gpu-layers?",
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
        super().format_help(ctx, formatter)  # type: ignore[misc]


class Command(_Help, TyperCommand):
    """A command of l4."""


class Group(_Help, TyperGroup):
    """`l4`, or a command that has commands of its own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the arguments; without any, `l4` shows its help."""
        if not args and self.no_args_is_help:
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
        for meant in _MEANT.get(name, ()):
            if meant in self.commands:
                return super().resolve_command(ctx, [meant, *rest])
        advice = (
            _EXPLAINED.get(name)
            or _did_you_mean(difflib.get_close_matches(name, self.commands))
            or f"`{ctx.command_path} --help` lists the commands"
        )
        raise UsageError(f"no such command: {name}; {advice}")


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
    if name in ("-m", "--model") and command.name in ("bench", "info", "plan", "pull", "rm"):
        return f"the model stands alone: l4 {command.name} MODEL"
    options = ["--help", *(option for each in command.params for option in each.opts)]
    longer = [option for option in options if option.startswith(name)]
    return _did_you_mean(longer or difflib.get_close_matches(name, options, n=2))


def _did_you_mean(names: list[str]) -> str:
    return f"did you mean {' or '.join(names)}?" if names else ""
