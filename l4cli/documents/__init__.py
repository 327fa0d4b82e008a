"""Reads documents from files, folders and pipes as texts that know their pages, lines and headings.

from l4cli.documents import ingest

for document in ingest(["manual.pdf", "notes/", "-"]):
    print(document.name, document.place(0))
"""

from l4cli.documents.document import Document, Heading, Place
from l4cli.documents.ingest import ingest, read_document

__all__ = ["Document", "Heading", "Place", "ingest", "read_document"]
