"""Shows a document's text with its places marked, for people who check what the model reads."""

from __future__ import annotations

from l4cli.documents.document import Document, Place


def marked(document: Document) -> str:
    """Return the text with a line such as `--- page 2, "Priming"` wherever its place changes.

    The first line names the document. The lines of text files are numbered.
    """
    parts = [f"--- {document.name}\n"]
    before, offset = Place(), 0
    for number, line in enumerate(document.text.rstrip("\n").split("\n"), 1):
        place = document.place(offset + len(line) - len(line.lstrip()))
        here = Place(page=place.page, heading=place.heading)
        if line.strip() and here != before:
            parts.append(f"--- {here}\n")
            before = here
        parts.append(f"{number:>6}  {line}\n" if document.has_lines else f"{line}\n")
        offset += len(line) + 1
    return "".join(parts)
