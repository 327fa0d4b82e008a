"""The positions from which a sequence can continue exactly, for each kind of attention."""

from __future__ import annotations

from l4cli.engine.rollback import RollbackRule


def advanced(rule: RollbackRule, num_computed: int) -> RollbackRule:
    for position in range(512, num_computed, 512):
        rule.advanced(0, position)
    rule.advanced(0, num_computed)
    return rule


def test_full_attention_rolls_back_anywhere() -> None:
    assert advanced(RollbackRule("full"), 9000).exact_prefix(0, 9000, 123) == 123


def test_chunked_rolls_back_within_its_chunk() -> None:
    rule = advanced(RollbackRule("chunked", 8192), 9000)
    assert rule.exact_prefix(0, 9000, 8500) == 8500
    assert rule.exact_prefix(0, 9000, 8192) == 8192


def test_chunked_falls_back_to_a_boundary_behind_its_chunk() -> None:
    rule = advanced(RollbackRule("chunked", 8192), 17000)
    assert rule.exact_prefix(0, 17000, 16000) == 8192
    assert rule.exact_prefix(0, 17000, 8000) == 0


def test_a_fork_at_a_boundary_does_not_vouch_for_what_lies_below() -> None:
    rule = advanced(RollbackRule("chunked", 8192), 9000)
    rule.forked(0, 1, 8192)
    assert rule.exact_prefix(1, 8192, 8192) == 8192
    assert rule.exact_prefix(1, 8192, 8000) == 0


def test_after_going_back_to_a_boundary_only_what_follows_is_kept() -> None:
    rule = advanced(RollbackRule("chunked", 8192), 17000)
    rule.truncated(0, 8192)
    rule.advanced(0, 8300)
    assert rule.exact_prefix(0, 8300, 8200) == 8200
    assert rule.exact_prefix(0, 8300, 8000) == 0


def test_a_forgotten_sequence_starts_afresh() -> None:
    rule = advanced(RollbackRule("chunked", 8192), 17000)
    rule.truncated(0, 0)
    rule.advanced(0, 100)
    assert rule.exact_prefix(0, 100, 50) == 50


def test_a_sliding_window_keeps_only_its_width() -> None:
    rule = advanced(RollbackRule("sliding", 1024), 5000)
    assert rule.exact_prefix(0, 5000, 5000) == 5000
    assert rule.exact_prefix(0, 5000, 4500) == 0


def test_a_recurrent_state_goes_on_only_from_where_it_stands() -> None:
    rule = advanced(RollbackRule("recurrent"), 100)
    assert rule.exact_prefix(0, 100, 100) == 100
    assert rule.exact_prefix(0, 100, 99) == 0
