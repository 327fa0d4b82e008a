"""Converts DOCX to Markdown; mammoth converts it to HTML first."""

from __future__ import annotations

import io
from xml.parsers.expat import ExpatError

from l4cli.documents.archive import BROKEN, Archive
from l4cli.documents.html import html_to_markdown
from l4cli.errors import InputError

_MAX_XML = 64 << 20  # bytes of the text's XML, which mammoth parses; 1000 pages are about 10 MB
_STYLES = "p[style-name='Title'] => h1:fresh"


def docx_to_markdown(data: bytes, name: str) -> str:
    """Return the text with its headings, lists, tables and notes, but without pictures.

    Raises InputError.
    """
    import mammoth

    with Archive(data, name) as archive:
        if len(archive.read("word/document.xml")) > _MAX_XML:
            raise InputError(
                f"{name}: its text is more than {_MAX_XML >> 20} MiB of XML; split the file"
            )
        try:
            page = mammoth.convert_to_html(
                io.BytesIO(data),
                style_map=_STYLES,
                include_embedded_style_map=False,
                convert_image=lambda _image: [],
            ).value
        except RecursionError:
            raise InputError(f"{name}: nested too deeply to be read") from None
        # mammoth raises any of these for XML that lacks an element it needs.
        except (ExpatError, AttributeError, TypeError, LookupError, RuntimeError, *BROKEN) as error:
            raise archive.broken(error) from None
    return html_to_markdown(page, name, is_xhtml=True).text
