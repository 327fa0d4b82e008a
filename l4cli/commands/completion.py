"""`l4 completion`: Tab completion for bash, zsh and fish; and what completes the values of options.

The functions for values print nothing and never fail: an error while the user presses Tab would
tear up their command line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer

from l4cli import console
from l4cli.errors import OutputError, UsageError

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_L4_COMPLETE"  # set by the scripts when they ask for completions

# typer's script, but for names with a colon (scout:Q4_K_M): bash takes them for several words, and
# replaces only what stands behind the last colon.
_BASH = """\
_l4_completion() {
    local words=() word last=-1
    for word in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
        if [[ $last -ge 0 && ($word == :* || ${words[last]} == *:) ]]; then
            words[last]+=$word
        else
            words+=("$word")
            last=$((last + 1))
        fi
    done
    local IFS=$' ' typed="${words[*]}" word="${words[last]}"
    IFS=$'\\n'
    COMPREPLY=( $( env COMP_WORDS="$typed" COMP_CWORD=$last _L4_COMPLETE=complete_bash "$1" ) )
    if [[ $word == *:* && $COMP_WORDBREAKS == *:* ]]; then
        COMPREPLY=( "${COMPREPLY[@]#"${word%"${word##*:}"}"}" )
    fi
}

complete -o default -F _l4_completion l4
"""

Completer = Callable[[str], list[str]]


def completion(
    shell: Annotated[
        str | None,
        typer.Argument(metavar="[SHELL]", help="bash, zsh or fish (default: your login shell)."),
    ] = None,
    install: Annotated[
        bool, typer.Option("--install", help="Add it to the shell's start-up files.")
    ] = False,
) -> None:
    """Print the script for Tab completion, or install it.

    It completes commands, options, and names of models, sessions, templates,
    documents and quantization types.

        l4 completion --install
    """
    from typer.completion import install as write  # type: ignore[attr-defined]

    shell = shell or Path(os.environ.get("SHELL", "")).name
    if shell not in SHELLS:
        raise UsageError(f"no completion for {shell or 'an unknown shell'}: give bash, zsh or fish")
    if not install:
        console.data(_script(shell))
        return
    try:
        _, path = write(shell, prog_name="l4", complete_var=VARIABLE)
        if shell == "bash":
            path.write_text(_script(shell), "utf-8")
    except OSError as error:
        raise OutputError(f"{error.filename}: {error.strerror}") from error
    console.note(f"{path}: written; new {shell} windows complete l4's commands")


def _script(shell: str) -> str:
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    if shell == "bash":
        return _BASH
    return str(get_completion_script(prog_name="l4", complete_var=VARIABLE, shell=shell))


def prepare() -> None:
    """Let this process answer a shell that asks for completions."""
    from typer.completion import completion_init  # type: ignore[attr-defined]

    completion_init()


def _completer(values: Callable[[], Iterable[str]]) -> Completer:
    """A completer that offers those of `values` that begin as typed."""

    def complete(incomplete: str) -> list[str]:
        try:
            return [value for value in values() if value.startswith(incomplete)]
        except Exception:
            return []

    return complete


@_completer
def models() -> Iterable[str]:
    """Names from models.toml, and those of models on this machine with their quantization."""
    from l4cli.models.installed import cached_models
    from l4cli.models.registry import load_registry

    registry = load_registry()
    yield from registry.models
    yield from registry.aliases
    yield from (model.full_name for model in cached_models(registry))


@_completer
def installed() -> Iterable[str]:
    """Names of the models in the caches, which `l4 rm` can delete."""
    from l4cli.models.installed import cached_models
    from l4cli.models.registry import load_registry

    return [model.full_name for model in cached_models(load_registry())]


@_completer
def sessions() -> Iterable[str]:
    """Names of the stored sessions, the last used first."""
    from l4cli.chat.history.session_file import session_names

    return session_names()


@_completer
def templates() -> Iterable[str]:
    """Names of the templates."""
    from l4cli.templates.files import template_names

    return template_names()


@_completer
def documents() -> Iterable[str]:
    """Names of the stored documents."""
    from l4cli.store import catalogue
    from l4cli.store.directory import store_root

    return [name for entry in catalogue.entries(store_root()) for name in entry.names]


@_completer
def types() -> Iterable[str]:
    """Quantization types that `l4 convert` and `l4 quantize` write."""
    from convert.gguf.ftypes import FTYPES

    return FTYPES
