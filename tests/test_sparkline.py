"""The rate of the last minute as a line of bars."""

from __future__ import annotations

from l4cli.sparkline import Rates, sparkline


def test_bars_are_as_high_as_their_share_of_the_largest() -> None:
    assert sparkline([0, 1, 4, 8]) == "▁▂▅█"
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([]) == ""


def test_each_second_has_a_bar_and_a_pause_has_low_ones() -> None:
    rates = Rates()
    for seconds, count in ((0.5, 50), (1.0, 100), (2.0, 200), (4.0, 200), (5.0, 250)):
        rates.add(seconds, count)
    assert rates.line == "██▁▁▅"
    for seconds in range(6, 200):
        rates.add(seconds, seconds)
    assert len(rates.line) == 60
