"""The ledger of KV cells: a shared prefix is counted once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4cli.engine.cells import CellLedger


def test_a_fork_shares_its_prefix() -> None:
    ledger = CellLedger(100)
    ledger.extend(0, 60)
    ledger.fork(0, 1, 50)
    ledger.extend(1, 20)
    assert ledger.used == 80
    ledger.truncate(0, 0)
    assert ledger.used == 70
    ledger.truncate(1, 0)
    assert ledger.used == 0


def test_more_than_is_free_cannot_be_set_aside() -> None:
    ledger = CellLedger(10)
    with pytest.raises(ValueError, match="11 cells asked for, 10 free"):
        ledger.extend(0, 11)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 40)), max_size=60))
def test_used_is_the_number_of_distinct_cells(
    operations: list[tuple[int, int, int]],
) -> None:
    """The ledger agrees with a model in which every cell is a separate object."""
    ledger = CellLedger(10_000)
    cells: dict[int, list[object]] = {}
    for src, dst, count in operations:
        mine = cells.setdefault(src, [])
        if src != dst and not cells.get(dst) and mine:
            length = count % len(mine) + 1
            ledger.fork(src, dst, length)
            cells[dst] = mine[:length]
        elif count % 3:
            ledger.extend(src, count)
            mine += [object() for _ in range(count)]
        else:
            length = min(count, len(mine))
            ledger.truncate(src, length)
            del mine[length:]
        assert ledger.used == len({id(cell) for held in cells.values() for cell in held})
        assert ledger.length(src) == len(cells[src])
