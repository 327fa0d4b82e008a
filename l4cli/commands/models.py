"""`l4 models`: the models known by name, and which of them are here."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from l4cli import console


def models(
    json: Annotated[bool, typer.Option("--json", help="Write JSON instead of a table.")] = False,
) -> None:
    """List the models l4 knows by name, and what of them is on this machine."""
    from l4cli.registry import load_registry

    registry = load_registry()
    found = [_describe(spec, registry.default) for spec in registry.models.values()]
    if json:
        console.data_json(found)
        return
    console.table(
        ["NAME", "HERE", "CONTEXT", "LICENCE", "DESCRIPTION"],
        [
            [
                f"{model['name']}{' *' if model['default'] else ''}",
                _here(model),
                f"{model['n_ctx_train']:,}" if model["n_ctx_train"] else "–",
                model["licence"],
                model["description"],
            ]
            for model in found
        ],
    )
    console.note("* is used where no --model is given")


def _describe(spec: Any, default: str) -> dict[str, Any]:
    return {
        "name": spec.name,
        "default": spec.name == default,
        "description": spec.description,
        "licence": spec.licence,
        "released": spec.released,
        "n_ctx_train": spec.n_ctx_train,
        "source": spec.gguf.repo if spec.gguf else spec.checkpoint,
        "present": _present(spec),
    }


def _present(spec: Any) -> list[dict[str, Any]]:
    """Quantizations on this machine with their sizes in bytes."""
    from l4cli.locate import cached_quants

    return [
        {"quant": quant, "n_bytes": sum(file.stat().st_size for file in files)}
        for quant, files in cached_quants(spec).items()
    ]


def _here(model: dict[str, Any]) -> str:
    if not model["released"]:
        return "never released"
    if model["source"] == "demo":
        return "bundled"
    parts = [f"{p['quant']} {console.human_size(p['n_bytes'])}" for p in model["present"]]
    return ", ".join(parts) or "no"
