"""The reading cache: prefixes are found again, and nothing bad is ever restored."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import TESTS
from store_support import TEXT, Cells, Session

from l4cli.engine.engine import Engine
from l4cli.engine.pieces import last_cut, pieces
from l4cli.engine.types import Request, SamplingParams
from l4cli.errors import ContextOverflowError
from l4cli.store import directory as store
from l4cli.store import state_file


def stored(root: Path, tokens: list[int], **options: int) -> Session:
    session = Session(root, **options)
    session.read(tokens)
    session.remember(tokens)
    return session


@pytest.mark.parametrize("length", [100, 8191, 8192, 8193, 8300, 16384, 16385, 20_000])
def test_a_prefix_is_found_again_whole(tmp_path: Path, length: int) -> None:
    first = stored(tmp_path, TEXT[:length])
    assert first.notes == []
    assert first.remember(TEXT[:length]) == 0
    second = Session(tmp_path)
    expected = length if (length - 1) % 8192 >= 63 else length - 1
    assert second.recall(TEXT[:length], exact=True) == expected
    assert second.recall(TEXT[:length], exact=True) == 0  # the engine holds it already
    assert second.read(TEXT[:length]) == length - expected
    assert second.notes == []


def test_an_edited_text_is_restored_up_to_the_edit(tmp_path: Path) -> None:
    stored(tmp_path, TEXT)
    for position, expected in ((300, 1), (600, 513), (9000, 8705), (16500, 16385), (19999, 19969)):
        edited = [*TEXT[:position], 250, *TEXT[position + 1 :]]
        session = Session(tmp_path)
        whole_blocks = position // 8192 * 8192
        restored = session.recall(edited, exact=True)
        # Whole segments can only be used whole; only the tail can be used in part.
        assert restored == (expected if position > 16384 else whole_blocks)
        assert session.read(edited) == len(TEXT) - restored


def test_texts_with_the_same_beginning_share_its_blocks(tmp_path: Path) -> None:
    stored(tmp_path, TEXT)
    other = Session(tmp_path)
    longer = TEXT[:16400] + [9] * 3000
    assert other.recall(longer) == 16400
    other.read(longer)
    other.remember(longer)
    assert len(other.files()) == 4  # two whole segments, and a tail of each text


def test_of_many_texts_only_those_that_begin_alike_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for start in range(0, 4000, 500):
        stored(tmp_path, [7, *TEXT[start : start + 300]])
    read: list[int] = []
    tokens_of = state_file.tokens_of

    def counting(path: Path, *most: int) -> tuple[list[int], int]:
        found = tokens_of(path, *most)
        read.append(len(found[0]))
        return found

    monkeypatch.setattr(state_file, "tokens_of", counting)
    assert Session(tmp_path).recall([7, *TEXT[1000:1300]]) == 301
    assert read == []  # the file's name alone tells that it matches
    assert Session(tmp_path).recall([7, *TEXT[1000:1250], 9]) == 251
    assert sorted(read) == [64] * 8 + [301]


def test_a_file_larger_than_the_context_is_left_where_it_is(tmp_path: Path) -> None:
    stored(tmp_path, TEXT[:5000])
    small = Session(tmp_path)
    small.engine.backend.n_ctx_seq = 4096
    assert small.recall(TEXT[:100]) == 0
    assert small.notes == []
    assert Session(tmp_path).recall(TEXT[:100]) == 100


def test_a_conversation_keeps_its_last_tail_and_comes_back(tmp_path: Path) -> None:
    session = Session(tmp_path)
    tokens = (256, *(65,) * 500, 0)
    for turn in range(3):
        request = Request(f"turn {turn}", tokens, SamplingParams(max_tokens=30))
        outputs = list(session.engine.stream(request))
        tokens += (*(token for output in outputs for token in output.token_ids), 66, 67, 0)
        assert session.remember(list(tokens)) > 0
    assert len(session.files()) == 1
    again = Session(tmp_path)
    assert again.recall([*tokens], exact=True) == 0  # a conversation is not computed in such pieces
    assert again.recall([*tokens]) == len(tokens) - 4  # the last token was drawn, not computed
    request = Request("next", tokens, SamplingParams(max_tokens=5))
    outputs = list(again.engine.stream(request))
    assert outputs[-1].num_cached_tokens == len(tokens) - 4


@pytest.mark.parametrize("at", [0, 8, 12, 40_000, -1, -20, -40, -60])
def test_a_damaged_file_is_ignored_with_a_word(tmp_path: Path, at: int) -> None:
    session = stored(tmp_path, TEXT[:9000])
    block = next(file for file in session.files() if "block" in file.name)
    data = bytearray(block.read_bytes())
    data[at] ^= 4
    block.write_bytes(data)
    again = Session(tmp_path)
    assert again.recall(TEXT[:9000]) == 0
    assert again.engine.backend.cells.get(0, []) == []
    assert len(again.notes) == 1
    assert "was not used" in again.notes[0]
    assert again.read(TEXT[:9000]) == 9000
    assert again.remember(TEXT[:9000]) > 0  # the damaged segment is written again
    assert Session(tmp_path).recall(TEXT[:9000]) == 9000


@pytest.mark.parametrize("keep", [0, 5, 30, 4000, 60_000])
def test_a_file_cut_short_is_ignored_with_a_word(tmp_path: Path, keep: int) -> None:
    session = stored(tmp_path, TEXT[:9000])
    tail = next(file for file in session.files() if "tail" in file.name)
    tail.write_bytes(tail.read_bytes()[: min(keep, tail.stat().st_size - 1)])
    again = Session(tmp_path)
    assert again.recall(TEXT[:9000]) == 8192  # the segment before it is intact
    assert again.notes or keep < 16  # a file this short does not even tell its tokens


def test_a_file_of_another_model_is_ignored(tmp_path: Path) -> None:
    theirs = stored(tmp_path, TEXT[:9000], about="theirs")
    ours = Session(tmp_path)
    assert ours.recall(TEXT[:9000]) == 0
    assert ours.notes == []
    ours.directory.path.mkdir()
    for file in theirs.files():
        file.rename(ours.directory.path / file.name)
    (ours.directory.path / "notes.txt").write_text("not ours")
    assert ours.recall(TEXT[:9000]) == 0
    assert "another model" in ours.notes[0]


def test_the_least_recently_used_goes_first_and_successors_before_what_they_follow(
    tmp_path: Path,
) -> None:
    first = stored(tmp_path, TEXT[:9000])
    size = sum(file.stat().st_size for file in first.files())
    other = [*reversed(TEXT[:9000])]
    stored(tmp_path, other)
    for file in first.files():
        os.utime(file, (1, 1))
    assert Session(tmp_path).recall(TEXT[:9000]) == 9000  # marks the first text as used last
    assert store.prune(tmp_path, size + 100) > 0
    assert Session(tmp_path).recall(TEXT[:9000]) == 9000
    assert Session(tmp_path).recall(other) == 0
    store.prune(tmp_path, size - 1)
    assert Session(tmp_path).recall(TEXT[:9000]) == 8192


def test_what_exceeds_the_limit_is_not_stored(tmp_path: Path) -> None:
    session = stored(tmp_path, TEXT[:9000], limit=20_000)
    assert len(session.files()) == 0
    assert "the reading cache may hold" in session.notes[0]
    assert stored(tmp_path, TEXT[:9000], limit=70_000).recall(TEXT[:9000]) == 0


def test_a_disk_with_little_left_is_not_filled(mounted: Path) -> None:
    session = stored(mounted, TEXT[:9000], limit=1_000_000)
    assert session.files() == []
    assert "to spare" in session.notes[0]


def test_a_disk_that_fills_up_meanwhile_leaves_nothing_behind(
    mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_SPARE", -(1 << 30))
    session = stored(mounted, [*TEXT, *TEXT], limit=1_000_000)
    assert "No space left on device" in session.notes[0]
    assert not list(mounted.rglob("*.part"))
    again = Session(mounted)
    assert again.recall(TEXT) in (8192, 16384)
    assert again.notes == []


def test_a_file_size_limit_is_a_full_disk(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        session = stored(tmp_path, TEXT[:9000])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "File too large" in session.notes[0]
    assert not list(tmp_path.rglob("*.part"))


def test_files_are_the_users_alone(tmp_path: Path) -> None:
    session = stored(tmp_path, TEXT[:100])
    assert [file.stat().st_mode & 0o777 for file in session.files()] == [0o600]
    assert session.directory.path.stat().st_mode & 0o777 == 0o700


WRITER = """
import sys
from pathlib import Path
from store_support import TEXT, Session
rng = __import__("random").Random(int(sys.argv[2]))
while True:
    start = rng.randrange(8)
    tokens = TEXT[start : start + 9000]
    session = Session(Path(sys.argv[1]), limit=400_000)
    restored = session.recall(tokens)
    session.read(tokens)
    session.remember(tokens)
    assert not session.notes, session.notes
    print(restored, flush=True)
"""


def test_processes_share_a_store_and_are_killed(tmp_path: Path) -> None:
    """The limit makes them prune each other's files; the files that are left can be loaded."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    for killed in range(2):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        writers = [
            subprocess.Popen([*command, str(n)], env=environment, stdout=subprocess.PIPE, text=True)
            for n in range(2)
        ]
        lines = [writer.stdout.readline() for writer in writers for _ in range(2)]
        time.sleep(0.01 * killed)
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
            writer.stdout.close()
        assert all(lines), "a writer has failed"
    for start in range(8):
        session = Session(tmp_path)
        session.recall(TEXT[start : start + 9000])
        assert session.notes == []
    files = list(tmp_path.glob("*/*.state"))
    assert sum(file.stat().st_size for file in files) <= 500_000
    for part in tmp_path.rglob("*.part"):
        os.utime(part, (1, 1))
    store.prune(tmp_path, 0)
    assert [file.name for file in tmp_path.glob("*/*")] == ["key.json"]


def test_reading_is_cut_in_the_same_places_wherever_it_begins() -> None:
    whole = list(pieces(0, 20_000, 512))
    assert [stop for _, stop in whole if stop % 8192 < 2] == [1, 8192, 8193, 16384, 16385]
    for position in (1, 513, 8192, 8193, 8705, 16384):
        assert last_cut(position, 512) == position
        assert list(pieces(position, 20_000, 512)) == [p for p in whole if p[0] >= position]
    assert [last_cut(n, 512) for n in (0, 512, 8191, 8200, 9000)] == [0, 1, 7681, 8193, 8705]


def test_an_interrupted_reading_keeps_its_whole_pieces(tmp_path: Path) -> None:
    session = Session(tmp_path)
    for done in session.engine.prefixes.prefill(TEXT):
        if done > 9000:
            session.engine.interrupt()
    assert session.engine.prefixes.holder(TEXT, exact=True)[1] == 9217
    assert session.remember(TEXT) > 0
    again = Session(tmp_path)
    assert again.recall(TEXT, exact=True) == 9217
    assert again.read(TEXT) == len(TEXT) - 9217


def test_a_reading_left_early_is_kept(tmp_path: Path) -> None:
    session = Session(tmp_path)
    for done in session.engine.prefixes.prefill(TEXT):
        if done > 1000:
            break
    assert session.engine.prefixes.holder(TEXT)[1] == done


def test_a_pinned_prefix_outlives_its_questions_until_nothing_else_fits() -> None:
    engine = Engine(Cells(n_ctx=1000, n_seq_max=4))
    document = [256, *(65,) * 400]
    list(engine.prefixes.prefill(document, pin=True))
    for n in range(9):
        prompt = (*document, 10, *f"question {n}".encode(), 0)
        outputs = list(engine.stream(Request(str(n), prompt, SamplingParams(max_tokens=20))))
        assert outputs[-1].num_cached_tokens >= len(document)
    stranger = Request("stranger", (256, *(70,) * 900, 0), SamplingParams(max_tokens=20))
    assert list(engine.stream(stranger))[-1].finish_reason == "length"
    assert engine.prefixes.holder(document)[1] == 1
    engine.scheduler.forget()
    assert engine.scheduler.ledger.used == 0


def test_a_text_longer_than_the_context_is_refused_with_its_length() -> None:
    engine = Engine(Cells(n_ctx=1000))
    with pytest.raises(ContextOverflowError, match="1,200 tokens, the context holds 1,000"):
        list(engine.prefixes.prefill(TEXT[:1200]))


def test_a_checked_file_names_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "x.state"
    state_file.write(path, "key", 0, lambda part: part.write_bytes(b"state of sixteen"))
    state_file.check(path, "key", 0)
    with pytest.raises(state_file.BadStateError, match="another model or position"):
        state_file.check(path, "key", 8192)
    path.write_bytes(b"something else altogether, but long enough")
    with pytest.raises(state_file.BadStateError, match="not written by l4"):
        state_file.check(path, "key", 0)
