"""Reads long documents in parts: takes notes on each part, and merges them until they fit.

    run = SplitRun(llm, documents)
    with SplitJournal(run.journal_path(questions)) as journal:
        for findings in run.read(questions, journal):
            request = run.answer_request(findings)  # answers the question from the notes
        journal.discard()

Each note is saved in the journal as soon as it is made, so a killed run continues where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, starmap
from pathlib import Path
from typing import Any, TypeVar

from l4cli.ask.completions import complete
from l4cli.ask.parts import Coverage, Part, PartFailure, parts_of
from l4cli.ask.split_journal import Noted, SplitJournal, journal_path, key_of
from l4cli.ask.split_preflight import SplitDemand
from l4cli.ask.split_prompts import Note, answer_prompt, merge_prompt, note_prompt, says_nothing
from l4cli.documents.document import Document
from l4cli.engine.sequence import common_prefix
from l4cli.engine.sizing import demand_of
from l4cli.engine.types import Request
from l4cli.errors import ContextOverflowError
from l4cli.loading.llm import LLM

MAX_PART_TOKENS = 16384  # even if more would fit: models overlook more in longer texts
MAX_NOTE_TOKENS = 512
_SLACK = 16  # a prompt tokenized as a whole may have so many tokens more than its pieces together
_NOTE_SHARE = 8  # the notes on one part may take at most 1/8 of the context

_Key = TypeVar("_Key")
_NoteRequests = dict[tuple[int, int], Request]  # by the indices of the question and the part


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    num_done: finished notes, of `num_all` (one for each pair of part and question).
    num_tokens: tokens of the parts for notes made in this run, not taken from the journal.
    in_work: how far the notes in work are, as a number of notes.
    """

    num_done: int
    num_all: int
    num_tokens: int
    in_work: float = 0.0


@dataclass(frozen=True, slots=True)
class Findings:
    """The notes on a question, merged until they fit, and how much of the documents they cover."""

    question: str
    notes: tuple[Note, ...]
    coverage: Coverage


@dataclass(frozen=True, slots=True)
class _Found:
    """A note and the parts it is based on."""

    note: Note
    parts: tuple[Part, ...]


@dataclass(slots=True)
class _Tally:
    """Counts for the coverage of one question's answer, with the parts that failed."""

    failures: list[PartFailure]
    num_notes: int = 0
    num_cut: int = 0
    num_rounds: int = 0


class SplitRun:
    """Reads documents in parts with one model.

    llm: the model.
    documents: the documents.
    max_answer: tokens kept free for the answer; at most half the context.
    max_part: the most tokens of a part.
    system: the system message of every prompt; None for none.
    """

    def __init__(
        self,
        llm: LLM,
        documents: Sequence[Document],
        *,
        max_answer: int = 1024,
        max_part: int = MAX_PART_TOKENS,
        system: str | None = None,
    ) -> None:
        self.llm = llm
        self.documents = tuple(documents)
        self._system = system
        self._max_note = min(MAX_NOTE_TOKENS, llm.n_ctx // _NOTE_SHARE)
        self._max_answer = min(max_answer, llm.n_ctx // 2)
        self._max_part = max_part
        self._made: dict[tuple[str, ...], tuple[tuple[Part, ...], _NoteRequests]] = {}

    def parts(self, questions: Sequence[str]) -> tuple[Part, ...]:
        """Return the parts, made small enough for the longest of the questions.

        Raises ContextOverflowError if the context is too small for any part.
        """
        overhead = max(self._size(note_prompt("", question)) for question in questions)
        room = self.llm.n_ctx - overhead - self._max_note - _SLACK
        try:
            return parts_of(self.documents, min(room, self._max_part), self._count)
        except ValueError:
            raise ContextOverflowError(
                f"a context of {self.llm.n_ctx:,} tokens is too small to read these documents in "
                f"parts: the question and its notes take {overhead + self._max_note:,} of them; "
                "give a larger --ctx"
            ) from None

    def demand(self, questions: Sequence[str]) -> SplitDemand:
        """Return what `read` for these questions will take.

        Raises ContextOverflowError as `parts` does.
        """
        parts, by_number = self._parts_and_requests(questions)
        requests = list(by_number.values())
        prompts = [list(request.prompt) for request in requests]
        return SplitDemand(
            num_parts=len(parts),
            num_questions=len(questions),
            num_document_tokens=sum(part.num_tokens for part in parts),
            num_prompt_tokens=sum(map(len, prompts)),
            num_shared_tokens=sum(starmap(common_prefix, pairwise(prompts))),
            max_note=self._max_note,
            max_answer=self._max_answer,
            room_for_notes=self.llm.n_ctx - self._max_answer,
            context=demand_of(requests, more=False),
        )

    def journal_path(self, questions: Sequence[str]) -> Path:
        """Return the path of the journal with the notes on these questions."""
        weights = " ".join([self.llm.fingerprint, *self.llm.file_times])
        model = f"{weights}:{self.llm.encoder.template_digest}"
        return journal_path(model, (one.digest for one in self.documents), questions)

    def read(
        self,
        questions: Sequence[str],
        journal: SplitJournal,
        *,
        stopping: Callable[[], object] = lambda: False,
        on_progress: Callable[[Progress], None] = lambda _progress: None,
    ) -> list[Findings]:
        """Read every part for every question. Return the findings of each question, in order.

        questions: the questions.
        journal: has the notes of an interrupted run, and receives the new ones.
        stopping: stops the run once it is true.
        on_progress: called after each note.

        A part that fails is named in the coverage; the other parts are still read. Raises
        StoppedEarly soon after `stopping` has become true, and ContextOverflowError as `parts`
        does.
        """
        parts, requests = self._parts_and_requests(questions)
        num_tokens = 0

        def on_note(key: tuple[int, int], is_new: bool, num_done: int) -> None:
            nonlocal num_tokens
            num_tokens += parts[key[1]].num_tokens if is_new else 0
            on_progress(Progress(num_done, len(requests), num_tokens))

        noted = self._ask(requests, journal, stopping, on_note)
        all_findings = []
        for at, question in enumerate(questions):
            tally = _Tally([])
            found = self._found(parts, [noted[at, n] for n in range(len(parts))], tally)
            notes = self._merged(found, question, tally, journal, stopping)
            all_findings.append(Findings(question, notes, self._coverage(parts, tally)))
        return all_findings

    def answer_request(self, findings: Findings, **sampling: Any) -> Request:
        """Return the request for the answer, with at most `max_answer` tokens.

        An automatic context is resized for it if necessary.
        """
        prompt = answer_prompt(findings.notes, findings.question)
        request = self._request(prompt, **{**sampling, "max_tokens": self._max_answer})
        if not self.llm.is_sized or not self.llm.has_space_for(request):
            self.llm.fit([request])
        return request

    def _found(
        self, parts: Sequence[Part], noted: Sequence[Noted | str], tally: _Tally
    ) -> list[_Found]:
        """Return the notes with a finding. Counts notes and failures in `tally`.

        `noted` has a note for each part, or the error message of a part that failed.
        """
        found = []
        for part, one in zip(parts, noted, strict=True):
            if isinstance(one, str):
                tally.failures.append(PartFailure(part, one))
                continue
            tally.num_cut += one.finish_reason == "length"
            if not says_nothing(one.text):
                found.append(_Found(Note(str(part), one.text.strip()), (part,)))
        tally.num_notes = len(found)
        return found

    def _merged(
        self,
        found: list[_Found],
        question: str,
        tally: _Tally,
        journal: SplitJournal,
        stopping: Callable[[], object],
    ) -> tuple[Note, ...]:
        """Merge notes until they fit into the context together with the answer.

        Each round replaces groups of at least two notes by one note.
        """
        while len(found) > 1:
            answer = answer_prompt([one.note for one in found], question)
            if self._size(answer) + self._max_answer <= self.llm.n_ctx:
                break
            tally.num_rounds += 1
            groups = self._groups(found, question)
            requests = {
                number: self._note_request(merge_prompt([one.note for one in group], question))
                for number, group in enumerate(groups)
                if len(group) > 1
            }
            noted = self._ask(requests, journal, stopping)
            found = []
            for number, group in enumerate(groups):
                found += _merge(group, noted[number], tally) if number in noted else group
        return tuple(one.note for one in found)

    def _groups(self, found: Sequence[_Found], question: str) -> list[list[_Found]]:
        """Group neighbouring notes, as many as fit a prompt; at least two, except in the last."""
        groups: list[list[_Found]] = []
        for one in found:
            joined = [*groups[-1], one] if groups else [one]
            prompt = merge_prompt([member.note for member in joined], question)
            fits = self._size(prompt) + self._max_note <= self.llm.n_ctx
            if groups and (fits or len(joined) == 2):
                groups[-1].append(one)
            else:
                groups.append([one])
        return groups

    def _coverage(self, parts: Sequence[Part], tally: _Tally) -> Coverage:
        failed = {id(failure.part) for failure in tally.failures}
        lost = frozenset[tuple[str, int]]().union(*(one.part.pages for one in tally.failures))
        pages = frozenset[tuple[str, int]]().union(*(part.pages for part in parts))
        return Coverage(
            num_parts=len(parts),
            num_tokens=sum(part.num_tokens for part in parts if id(part) not in failed),
            num_pages=len(pages),
            num_pages_read=len(pages - lost),
            num_notes=tally.num_notes,
            num_cut=tally.num_cut,
            num_rounds=tally.num_rounds,
            failures=tuple(tally.failures),
        )

    def _ask(
        self,
        requests: Mapping[_Key, Request],
        journal: SplitJournal,
        stopping: Callable[[], object],
        on_note: Callable[[_Key, bool, int], None] = lambda _key, _is_new, _num_done: None,
    ) -> dict[_Key, Noted | str]:
        """Return the note for each request, from the journal if it has it, or an error message.

        `on_note` is called with the request's key, whether the note is new, and the number of
        notes so far.
        """
        noted: dict[_Key, Noted | str] = {}
        asked: dict[str, tuple[_Key, str]] = {}
        for key, request in requests.items():
            digest = key_of(request)
            if known := journal.noted.get(digest):
                noted[key] = known
                on_note(key, False, len(noted))
            else:
                asked[request.id] = key, digest
        left = [request for request in requests.values() if request.id in asked]
        for completion in complete(self.llm, left, stopping):
            key, digest = asked[completion.request_id]
            if completion.finish_reason == "error":
                noted[key] = completion.error or "unknown error"
            else:
                noted[key] = Noted(completion.text, completion.finish_reason)
                journal.add(digest, Noted(completion.text, completion.finish_reason))
            on_note(key, True, len(noted))
        return noted

    def _parts_and_requests(
        self, questions: Sequence[str]
    ) -> tuple[tuple[Part, ...], _NoteRequests]:
        """Return the parts, and the requests for notes on them.

        The result is cached for each list of questions, because tokenizing the documents is slow.
        """
        key = tuple(questions)
        if key not in self._made:
            parts = self.parts(questions)
            self._made[key] = (
                parts,
                {
                    (at, number): self._note_request(note_prompt(part.text, question))
                    for number, part in enumerate(parts)
                    for at, question in enumerate(questions)
                },
            )
        return self._made[key]

    def _note_request(self, prompt: str) -> Request:
        return self._request(prompt, max_tokens=self._max_note, temperature=0.0)

    def _request(self, prompt: str, **sampling: Any) -> Request:
        messages = [{"role": "system", "content": self._system}] if self._system else []
        messages.append({"role": "user", "content": prompt})
        return self.llm.request(messages, **sampling)

    def _size(self, prompt: str) -> int:
        return len(self._request(prompt).prompt)

    def _count(self, text: str) -> int:
        return len(self.llm.vocabulary.tokenize(text))


def _merge(group: Sequence[_Found], noted: Noted | str, tally: _Tally) -> list[_Found]:
    """Return the note that a group was merged into, in a list; [] if it says nothing or failed.

    If merging failed, all parts that the group is based on count as failures in `tally`.
    """
    parts = tuple(part for one in group for part in one.parts)
    if isinstance(noted, str):
        tally.failures += [PartFailure(part, noted) for part in parts]
        return []
    tally.num_cut += noted.finish_reason == "length"
    if says_nothing(noted.text):
        return []
    where = f"{parts[0]} … {parts[-1]}"
    return [_Found(Note(where, noted.text.strip()), parts)]
