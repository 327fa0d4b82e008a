"""Makes documents in every format by seed: whole, odd and damaged ones."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable

import papers

NUMBERS = ("0", "1", "-1", "7", "65535", "999999999", "1e9", "", "x", "Ⅳ", "٣")
WORDS = (
    "pump",
    "10",
    "1999",
    "H",
    "2",
    "O",
    "é",
    "水",
    "|",
    "~~",
    "`",
    "# a",
    "\ufdd0",
    "\u2028",
    "<",
    "&",
)
_TAGS = """
p div span a b i sup sub del s table thead tbody tr td th caption ul ol li dl dt dd pre code br
img input select option button textarea details summary ruby rt svg text tspan math mi mn mo
mrow msup msub msubsup mfrac msqrt mroot mtable mtr mtd mmultiscripts mprescripts munder
semantics annotation h1 h6 hr blockquote aside section figure script style title noscript form
"""
TAGS = tuple(_TAGS.split())
ATTRIBUTES = (
    "class",
    "style",
    "href",
    "rowspan",
    "colspan",
    "start",
    "value",
    "type",
    "id",
    "role",
)
VALUES = (*NUMBERS, "s3", "vertical-align:super", "#n1", "checkbox", "a", "i", "doc-noteref")
LABELS = ("utf-8", "utf-16", "latin1", "gb2312", "shift_jis", "euc-kr", "big5", "klingon", "hz", "")
_ELEMENTS = """
w:p w:r w:t w:pPr w:rPr w:numPr w:numId w:ilvl w:tbl w:tr w:tc w:tcPr w:gridSpan w:vMerge
w:hyperlink w:sdt w:sdtContent w:sdtPr w14:checkbox w:fldChar w:instrText w:fldSimple w:br w:cr
w:tab w:sym w:drawing w:pict w:txbxContent mc:AlternateContent mc:Choice mc:Fallback
w:footnoteReference w:commentReference w:ins w:del w:delText w:vertAlign w:strike w:vanish
w:position w:pStyle w:rStyle w:ruby w:rt w:rubyBase m:oMath m:oMathPara m:r m:t m:f m:num m:den
m:sSup m:e m:sup m:sub m:rad m:deg m:nary m:naryPr m:chr m:d m:dPr m:m m:mr m:acc
"""
ELEMENTS = tuple(_ELEMENTS.split())
WORD_ATTRIBUTES = ("w:val", "w:id", "r:id", "w:fldCharType", "w:char", "w:font", "m:val", "w:type")
WORD_VALUES = (*NUMBERS, "restart", "begin", "separate", "end", "superscript", "F0A3", "Symbol")


def member(seed: int) -> tuple[str, bytes]:
    """Return the name and the bytes of the document with this seed."""
    chance = random.Random(seed)
    kind, make = chance.choice(tuple(MAKERS.items()))
    data = make(chance)
    if chance.random() < 0.5:
        data = _damaged_inside(chance, data) if data.startswith(b"PK") else damaged(chance, data)
    return f"{seed}.{kind}", data


def damaged(chance: random.Random, data: bytes) -> bytes:
    """Return `data` with some bytes changed, removed or repeated."""
    damage = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        if not damage:
            break
        at, length = chance.randrange(len(damage)), chance.randint(1, 20)
        how = chance.choice(("change", "drop", "repeat"))
        if how == "change":
            damage[at] = chance.randrange(256)
        elif how == "drop":
            del damage[at : at + length]
        else:
            damage[at:at] = damage[at : at + length] * chance.choice((2, 2, 500))
    return bytes(damage)


def _damaged_inside(chance: random.Random, data: bytes) -> bytes:
    """Return an archive whose members are damaged, so that readers meet broken XML."""
    if chance.random() < 0.2:
        return damaged(chance, data)
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        members = {name: file.read(name) for name in file.namelist()}
    for name in chance.sample(sorted(members), chance.randint(1, 2)):
        if chance.random() < 0.2:
            del members[name]
        else:
            members[name] = damaged(chance, members[name])
    return papers.archive(members)


def _text(chance: random.Random) -> str:
    return " ".join(chance.choices(WORDS, k=chance.randint(1, 4)))


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _markup(chance: random.Random, names: tuple[tuple[str, ...], ...], depth: int) -> str:
    """Return random elements: `names` are those of elements and attributes, and values."""
    tags, attributes, values = names
    parts = []
    for _ in range(chance.randint(0, 4)):
        if depth <= 0 or chance.random() < 0.3:
            parts.append(_escaped(_text(chance)))
            continue
        tag = chance.choice(tags)
        chosen = chance.sample(attributes, chance.randint(0, 2))
        given = "".join(f' {name}="{chance.choice(values)}"' for name in chosen)
        parts.append(f"<{tag}{given}>{_markup(chance, names, depth - 1)}</{tag}>")
    return "".join(parts)


def _body(chance: random.Random) -> str:
    depth = chance.choice((3, 6, 6, 9))
    body = _markup(chance, (TAGS, ATTRIBUTES, VALUES), depth)
    return body * chance.choice((1, 1, 1, 30))


def _html(chance: random.Random) -> bytes:
    page = f"<meta charset='{chance.choice(LABELS)}'>{_body(chance)}"
    codec = chance.choice(("utf-8", "utf-8", "utf-16", "cp1252", "gb18030", "cp932"))
    return page.encode(codec, "replace")


def _docx(chance: random.Random) -> bytes:
    names = (ELEMENTS, WORD_ATTRIBUTES, WORD_VALUES)
    depth = chance.choice((4, 8))
    body = "".join(
        f"<w:p><w:r><w:t>{_escaped(_text(chance))}</w:t></w:r>{_markup(chance, names, depth)}</w:p>"
        for _ in range(chance.randint(0, 6))
    )
    parts: dict[str, str | None] = {}
    for name in ("numbering", "styles", "footnotes", "comments", "header1"):
        if chance.random() < 0.4:
            more = (*ELEMENTS, f"w:{name[:-1]}", "w:lvl", "w:num", "w:abstractNum")
            inside = _markup(chance, (more, *names[1:]), 5)
            parts[name] = chance.choice((None, f"<w:{name}>{inside}</w:{name}>"))
    return papers.word(body, parts, main=chance.choice(("word/document.xml", "word/d2.xml")))


def _epub(chance: random.Random) -> bytes:
    kinds = ("application/xhtml+xml", "text/html", "text/plain", "", "image/png", "text/css")
    names = ("a.xhtml", "b%20c.html", "../d.xhtml", "é.xhtml", "e", "f.css")
    manifest = [(name, chance.choice(kinds)) for name in chance.choices(names, k=3)]
    members: dict[str, str | bytes] = {
        f"OEBPS/{name}": f"<html><body>{_body(chance)}</body></html>".encode("utf-8", "replace")
        for name in chance.sample(names, 4)
    }
    return papers.book(members, manifest, spine=chance.random() < 0.8)


def _pdf(chance: random.Random) -> bytes:
    pages: list[object] = []
    for _ in range(chance.randint(0, 4)):
        pieces = ""
        for _ in range(chance.randint(0, 8)):
            size, rise = chance.choice((0, 1, 8, 12, 12, 5000)), chance.choice((0, 0, 4, -3, 1e6))
            text, move = chance.choice(("10", "6", "pump")), chance.choice(("", "T*", "0 -14 Td"))
            pieces += f"/F {size} Tf {rise} Ts ({text}) Tj {move} "
        pages.append(f"BT 14 TL 72 700 Td {pieces} ET".encode())
    outline = [("Pump", 0)] if pages and chance.random() < 0.5 else []
    return papers.pdf(pages or [""], outline=outline, encrypted=chance.random() < 0.05)


def _notebook(chance: random.Random) -> bytes:
    def value(depth: int) -> object:
        simple = (None, 1, "", "text\n", ["a", 1, None], 1e300, True)
        if depth <= 0 or chance.random() < 0.4:
            return chance.choice(simple)
        keys = (
            "cell_type", "source", "outputs", "output_type", "data", "text", "text/plain", "input",
            "text/html", "image/png", "traceback", "level", "metadata", "worksheets", "cells",
        )  # fmt: skip
        if chance.random() < 0.4:
            return [value(depth - 1) for _ in range(chance.randint(0, 3))]
        return {key: value(depth - 1) for key in chance.sample(keys, chance.randint(0, 4))}

    kinds = ("code", "markdown", "raw", "heading", None)
    cells = [
        {
            "cell_type": chance.choice(kinds),
            "source": _text(chance),
            "outputs": [
                {
                    "output_type": chance.choice(("stream", "error", "display_data")),
                    "data": value(2),
                }
            ],
            "level": value(0),
        }
        for _ in range(chance.randint(0, 4))
    ]
    notebook = {"cells": chance.choice((cells, cells, value(4))), "metadata": value(2)}
    return json.dumps(notebook).encode()


def _markdown(chance: random.Random) -> bytes:
    marks = (
        "# ",
        "> ",
        "- ",
        "1. ",
        "```\n",
        "---\n",
        "",
        "\t",
        "| a | b |\n",
        "[x]: y\n",
        "<div>",
    )
    lines = [f"{chance.choice(marks)}{_text(chance)}" for _ in range(chance.randint(0, 30))]
    text = "\n".join(lines) * chance.choice((1, 1, 20))
    return text.encode(chance.choice(("utf-8", "utf-8-sig", "utf-16", "utf-16-le")))


MAKERS: dict[str, Callable[[random.Random], bytes]] = {
    "html": _html,
    "docx": _docx,
    "epub": _epub,
    "pdf": _pdf,
    "ipynb": _notebook,
    "md": _markdown,
    "txt": _markdown,
}
