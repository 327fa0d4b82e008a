"""Offers to fetch a model that a command needs and that is not on this machine."""

from __future__ import annotations

import sys

import typer

from l4cli import console
from l4cli.commands.pull import fetch, plan_of, sizes
from l4cli.errors import NotFetchedError


def fetch_missing(missing: NotFetchedError, *, yes: bool) -> None:
    """Fetch the model if the user says yes; raise `missing`, which names the way out, if not.

    Size, licence and free disk are shown before the question. Without a terminal nobody is asked.

    yes: the user has said so already, by --yes.
    """
    from l4cli.models.hub.pull import refuse_unless_it_fits

    if not yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise missing
    plan = plan_of(missing.name)
    console.note(f"{missing.name} is not on this machine.")
    console.note(f"  from     https://huggingface.co/{plan.repo}")
    console.note(f"  size     {sizes(plan)}")
    console.note(f"  licence  {_licence(plan.repo)}")
    refuse_unless_it_fits(plan)
    if not yes and not typer.confirm("Fetch it now?", err=True):
        raise missing
    fetch(plan)


def _licence(repo: str) -> str:
    """The licence that models.toml states for a repository, or where to look."""
    from l4cli.models.registry import load_registry

    specs = load_registry().models.values()
    stated = next((s.licence for s in specs if s.gguf and s.gguf.repo == repo), "")
    return stated or "see that page"
