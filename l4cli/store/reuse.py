"""Restores computed prefixes from disk into the engine, and saves them.

No failure here fails a request. A prefix that cannot be restored is computed again; one that cannot
be saved is dropped. In both cases `note` is called with one line that says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from l4cli.engine.engine import Engine
from l4cli.engine.types import States
from l4cli.errors import EngineError
from l4cli.store import chain, state_file
from l4cli.store.chain import MIN_TAIL, Segment
from l4cli.store.directory import NoRoomError, StateDirectory
from l4cli.store.state_file import BadStateError

Note = Callable[[str], None]


def recall(
    engine: Engine,
    directory: StateDirectory,
    tokens: Sequence[int],
    *,
    exact: bool = False,
    note: Note = lambda text: None,
) -> int:
    """Restore the longest stored prefix of `tokens`; return its number of tokens.

    Returns 0 if the disk holds no longer prefix than the engine.

    exact: restore only the tokens that a fresh `prefill` of `tokens` would compute to identical
        bits: up to a cut between its pieces, or to the end of `tokens`.
    note: called with one line if a stored segment cannot be used.
    """
    states = engine.backend.states
    if states is None:
        return 0
    _, held = engine.prefixes.holder(tokens, exact=exact)
    piece = engine.prefixes.piece if exact else None
    found = directory.find(tokens, piece=piece, room=engine.backend.n_ctx_seq)
    if not found or found[-1][0].stop <= max(held, MIN_TAIL - 1):
        return 0  # the few tokens that all texts of a template share are not worth a file
    with engine.prefixes.restoring(tokens[: found[-1][0].stop]) as sequence:
        if sequence is None:
            return 0
        for segment, path in found:
            try:
                directory.check(path, segment.start)
                states.load(
                    sequence.seq_id, segment.start, tokens[segment.start : segment.stop], path
                )
            except FileNotFoundError:
                break  # another process has just pruned the file
            except (BadStateError, EngineError, OSError) as error:
                note(f"a stored prefix was not used: {_reason(error)}")
                break
            sequence.num_computed_tokens = segment.stop
            if segment.exact and sequence.num_prefilled_tokens == segment.start:
                sequence.num_prefilled_tokens = segment.stop
    for _, path in reversed(found):
        state_file.touch(path)
    return sequence.num_computed_tokens


def num_stored(engine: Engine, directory: StateDirectory, tokens: Sequence[int]) -> int:
    """How many of `tokens` an exact `recall` would find on disk; the files are not checked."""
    found = directory.find(tokens, piece=engine.prefixes.piece, room=engine.backend.n_ctx_seq)
    return found[-1][0].stop if found else 0


def remember(
    engine: Engine,
    directory: StateDirectory,
    tokens: Sequence[int],
    *,
    note: Note = lambda text: None,
) -> int:
    """Save the tokens that the engine holds and the disk does not; return the bytes written."""
    states = engine.backend.states
    if states is None:
        return 0
    holder, held = engine.prefixes.holder(tokens)
    if holder is None:
        return 0
    known = tokens[:held]
    written = 0
    try:
        for segment in chain.segments(known, exact=True):
            segment = replace(segment, exact=segment.stop <= holder.num_prefilled_tokens)
            if _is_worth_saving(engine, directory, holder.seq_id, segment):
                written += _save(states, directory, holder.seq_id, segment, known)
                directory.drop_shorter(segment, known)
    except (NoRoomError, EngineError, OSError) as error:
        note(f"the prefix was not stored: {_reason(error)}")
    return written


def _is_worth_saving(
    engine: Engine, directory: StateDirectory, seq_id: int, segment: Segment
) -> bool:
    """Whether a segment is not stored yet (exact serves all), is long enough, and has its keys."""
    if directory.has(segment) or directory.has(replace(segment, exact=True)):
        return False
    if segment.is_whole:
        return True
    is_long = segment.stop - segment.start >= MIN_TAIL
    return is_long and engine.backend.exact_prefix(seq_id, segment.stop) == segment.stop


def _save(
    states: States, directory: StateDirectory, seq_id: int, segment: Segment, tokens: Sequence[int]
) -> int:
    """Save a segment, a whole one with the token after it: its chunk's keys are then left out."""
    stop = segment.stop + 1 if segment.is_whole else segment.stop
    n_bytes = states.size(seq_id, segment.start, stop)
    own = tokens[segment.start : stop]
    return directory.write(
        segment, n_bytes, lambda path: states.save(seq_id, segment.start, own, path)
    )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)
