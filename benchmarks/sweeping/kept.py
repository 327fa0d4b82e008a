"""Files that l4 keeps, damaged: journals of `l4 run` and `l4 convert`, notes, sessions of chats.

Whatever they hold: the work goes on and ends right, or it is refused and the file stays as it is.
"""

from __future__ import annotations

import json
from pathlib import Path

from chat_support import Chat, fake_llm
from checkpoints import write_checkpoint
from damage import damaged

import convert
from benchmarks.sweeping.trial import FINE, REFUSED, Ended, Trial
from convert.writing.journal import journal_path
from convert.writing.writer import part_path
from l4cli.ask.split_journal import Noted, SplitJournal
from l4cli.batch.retry import open_journaled
from l4cli.batch.rows import read_rows
from l4cli.chat.history.session_file import SessionFile
from l4cli.errors import L4Error

_ROWS = [json.dumps({"prompt": f"row {n}"}).encode() for n in range(8)]


def journals(scratch: Path) -> Trial:
    """A journal by turns: of rows, of notes on parts, of a conversion."""
    (scratch / "convert").mkdir()
    trials = (_rows_journal(scratch), _notes(scratch), _conversion(scratch / "convert"))
    return lambda seed: trials[seed % 3](seed // 3)


def sessions(scratch: Path) -> Trial:
    """The session file of a chat, which is opened and goes on."""
    path = scratch / "talk.jsonl"
    chat = Chat(fake_llm(), file=SessionFile(path))
    for question in ("one", "two", "three"):
        chat.session.ask(question)
    chat.session.edit(3, "two again")
    chat.session.set("temperature", "0.5")
    chat.session.close()
    whole = path.read_bytes()

    def trial(seed: int) -> Ended:
        data = damaged(whole, seed)
        path.write_bytes(data)
        file = SessionFile(path)
        try:
            chat = Chat(file=file)
        except L4Error as error:
            return _refused(str(error), path.read_bytes() == data)
        chat.session.ask("and?")
        chat.session.close()
        after, kept = path.read_bytes(), data[: data.rfind(b"\n") + 1]
        if not after.startswith(kept) or b'"and?"' not in after[len(kept) :]:
            return Ended(finding="a line that was right is lost")
        return FINE

    return trial


def _rows_journal(scratch: Path) -> Trial:
    path, journal = scratch / "out", scratch / "out.journal"
    whole = scratch / "whole"
    _write_rows(whole, 99)
    _write_rows(path, 5)
    with journal.open("a") as file:
        file.write('{"crash": "SIGSEGV", "rows": ["0011223344556677"]}\n')
    rows, entries = path.read_bytes(), journal.read_bytes()

    def trial(seed: int) -> Ended:
        path.write_bytes(rows)
        changed = damaged(entries, seed)
        journal.write_bytes(changed)
        try:
            _write_rows(path, 99)
        except L4Error as error:
            is_same = path.read_bytes() == rows and journal.read_bytes() == changed
            return _refused(str(error), is_same)
        is_right = path.read_bytes() == whole.read_bytes()
        return FINE if is_right else Ended(finding="the output is not that of an undisturbed run")

    return trial


def _write_rows(path: Path, count: int) -> None:
    with open_journaled(path, {"model": "m"}, resume=path.exists()) as out:
        for row in list(out.skip_done(read_rows(_ROWS)))[:count]:
            out.write(f"{row.line}: an answer", row.digest, failed=row.line == 2)
        out.finish()


def _notes(scratch: Path) -> Trial:
    path = scratch / "notes.jsonl"
    notes = {f"{n:032x}": Noted(f"note {n} 你", "stop") for n in range(6)}
    with SplitJournal(path) as journal:
        for key, noted in notes.items():
            journal.add(key, noted)
    whole = path.read_bytes()

    def trial(seed: int) -> Ended:
        data = damaged(whole, seed)
        path.write_bytes(data)
        try:
            journal = SplitJournal(path)
        except L4Error as error:
            return _refused(str(error), path.read_bytes() == data)
        with journal:
            journal.add("f" * 32, Noted("more", "stop"))
        if not path.read_bytes().startswith(data[: data.rfind(b"\n") + 1]):
            return Ended(finding="a line is lost")
        with SplitJournal(path) as again:
            is_there = again.noted["f" * 32].text == "more"
        return FINE if is_there else Ended(finding="the new note is not there")

    return trial


def _conversion(scratch: Path) -> Trial:
    """The journal of a conversion that was ended in its middle."""
    checkpoint = write_checkpoint(scratch / "model", num_local_experts=2, num_hidden_layers=1)
    whole = convert.convert(convert.plan(checkpoint, "F32"), scratch / "whole.gguf").path
    right = whole.read_bytes()
    out = scratch / "out.gguf"
    _interrupt(checkpoint, out)
    journal, part = journal_path(out), part_path(out)
    entries, written = journal.read_bytes(), part.read_bytes()

    def trial(seed: int) -> Ended:
        out.unlink(missing_ok=True)
        part.write_bytes(written)
        changed = damaged(entries, seed)
        journal.write_bytes(changed)
        try:
            convert.convert(convert.plan(checkpoint, "F32"), out, resume=True)
        except convert.ConvertError as error:
            is_same = part.read_bytes() == written and journal.read_bytes() == changed
            return _refused(str(error), is_same and not out.exists())
        return FINE if out.read_bytes() == right else Ended(finding="the output has other bytes")

    return trial


def _interrupt(checkpoint: Path, out: Path) -> None:
    num_seen = 0

    def stop(_progress: convert.Progress) -> None:
        nonlocal num_seen
        num_seen += 1
        if num_seen == 3:
            raise _StopError

    try:
        convert.convert(convert.plan(checkpoint, "F32"), out, progress=stop, threads=2, ram=1)
    except _StopError:
        return
    raise AssertionError("the conversion ended before it was stopped")


class _StopError(Exception):
    """Ends a conversion, in place of a kill."""


def _refused(message: str, is_as_before: bool) -> Ended:
    if not is_as_before:
        return Ended(finding=f"refused, but the files are changed: {message}")
    if "\n" in message:
        return Ended(finding=f"not one line: {message}")
    return REFUSED
