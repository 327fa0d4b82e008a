"""Turns input records into rows. A row has one of these forms:

    {"prompt": "…"}                              one user message
    {"messages": [{"role", "content"}, …]}       a conversation
    {"document": "path", "questions": ["…", …]}  several questions about one document
    {"custom_id", "method", "url", "body"}       a request in OpenAI's Batch format: openai.py

The first three forms also accept id, tools, tool_choice, n and the sampling fields of fields.py.
An invalid record becomes a BadRow at the same position; the other rows are not affected.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from l4cli import console, documents
from l4cli.batch import openai
from l4cli.batch.lines import check_row
from l4cli.batch.sources import Record, Source, read_records
from l4cli.documents import Document
from l4cli.errors import InputError
from l4cli.openai import fields
from l4cli.prompt import strict_json

DIGEST_BYTES = 8
_SHOWN = 200  # characters
RowId = str | int
# The format of the answer: l4's own ("bare"), or that of OpenAI's chat or completions endpoint.
Dialect = Literal["bare", "chat", "completions"]

_KINDS = ("prompt", "messages", "document")
_OPTIONS = fields.SAMPLING | {"id", "tools", "tool_choice", "n", "stream"}
FIELDS = _OPTIONS | {"questions", *_KINDS}
_TEXTS = {"id", "prompt", "document", "grammar", "regex"}


@dataclass(frozen=True, slots=True)
class DocumentQuestions:
    """A document and the questions about it.

    path: the document's path as the row gives it.
    source: the document's contents.
    questions: one or more questions; each gets its own request.
    """

    path: str
    source: Document
    questions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One valid row. Exactly one of `prompt`, `messages` and `document` is set.

    prompt: a text, or token ids.

    line: the number of the row's first line in the input, from 1.
    id: the row's own id, or its line number if it has none.
    digest: the first 8 bytes of the SHA-256 of the line number and the record's bytes.
    tools: the functions that the model may call; None for none.
    must_call: the names of those one of which it must call; empty if it need not.
    most_calls: how many calls an answer may have; None for no limit.
    n: how many answers to generate for a prompt or conversation.
    sampling: the fields of SamplingParams that the row sets itself.
    thinks: whether the model is to think first, or how hard; None for as it likes.
    verbosity: how much it is to say; None for the usual.
    dialect: the format of the output row.
    """

    line: int
    id: RowId
    digest: bytes
    prompt: str | tuple[int, ...] | None = None
    messages: tuple[Mapping[str, Any], ...] | None = None
    document: DocumentQuestions | None = None
    tools: tuple[Mapping[str, Any], ...] | None = None
    must_call: tuple[str, ...] = ()
    most_calls: int | None = None
    n: int = 1
    sampling: Mapping[str, Any] = field(default_factory=dict)
    thinks: bool | str | None = None
    verbosity: str | None = None
    dialect: Dialect = "bare"

    @property
    def document_digest(self) -> bytes | None:
        """A digest of the document's text as it was read; None if the row has no document."""
        if self.document is None:
            return None
        return bytes.fromhex(self.document.source.digest)[:DIGEST_BYTES]

    @property
    def first_words(self) -> str:
        """The beginning of what the row asks, on one line, to show to people."""
        if self.document:
            text = f"{self.document.path}: {self.document.questions[0]}"
        elif self.messages:
            text = str(self.messages[-1].get("content") or "")[:_SHOWN]
        elif isinstance(self.prompt, tuple):
            text = f"{len(self.prompt)} token ids"
        else:
            text = (self.prompt or "")[:_SHOWN]
        return " ".join(text[:_SHOWN].split())

    @property
    def num_answers(self) -> int:
        """The number of requests that the row takes: one for each question or answer."""
        return len(self.document.questions) if self.document else self.n


@dataclass(frozen=True, slots=True)
class BadRow:
    """An invalid record, with the error that says why."""

    line: int
    id: RowId
    digest: bytes
    error: InputError
    dialect: Dialect = "bare"

    @property
    def document_digest(self) -> None:
        return None


class RowTemplate(Protocol):
    """Renders a prompt from a record's fields. Raises InputError if one is missing."""

    def render(self, values: Mapping[str, Any]) -> str: ...


Accept = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class RowReader:
    """Converts records to rows.

    lenient: ignore unknown fields instead of rejecting the row.
    template: renders the prompt from all fields of a record; the id, tools, n and sampling fields
        still have their usual meaning. None: the record must be one of the forms above.
    folder: document paths are relative to it.
    accept: if given, every record must be a request in OpenAI's Batch format, so that it can name
        no file, and one that this function accepts: it gets the record, and raises InputError.
    """

    lenient: bool = False
    template: RowTemplate | None = None
    folder: Path = Path()
    accept: Accept | None = None

    @property
    def columns(self) -> frozenset[str] | None:
        """The columns that a CSV file may have; None if every column is allowed."""
        return None if self.lenient or self.template else FIELDS

    def read(self, record: Record) -> Row | BadRow:
        """Return the row for a record, or a BadRow if the record is invalid."""
        line, digest = record.line, _digest(record)
        id: RowId = line
        dialect: Dialect = "chat" if self.accept else "bare"
        try:
            check_row(record.content)
            value = record.fields()
            if self.accept or (self.template is None and openai.is_envelope(value)):
                id, dialect = _id(value.get("custom_id"), line), openai.dialect(value)
                if self.accept:
                    self.accept(value)
                asked = openai.read(value, lenient=self.lenient)
                return Row(line, id, digest, dialect=dialect, **asked)
            if self.template is not None:
                options = {name: value[name] for name in _OPTIONS & value.keys()}
                value = {**options, "prompt": self.template.render(value)}
            if record.has_cells:
                value = _typed(value)
            id = _id(value.get("id"), line)
            return Row(line, id, digest, **self._asked(value))
        except InputError as error:
            return BadRow(line, id, digest, error, dialect)

    def _asked(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments for Row that a row in l4's own format sets."""
        if not self.lenient:
            fields.refuse_unknown(value, FIELDS)
        fields.refuse_stream(value)
        if value.get("id") is not None and not _is_id(value["id"]):
            kind = fields.json_type(value["id"])
            raise InputError(f"id must be a string or an integer, not {kind}")
        given = [name for name in _KINDS if name in value]
        if len(given) != 1:
            has = (
                "both prompt and messages"
                if given == ["prompt", "messages"]
                else " and ".join(given) or "none"
            )
            raise InputError(f"a row needs one of prompt, messages and document, but has {has}")
        n = fields.choices(value)
        asked = {
            "tools": fields.tools(value),
            "must_call": fields.must_call(value),
            "n": n,
            "sampling": fields.sampling(value),
        }
        if "document" in value:
            return {**asked, "document": self._document(value, n)}
        if "questions" in value:
            raise InputError("questions needs a document")
        if "messages" in value:
            return {**asked, "messages": fields.messages(value["messages"])}
        return {**asked, "prompt": fields.text("prompt", value["prompt"])}

    def _document(self, value: Mapping[str, Any], n: int) -> DocumentQuestions:
        path = fields.text("document", value["document"])
        questions = value.get("questions")
        if not isinstance(questions, list) or not all(isinstance(q, str) for q in questions):
            raise InputError("a row with a document needs questions, a list of strings")
        if not questions:
            raise InputError("questions is empty")
        if n != 1:
            raise InputError("each question about a document gets one answer: leave n out")
        return DocumentQuestions(path, _read_document(self.folder / path), tuple(questions))


def read_rows(
    lines: Iterable[bytes],
    *,
    source: Source = "json",
    lenient: bool = False,
    template: RowTemplate | None = None,
    folder: Path = Path(),
    accept: Accept | None = None,
) -> Iterator[Row | BadRow]:
    """Yield the rows of a stream of lines, reading it lazily. Blank lines are skipped.

    The parameters are those of `RowReader`; `source` is the format of the lines. Raises InputError
    if the stream as a whole is unusable, such as a CSV file without a valid header.
    """
    reader = RowReader(lenient, template, folder, accept)
    return map(reader.read, read_records(lines, source, columns=reader.columns))


def _digest(record: Record) -> bytes:
    digest = hashlib.sha256(b"%d " % record.line)
    digest.update(record.content)
    return digest.digest()[:DIGEST_BYTES]


def _id(given: Any, line: int) -> RowId:
    return given if _is_id(given) else line


def _is_id(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def _typed(cells: Mapping[str, Any]) -> dict[str, Any]:
    """Convert CSV cells to field values: text fields unchanged, others parsed as JSON.

    A cell that is not JSON stays a string, and an empty cell counts as a missing field.
    """
    value: dict[str, Any] = {}
    for name, cell in cells.items():
        if name in _TEXTS:
            value[name] = cell
        elif cell:
            try:
                value[name] = strict_json.parse(cell)
            except InputError:
                value[name] = cell
    if not value.get("id"):
        value.pop("id", None)
    return value


def _read_document(path: Path) -> Document:
    """Read a document of any format that l4 supports.

    Prints a note on stderr if pages have no text. Raises InputError with the file's name.
    """
    try:
        return documents.read_document(path, console.note)
    except InputError as error:
        raise InputError(f"document {error}") from None
