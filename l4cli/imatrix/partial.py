"""The file of an unfinished run: an imatrix of what was read so far, from which a run goes on.

It lies beside the output as FILE.part, and holds in its metadata what the run is of, which chunks
are done, and which experts each text's chunks were sent to.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from convert.errors import ConvertError
from convert.gguf.fields import i32s, string
from convert.gguf.file import read_gguf
from l4cli.errors import UsageError
from l4cli.imatrix import files
from l4cli.imatrix.choosing import Routed
from l4cli.imatrix.files import Imatrix
from l4cli.imatrix.sums import Sums

_RUN, _DONE, _ROUTED = "l4.imatrix.run", "l4.imatrix.done", "l4.imatrix.routed."
_SECONDS = 10.0  # between two saves
_SHARE = 20  # saving takes at most one part in so many of the time


@dataclass(slots=True)
class State:
    """What a run has found so far.

    done: the chunks that were read, in their order.
    """

    sums: Sums = field(default_factory=Sums)
    done: list[int] = field(default_factory=list)
    routed: Routed = field(default_factory=Routed)


class PartialFile:
    """The file FILE.part of a run.

    out: the output. run: identifies the model, the texts and the settings.
    texts, n_ctx: what the imatrix tells about itself.
    clock: returns seconds.
    """

    def __init__(
        self,
        out: Path,
        run: str,
        texts: tuple[str, ...],
        n_ctx: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = part_of(out)
        self.out, self._run, self._texts, self.n_ctx = out, run, texts, n_ctx
        self._clock, self._saved, self._took = clock, clock(), 0.0

    def load(self) -> State | None:
        """Return what an earlier run found; None if it left nothing.

        Raises UsageError if that run was of something else, or the file is not l4's.
        """
        if not self.path.exists():
            return None
        fields = _fields(self.path)
        if fields[_RUN] != self._run:
            raise UsageError(
                f"{self.path}: an unfinished run with another model, text or setting: give those "
                "of that run, or leave out --resume to start over"
            )
        found = files.read(self.path)
        routed = {
            int(key.removeprefix(_ROUTED)): np.asarray(list(value), np.int64)
            for key, value in fields.items()
            if key.startswith(_ROUTED)
        }
        return State(found.sums, list(fields[_DONE]), Routed(routed))

    def save(self, state: State) -> None:
        """Write what was found so far. OutputError if it cannot be written."""
        started = self._clock()
        more = {
            _RUN: string(self._run),
            _DONE: i32s(state.done),
            **{f"{_ROUTED}{at}": i32s(found.tolist()) for at, found in state.routed.tokens.items()},
        }
        files.write(self.path, self._imatrix(state), more)
        self._saved = self._clock()
        self._took = self._saved - started

    def save_if_due(self, state: State) -> None:
        """Save if the last time is a while ago."""
        if self._clock() - self._saved >= max(_SECONDS, _SHARE * self._took):
            self.save(state)

    def finish(self, state: State) -> Imatrix:
        """Write the output itself, and remove the unfinished one."""
        imatrix = self._imatrix(state)
        files.write(self.out, imatrix)
        files.discard(self.path)
        return imatrix

    def _imatrix(self, state: State) -> Imatrix:
        return Imatrix(state.sums, self._texts, self.n_ctx)


def part_of(out: Path) -> Path:
    """Return the name of the unfinished file of an output."""
    return out.with_name(f"{out.name}.part")


def num_done(out: Path) -> int | None:
    """Return how many chunks an unfinished run has read; None if there is none.

    Raises UsageError if a file that is not l4's has its name.
    """
    path = part_of(out)
    return len(_fields(path)[_DONE]) if path.exists() else None


def _fields(path: Path) -> dict[str, Any]:
    try:
        fields = dict(read_gguf(path).fields)
    except ConvertError:
        fields = {}
    if not isinstance(fields.get(_RUN), str) or _DONE not in fields:
        raise UsageError(
            f"{path} exists and is not an unfinished imatrix of l4, so it stays as it is: move it "
            "away, or give another name"
        )
    return fields
