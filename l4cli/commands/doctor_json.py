"""The JSON that `l4 doctor --json` writes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from l4cli import console
from l4cli.errors import EXIT_FAILED, EXIT_OK

if TYPE_CHECKING:
    from l4cli.doctor.facts import Facts
    from l4cli.doctor.mending import Problem


def write(facts: Facts, found: Sequence[Problem]) -> None:
    """Write all facts and problems to stdout as JSON. Secrets are not among them."""
    software = facts.software
    needs_mending = any(not each.is_hint for each in found)
    console.data_json(
        {
            "exit_code": EXIT_FAILED if needs_mending else EXIT_OK,
            "problems": [
                {
                    "level": "hint" if each.is_hint else "problem",
                    "text": each.text,
                    "remedies": each.remedies,
                }
                for each in found
            ],
            "system": _plain(facts.system),
            "llama_cpp": _plain(software.build)
            and {
                **_plain(software.build),
                "system_info": software.system_info,
                "features": sorted(software.features),
                "gpu_support": software.gpu_support,
                "gpus": _plain(software.outcome.library.get("gpus", [])),
            },
            "self_test": {
                "seconds": round(software.trial.seconds, 2),
                "complaint": software.trial.complaint,
                "outcome": software.trial.outcome
                and {
                    name: value
                    for name, value in _plain(software.trial.outcome).items()
                    if name != "library"
                },
            },
            "compiler": _plain(software.toolchain)
            and {
                **_plain(software.toolchain),
                "can_build": software.toolchain is not None and software.toolchain.can_build,
                "other": software.other_toolchain and software.other_toolchain.compiler,
            },
            "numba": software.has_numba,
            "cpu": _plain(facts.cpu),
            "memory": _plain(facts.memory),
            "graphics": _plain(facts.graphics),
            "folders": [
                {**_plain(folder), "is_writable": folder.is_writable} for folder in facts.folders
            ],
            "hub": _plain(facts.hub),
            "terminal": _plain(facts.terminal),
            "settings": _plain(facts.settings),
        }
    )


def _plain(value: Any) -> Any:
    """A value converted to types that JSON has."""
    if isinstance(value, Enum):
        return value.name.lower()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value
