"""`l4 pull`: fetches a model from the Hub into the Hub's local cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from l4cli import console
from l4cli.amounts import human_size
from l4cli.commands import completion
from l4cli.errors import ModelNotFoundError

if TYPE_CHECKING:
    from l4cli.models.hub.pull import Pull


def pull(
    model: Annotated[
        str,
        typer.Argument(
            autocompletion=completion.models,
            metavar="MODEL[:QUANT]",
            help="A name from `l4 models`, or a repository on the Hub that has GGUF files: "
            "hf.co/ORG/NAME.",
        ),
    ],
    revision: Annotated[
        str | None,
        typer.Option(
            "--revision", metavar="REV", help="Commit, tag or branch to fetch (default: main)."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show files, sizes and free disk; fetch nothing.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Write JSON instead of a table.")] = False,
) -> None:
    """Fetch a model from the Hub, and check every byte.

    An unfinished download continues where it stopped. Files that are already
    here are only checked. HF_TOKEN, HF_ENDPOINT and HF_HOME are honoured.
    """
    from l4cli.models.hub.pull import refuse_unless_it_fits

    plan = plan_of(model, revision)
    if dry_run:
        _show(plan, json)
        return
    refuse_unless_it_fits(plan)
    console.note(f"{plan.repo}: {plan.quant}, {sizes(plan)}")
    path = fetch(plan)
    if json:
        console.data_json(_facts(plan) | {"path": str(path)})
    console.note(f"{plan.repo}: {plan.quant} is complete and its checksums are right: {path}")


def fetch(plan: Pull) -> Path:
    """Carry out a pull with a progress line, and return the path of the (first) file."""
    from l4cli.models.hub.pull import carry_out

    with (
        _kept(plan),
        console.byte_progress("fetching", plan.n_bytes, done=plan.n_here) as update,
    ):
        done = plan.n_here

        def on_bytes(name: str, n: int) -> None:
            nonlocal done
            done += n
            update(done, Path(name).name)

        return carry_out(plan, on_bytes)


def plan_of(model: str, revision: str | None = None) -> Pull:
    """What `l4 pull MODEL` would fetch. Raises ModelError."""
    from l4cli.models.addresses import read_address
    from l4cli.models.hub.pull import plan_pull
    from l4cli.models.installed import HUB_PREFIX, repo_dir
    from l4cli.models.locate import hub_model, is_hub_id
    from l4cli.models.registry import load_registry

    registry = load_registry()
    model = registry.meant(model)
    found, pattern = hub_model(model), None
    if found is not None:
        repo, quant = found
    else:
        if (address := read_address(model)) is not None:
            raise ModelNotFoundError(f"{model}: {address.for_model()}")
        name, _, quant = model.partition(":")
        if is_hub_id(name):
            raise ModelNotFoundError(
                f"no model named {name!r}; for a repository on the Hub say {HUB_PREFIX}{model}"
            )
        spec = registry.find(name)
        if spec.checkpoint == "demo":
            raise ModelNotFoundError(f"{name} comes with l4; there is nothing to fetch")
        if spec.path is not None:
            raise ModelNotFoundError(f"{name} is a file on this machine, {spec.path}")
        if not spec.released:
            raise ModelNotFoundError(f"{name} was never released: it is known for planning only")
        if spec.gguf is None:
            raise ModelNotFoundError(f"models.toml names no GGUF files for {name}")
        repo, pattern, quant = spec.gguf.repo, spec.gguf.files, quant or spec.quant
    with console.status(f"looking at {repo} on the Hub"):
        return plan_pull(
            repo, repo_dir(repo), pattern=pattern, quant=quant or None, revision=revision
        )


@contextmanager
def _kept(plan: Pull) -> Iterator[None]:
    """If the download fails or is stopped, write how much of it is kept."""
    from l4cli.models.hub.pull import GO_ON, n_bytes_here

    try:
        yield
    except BaseException:
        n_here = n_bytes_here(plan)
        if n_here:
            console.note(
                f"{plan.repo}: {human_size(n_here)} of {human_size(plan.n_bytes)} are kept: {GO_ON}"
            )
        raise


def _show(plan: Pull, json: bool) -> None:
    if json:
        console.data_json(_facts(plan))
        return
    console.table(
        ["FILE", "SIZE", "FETCHED"],
        [[file.name, human_size(file.n_bytes), human_size(file.n_here)] for file in plan.files],
    )
    console.note(f"{plan.repo}: {plan.quant}, {sizes(plan)}")
    if plan.n_bytes - plan.n_here > plan.disk_free:
        console.note(
            "warning: the disk is too small; free some space, or set HF_HOME to another disk"
        )


def sizes(plan: Pull) -> str:
    """The size of a download and the free disk, in words."""
    here = f", {human_size(plan.n_here)} already fetched" if plan.n_here else ""
    files = f" in {len(plan.files)} files" if len(plan.files) > 1 else ""
    return f"{human_size(plan.n_bytes)}{files}{here}; {human_size(plan.disk_free)} of disk free"


def _facts(plan: Pull) -> dict[str, Any]:
    return {
        "repo": plan.repo,
        "quant": plan.quant,
        "commit": plan.commit,
        "n_bytes": plan.n_bytes,
        "n_here": plan.n_here,
        "disk_free": plan.disk_free,
        "files": [
            {
                "name": file.name,
                "n_bytes": file.n_bytes,
                "n_here": file.n_here,
                "sha256": file.sha256,
            }
            for file in plan.files
        ],
    }
