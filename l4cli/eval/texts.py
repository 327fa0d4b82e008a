"""What is evaluated: the built-in text, a text file, or rows, as token ids of a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from l4cli.documents.text import read_bytes, read_text
from l4cli.engine.llamacpp import LlamaModel
from l4cli.errors import InputError, L4Error
from l4cli.prompt import PromptEncoder

BUILT_IN = "the built-in text"
_FIELDS = ("text", "prompt", "messages")


@dataclass(frozen=True, slots=True)
class Text:
    """A text to evaluate. `name` is for messages; rows are texts or conversations, or None."""

    name: str
    content: str = ""
    rows: tuple[str | list[dict[str, Any]], ...] | None = None

    @property
    def digest(self) -> str:
        """Identifies the content, for results that are kept."""
        content = self.content if self.rows is None else json.dumps(self.rows)
        return hashlib.sha256(content.encode(errors="surrogatepass")).hexdigest()[:16]

    def tokens(self, model: LlamaModel) -> list[int]:
        """Return the token ids, after BOS if the vocabulary adds one.

        Rows follow one another: texts with a blank line between them, conversations by the model's
        chat template. InputError names the row that the template refuses.
        """
        bos = [] if model.added_bos is None else [model.added_bos]
        if self.rows is None:
            return [*bos, *model.tokenize(self.content)]
        encoder, found = PromptEncoder(model), list[int](bos)
        for number, row in enumerate(self.rows, 1):
            if isinstance(row, str):
                found += model.tokenize(f"{row}\n\n")
                continue
            try:
                ids = encoder.chat(row)
            except L4Error as error:
                raise InputError(f"{self.name}: row {number}: {error}") from None
            found += ids[1:] if bos and ids[:1] == bos else ids
        return found


def built_in_text() -> Text:
    """Return the text of l4's own: several languages, code, JSON, tables, dialogue."""
    folder = resources.files("l4cli.eval") / "text"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".txt")), key=lambda f: f.name)
    return Text(BUILT_IN, "\n\n".join(file.read_text("utf-8").strip() for file in files))


def read_text_file(path: Path) -> Text:
    """Return a file as a text, without one newline at its end, as llama-perplexity reads it."""
    return Text(str(path), read_text(path).removesuffix("\n"))


def read_rows(path: Path) -> Text:
    """Return the rows of a JSON Lines file: each has `text`, `prompt` or `messages`.

    A row with `prompt` may have `completion` behind it. Raises InputError, which names the line.
    """
    rows = [_row(value, where) for value, where in json_lines(path)]
    if not rows:
        raise InputError(f"{path}: it has no rows")
    return Text(str(path), rows=tuple(rows))


def json_lines(path: Path) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield the objects of a JSON Lines file, each with its place for messages.

    Raises InputError for a line that is no JSON object.
    """
    for number, line in enumerate(read_bytes(path).split(b"\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            value = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else error
            raise InputError(f"{where}: not a line of JSON ({reason})") from None
        if not isinstance(value, dict):
            raise InputError(f'{where}: not a JSON object like {{"text": "…"}}')
        yield value, where


def _row(value: Mapping[str, Any], where: str) -> str | list[dict[str, Any]]:
    given = [name for name in _FIELDS if value.get(name) is not None]
    if len(given) != 1:
        what = f"it has {' and '.join(given)}" if given else "it has none of them"
        raise InputError(f"{where}: a row needs text, prompt or messages; {what}")
    content = value[given[0]]
    if given[0] == "messages":
        if not isinstance(content, list) or not all(isinstance(one, dict) for one in content):
            raise InputError(f"{where}: messages must be a list of objects")
        return content
    if not isinstance(content, str):
        raise InputError(f"{where}: {given[0]} must be a text")
    completion = value.get("completion")
    if completion is None or given[0] == "text":
        return content
    if not isinstance(completion, str):
        raise InputError(f"{where}: completion must be a text")
    return content + completion
