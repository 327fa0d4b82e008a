"""`l4 models`: lists the models known by name and those on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any

import typer

from l4cli import console
from l4cli.amounts import human_size

if TYPE_CHECKING:
    from l4cli.models.installed import CachedModel
    from l4cli.models.registry import ModelSpec


def models(
    json: Annotated[bool, typer.Option("--json", help="Write JSON instead of tables.")] = False,
) -> None:
    """List the models that l4 knows by name, and those on this machine.

    Models in the Hub's cache are listed even if another program put them
    there. Last used is when a file was last read or written, as far as the file
    system records it.
    """
    from l4cli.models.installed import cached_models
    from l4cli.models.registry import load_registry

    registry = load_registry()
    cached = cached_models(registry)
    if json:
        known = [_describe(spec, registry.default, cached) for spec in registry.models.values()]
        others = {model.name for model in cached} - registry.models.keys()
        console.data_json(known + [_describe_other(name, cached) for name in sorted(others)])
        return
    console.table(
        ["NAME", "ON DISK", "CONTEXT", "DESCRIPTION"],
        [
            [
                f"{spec.name}{' *' if spec.name == registry.default else ''}",
                _here(spec, cached),
                f"{spec.n_ctx_train:,}" if spec.n_ctx_train else "–",
                spec.description,
            ]
            for spec in registry.models.values()
        ],
    )
    if cached:
        console.data("")
        console.table(
            ["ON DISK", "SIZE", "LAST USED", ""],
            [
                [
                    model.full_name,
                    human_size(model.n_bytes),
                    _day(model.last_used),
                    "" if model.is_whole else "incomplete",
                ]
                for model in cached
            ],
        )
    console.note("* is the default, used without --model")


def _describe(spec: ModelSpec, default: str, cached: Sequence[CachedModel]) -> dict[str, Any]:
    return {
        "name": spec.name,
        "default": spec.name == default,
        "description": spec.description,
        "licence": spec.licence,
        "released": spec.released,
        "n_ctx_train": spec.n_ctx_train,
        "source": spec.gguf.repo if spec.gguf else spec.checkpoint,
        "present": _present(spec.name, cached),
    }


def _describe_other(name: str, cached: Sequence[CachedModel]) -> dict[str, Any]:
    """A model that models.toml does not name, with the same JSON keys as `_describe`."""
    return {
        "name": name,
        "default": False,
        "description": "",
        "licence": "",
        "released": True,
        "n_ctx_train": None,
        "source": name.removeprefix("hf.co/"),
        "present": _present(name, cached),
    }


def _present(name: str, cached: Sequence[CachedModel]) -> list[dict[str, Any]]:
    """The quantizations of a model on this machine."""
    return [
        {
            "quant": model.quant,
            "is_whole": model.is_whole,
            "n_bytes": model.n_bytes,
            "last_used": datetime.fromtimestamp(model.last_used, timezone.utc).isoformat(
                timespec="seconds"
            ),
            "files": [str(file) for file in model.files],
        }
        for model in cached
        if model.name == name
    ]


def _here(spec: ModelSpec, cached: Sequence[CachedModel]) -> str:
    if not spec.released:
        return "never released"
    if spec.checkpoint == "demo":
        return "bundled"
    quants = (model.quant for model in cached if model.name == spec.name and model.is_whole)
    return ", ".join(quants) or "no"


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d")
