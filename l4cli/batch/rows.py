"""Records to rows: what one row asks for, whichever way it was written.

    {"prompt": "…"}                              one user message
    {"messages": [{"role", "content"}, …]}       a conversation
    {"document": "path", "questions": ["…", …]}  several questions about one document
    {"custom_id", "method", "url", "body"}       a request of OpenAI's Batch format: openai.py

The first three take an id, tools and tool_choice, n, and the sampling fields of fields.py. A row
that cannot be read becomes a BadRow in its place; its neighbours never notice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from l4cli import console, documents
from l4cli.batch import fields, openai
from l4cli.batch.sources import Record, Source, read_records
from l4cli.documents import Document
from l4cli.errors import InputError

DIGEST_BYTES = 8
RowId = str | int
Dialect = Literal["bare", "chat", "completions"]  # whose shape the answer takes; bare is l4's own

_KINDS = ("prompt", "messages", "document")
_OPTIONS = fields.SAMPLING | {"id", "tools", "tool_choice", "n", "stream"}
FIELDS = _OPTIONS | {"questions", *_KINDS}
_TEXTS = {"id", "prompt", "document", "grammar", "regex"}


@dataclass(frozen=True, slots=True)
class DocumentQuestions:
    """A document, as the row names it (`path`) and read (`source`), and what is asked about it."""

    path: str
    source: Document
    questions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One valid row: it has a `prompt`, `messages` or a `document`.

    `line` counts from 1; `digest` stands for the line's number and content. `sampling` holds the
    fields of SamplingParams that the row sets itself, `n` how many answers it wants.
    """

    line: int
    id: RowId
    digest: bytes
    prompt: str | None = None
    messages: tuple[Mapping[str, Any], ...] | None = None
    document: DocumentQuestions | None = None
    tools: tuple[Mapping[str, Any], ...] | None = None
    n: int = 1
    sampling: Mapping[str, Any] = field(default_factory=dict)
    dialect: Dialect = "bare"

    @property
    def num_answers(self) -> int:
        """How many requests to the engine it takes."""
        return len(self.document.questions) if self.document else self.n


@dataclass(frozen=True, slots=True)
class BadRow:
    """A line that is no valid row, with what is wrong with it."""

    line: int
    id: RowId
    digest: bytes
    error: InputError
    dialect: Dialect = "bare"


class RowTemplate(Protocol):
    """Makes a prompt of a record's fields; InputError names one that is missing."""

    def render(self, values: Mapping[str, Any]) -> str: ...


@dataclass(frozen=True, slots=True)
class RowReader:
    """How records become rows.

    With `template`, a record's fields are data for the prompt, but for id and sampling fields.
    With `lenient`, unknown fields are ignored. Document paths are relative to `folder`.
    """

    lenient: bool = False
    template: RowTemplate | None = None
    folder: Path = Path()

    @property
    def columns(self) -> frozenset[str] | None:
        """The columns that a CSV file may have; None is any."""
        return None if self.lenient or self.template else FIELDS

    def read(self, record: Record) -> Row | BadRow:
        """The row that a record means."""
        line, digest = record.line, _digest(record)
        id: RowId = line
        dialect: Dialect = "bare"
        try:
            value = record.fields()
            if self.template is None and openai.is_envelope(value):
                id, dialect = _id(value.get("custom_id"), line), openai.dialect(value)
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
        """What a bare row sets of a Row."""
        if not self.lenient:
            fields.refuse_unknown(value, FIELDS)
        fields.refuse_stream(value)
        if value.get("id") is not None and not _is_id(value["id"]):
            kind = fields.json_type(value["id"])
            raise InputError(f"id must be a string or an integer, not {kind}")
        given = [name for name in _KINDS if name in value]
        if len(given) != 1:
            has = "both" if given == ["prompt", "messages"] else " and ".join(given) or "neither"
            raise InputError(f"a row needs either prompt or messages, this one has {has}")
        n = fields.choices(value)
        asked = {"tools": fields.tools(value), "n": n, "sampling": fields.sampling(value)}
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
            raise InputError("a document needs questions, a list of strings")
        if not questions:
            raise InputError("questions is empty")
        if n != 1:
            raise InputError("a document's questions are answered once each: leave n out")
        return DocumentQuestions(path, _read_document(self.folder / path), tuple(questions))


def read_rows(
    lines: Iterable[bytes],
    *,
    source: Source = "json",
    lenient: bool = False,
    template: RowTemplate | None = None,
    folder: Path = Path(),
) -> Iterator[Row | BadRow]:
    """Rows of a stream of lines, read lazily; blank lines are passed over.

    InputError where the stream as a whole makes no sense: a CSV file without its header.
    """
    reader = RowReader(lenient, template, folder)
    return map(reader.read, read_records(lines, source, columns=reader.columns))


def _digest(record: Record) -> bytes:
    return hashlib.sha256(b"%d %s" % (record.line, record.content)).digest()[:DIGEST_BYTES]


def _id(given: Any, line: int) -> RowId:
    return given if _is_id(given) else line


def _is_id(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def _typed(cells: Mapping[str, Any]) -> dict[str, Any]:
    """CSV cells as the fields they stand for: texts as they are, the rest read as JSON."""
    value: dict[str, Any] = {}
    for name, cell in cells.items():
        if name in _TEXTS:
            value[name] = cell
        elif cell:
            try:
                value[name] = json.loads(cell)
            except ValueError:
                value[name] = cell
    if not value.get("id"):
        value.pop("id", None)
    return value


def _read_document(path: Path) -> Document:
    """A file of any format l4 reads; InputError names it and what is wrong.

    Pages without text are a line on stderr.
    """
    try:
        return documents.read_document(path, console.note)
    except InputError as error:
        raise InputError(f"document {error}") from None
