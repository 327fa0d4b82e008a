"""Memory sizes, times and token counts, formatted for people."""

from __future__ import annotations

from l4cli.amounts import GIB, counted, duration, gib, human_size, roughly, rounded_tokens, tokens


def test_memory_has_the_digits_that_tell() -> None:
    sizes = (0.26, 0.999, 1, 60.94, 481.2, 1129.4, -3.91)
    assert [gib(n * GIB) for n in sizes] == [
        "0.26 GiB", "1.00 GiB", "1.0 GiB", "60.9 GiB", "481.2 GiB", "1129 GiB", "-3.9 GiB",
    ]  # fmt: skip


def test_a_size_has_the_unit_that_suits_it() -> None:
    sizes = (512, 600_000, (1 << 20) - 1, 1_200_000, 65_350_000_000, 1 << 60)
    assert [human_size(n) for n in sizes] == [
        "512 B", "585.9 KiB", "1.0 MiB", "1.1 MiB", "60.9 GiB", "1048576.0 TiB",
    ]  # fmt: skip


def test_times_that_were_measured_and_estimated() -> None:
    assert [duration(n) for n in (4.23, 187, 3753)] == ["4.2 s", "3:07 min", "1:02:33"]
    assert [roughly(n) for n in (12.3, 89, 1500, 5400)] == [
        "about 12 s", "about 89 s", "about 25 min", "about 1.5 h",
    ]  # fmt: skip


def test_contexts_in_full_and_rounded_down() -> None:
    assert [tokens(n) for n in (4096, 131_072, 10 << 20, 5000)] == ["4k", "128k", "10M", "5,000"]
    sizes = (900, 359_800, 6_600_000, 11 << 20)
    assert [rounded_tokens(n) for n in sizes] == ["900", "351k", "6.2M", "11M"]


def test_one_thing_is_not_many() -> None:
    assert counted(1, "question") == "1 question"
    assert [counted(n, "row") for n in (0, 2, 2000)] == ["0 rows", "2 rows", "2,000 rows"]
