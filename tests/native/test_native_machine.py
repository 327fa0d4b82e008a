"""The number of cores and the memory that this process may use within the container's limits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from l4cli.native import cpu, memory


@pytest.mark.parametrize(
    ("files", "most"),
    [
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, 1 << 20),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1 << 20),
        ({}, 1 << 20),
    ],
)
def test_never_more_threads_than_the_containers_share_keeps_busy(
    files: dict[str, str], most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, files)
    monkeypatch.setattr(cpu, "_CGROUP", tmp_path)
    assert 1 <= cpu.num_physical_cores() <= min(most, os.cpu_count() or 1)
    assert cpu.num_physical_cores() <= -(-cpu.usable_cores() // 1)


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"memory.max": "268435456\n"}, 1 << 28),
        ({"memory/memory.limit_in_bytes": "268435456\n"}, 1 << 28),
        ({"memory.max": "max\n"}, None),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ({"memory.max": "rubbish\n"}, None),
        ({}, None),
    ],
)
def test_a_containers_memory_is_what_it_may_use(
    files: dict[str, str], limit: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, files)
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory.container_limit() == limit
    assert memory.memory_bytes() == (limit or memory.machine_bytes())
    assert 0 < memory.free_memory_bytes() <= memory.memory_bytes()


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
