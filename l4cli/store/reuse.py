"""Between the engine's prefixes and those on disk.

Nothing here fails a request: what cannot be restored is computed, what cannot be saved is left,
and `note` is told in a line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from l4cli.engine.engine import Engine
from l4cli.engine.types import States
from l4cli.errors import EngineError
from l4cli.store import chain, state_file
from l4cli.store.chain import MIN_TAIL, Part
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
    """Restore the longest stored prefix of `tokens`; how many tokens, 0 if none beyond those held.

    With `exact` only as far as a fresh `prefill` of the same tokens would have come to the same
    bits: to a cut between its pieces, or to the end of `tokens`.
    """
    states = engine.backend.states
    if states is None:
        return 0
    _, held = engine.prefixes.holder(tokens, exact=exact)
    piece = engine.prefixes.piece if exact else None
    found = directory.find(tokens, piece=piece, room=engine.backend.n_ctx_seq)
    if not found or found[-1][0].stop <= max(held, MIN_TAIL - 1):
        return 0  # the few that all texts of a template have in common are not worth a file
    with engine.prefixes.restoring(tokens[: found[-1][0].stop]) as sequence:
        if sequence is None:
            return 0
        for part, path in found:
            try:
                directory.check(path, part.start)
                states.load(sequence.seq_id, part.start, tokens[part.start : part.stop], path)
            except FileNotFoundError:
                break  # another process has just pruned it
            except (BadStateError, EngineError, OSError) as error:
                note(f"a stored prefix was not used: {_reason(error)}")
                break
            sequence.num_computed_tokens = part.stop
            if part.exact and sequence.num_prefilled_tokens == part.start:
                sequence.num_prefilled_tokens = part.stop
    for _, path in reversed(found):
        state_file.touch(path)
    return sequence.num_computed_tokens


def num_stored(engine: Engine, directory: StateDirectory, tokens: Sequence[int]) -> int:
    """How many of `tokens` an exact `recall` would find on disk, be the files good or not."""
    found = directory.find(tokens, piece=engine.prefixes.piece, room=engine.backend.n_ctx_seq)
    return found[-1][0].stop if found else 0


def remember(
    engine: Engine,
    directory: StateDirectory,
    tokens: Sequence[int],
    *,
    note: Note = lambda text: None,
) -> int:
    """Save what the engine holds of `tokens` and the disk does not; bytes written."""
    states = engine.backend.states
    if states is None:
        return 0
    holder, held = engine.prefixes.holder(tokens)
    if holder is None:
        return 0
    known = tokens[:held]
    written = 0
    try:
        for part in chain.parts(known, exact=True):
            part = replace(part, exact=part.stop <= holder.num_prefilled_tokens)
            if _is_worth_saving(engine, directory, holder.seq_id, part):
                written += _save(states, directory, holder.seq_id, part, known)
                directory.drop_shorter(part, known)
    except (NoRoomError, EngineError, OSError) as error:
        note(f"the prefix was not stored: {_reason(error)}")
    return written


def _is_worth_saving(engine: Engine, directory: StateDirectory, seq_id: int, part: Part) -> bool:
    """Not what is there (exact parts serve all), is short, or has lost keys that it would need."""
    if directory.has(part) or directory.has(replace(part, exact=True)):
        return False
    if part.is_block:
        return True
    is_long = part.stop - part.start >= MIN_TAIL
    return is_long and engine.backend.exact_prefix(seq_id, part.stop) == part.stop


def _save(
    states: States, directory: StateDirectory, seq_id: int, part: Part, tokens: Sequence[int]
) -> int:
    """A block is saved with the token that follows it: the keys of its chunk are then left out."""
    stop = part.stop + 1 if part.is_block else part.stop
    n_bytes = states.size(seq_id, part.start, stop)
    own = tokens[part.start : stop]
    return directory.write(part, n_bytes, lambda path: states.save(seq_id, part.start, own, path))


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)
