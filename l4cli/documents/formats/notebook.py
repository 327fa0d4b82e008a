"""Converts Jupyter notebooks to Markdown: the cells, and the outputs that are text."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from l4cli.documents.formats.converted import Text
from l4cli.documents.formats.html.convert import html_to_markdown
from l4cli.documents.text import decode, unix_lines
from l4cli.errors import InputError

_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_BACKTICKS = re.compile(r"^ *(`{3,})", re.MULTILINE)
_PICTURE = re.compile(r"!\[([^\]]*)\]\((?:attachment:|data:)[^)]*\)")


def notebook_to_markdown(data: bytes, name: str) -> Text:
    """Return a notebook's cells and outputs. Raises InputError if it is not a notebook."""
    try:
        notebook = json.loads(decode(data, name))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name}: not a notebook: its JSON is broken ({error})") from None
    cells = list(_cells(notebook))
    if not isinstance(notebook, dict) or ("cells" not in notebook and "worksheets" not in notebook):
        raise InputError(f"{name}: not a notebook: it has no cells")
    language = _language(notebook)
    left_out: Counter[str] = Counter()
    parts = [part for cell in cells for part in _cell(cell, language, name, left_out)]
    return Text(unix_lines("\n\n".join(part for part in parts if part)), left_out)


def _cells(notebook: object) -> Iterator[Mapping[str, Any]]:
    """Yield the cells; those of version 3 lie in worksheets."""
    if isinstance(notebook, dict):
        sheets = [notebook, *_list(notebook.get("worksheets"))]
        for sheet in sheets:
            for cell in _list(sheet.get("cells") if isinstance(sheet, dict) else None):
                if isinstance(cell, dict):
                    yield cell


def _cell(
    cell: Mapping[str, Any], language: str, name: str, left_out: Counter[str]
) -> Iterator[str]:
    source = _joined(cell.get("source", cell.get("input"))).strip("\n")
    kind = cell.get("cell_type")
    if kind == "code":
        if source.strip():
            yield _fenced(source, language)
        for output in _list(cell.get("outputs")):
            if isinstance(output, dict):
                yield _output(output, name, left_out)
    elif kind == "heading":
        stated = cell.get("level")
        level = stated if isinstance(stated, int) and 1 <= stated <= 6 else 1
        yield f"{'#' * level} {' '.join(source.split())}"
    else:
        pictures = _PICTURE.findall(source)
        left_out["picture"] += sum(not alternative for alternative in pictures)
        yield _PICTURE.sub(r"\1", source)


def _output(output: Mapping[str, Any], name: str, left_out: Counter[str]) -> str:
    """Return an output as text; "" if it has none, which is counted."""
    kind = output.get("output_type")
    if kind == "stream":
        text = _joined(output.get("text"))
    elif kind in ("error", "pyerr"):
        trace = "\n".join(map(str, _list(output.get("traceback"))))
        text = trace or f"{output.get('ename', '')}: {output.get('evalue', '')}"
    else:
        found = output.get("data")
        bundle = found if isinstance(found, dict) else output
        if "text/markdown" in bundle:
            return _joined(bundle["text/markdown"])
        text = _joined(bundle.get("text/plain", bundle.get("text")))
        is_stand_in = text.startswith("<") and text.rstrip().endswith(">")
        if any(str(key).startswith("image/") or key in ("png", "jpeg", "svg") for key in bundle):
            left_out["picture"] += 1
            text = "" if is_stand_in else text
        elif "text/html" in bundle and (is_stand_in or not text):
            page = html_to_markdown(_joined(bundle["text/html"]), name)
            left_out.update(page.left_out)
            return page.text
        elif not text:
            left_out["output that is no text"] += 1
    text = _COLOUR.sub("", text).strip("\n")
    return _fenced(text, "") if text.strip() else ""


def _fenced(text: str, language: str) -> str:
    longest = max((len(ticks) for ticks in _BACKTICKS.findall(text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _language(notebook: Mapping[str, Any]) -> str:
    metadata = notebook.get("metadata")
    for key in ("language_info", "kernelspec"):
        about = metadata.get(key) if isinstance(metadata, dict) else None
        found = (
            about.get("name" if key == "language_info" else "language")
            if isinstance(about, dict)
            else None
        )
        if isinstance(found, str) and found.isalnum():
            return found
    return ""


def _joined(text: object) -> str:
    """Return a text that may be a list of lines."""
    return "".join(map(str, text)) if isinstance(text, list) else str(text or "")


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
