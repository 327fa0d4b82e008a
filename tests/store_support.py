"""A fake process, with its own engine, that shares a reading cache with others."""

from __future__ import annotations

from pathlib import Path
from random import Random

from fakes import FakeBackend

from l4cli.engine.engine import Engine
from l4cli.store import reuse
from l4cli.store.directory import StateDirectory

TEXT = Random(7).choices(range(1, 200), k=20_000)


class Cells(FakeBackend):
    """A backend large enough for segments. It does not count used cells, which would take long."""

    def __init__(self, n_ctx: int = 40_000, n_seq_max: int = 3) -> None:
        super().__init__(n_ctx, n_batch=512, n_seq_max=n_seq_max, with_states=True)

    def num_used_cells(self) -> int:
        return 0


class Session:
    """The engine of one process, and the store that it shares with others."""

    def __init__(self, root: Path, about: str = "model", limit: int | None = None) -> None:
        self.engine = Engine(Cells())
        self.directory = StateDirectory({"weights": about}, root=root, limit=limit)
        self.notes: list[str] = []

    def read(self, tokens: list[int]) -> int:
        steps = list(self.engine.prefixes.prefill(tokens))
        return steps[-1] - steps[0]

    def remember(self, tokens: list[int]) -> int:
        return reuse.remember(self.engine, self.directory, tokens, note=self.notes.append)

    def recall(self, tokens: list[int], *, exact: bool = False) -> int:
        return reuse.recall(
            self.engine, self.directory, tokens, exact=exact, note=self.notes.append
        )

    def files(self) -> list[Path]:
        return sorted(self.directory.path.glob("*.state"))
