"""Word documents: numbers, formulas, boxes, notes and merged cells as Word shows them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import papers
import pytest

from l4cli.documents.ingest import document_of


def t(text: str, properties: str = "") -> str:
    return f'<w:r><w:rPr>{properties}</w:rPr><w:t xml:space="preserve">{text}</w:t></w:r>'


def p(*content: str, properties: str = "") -> str:
    return f"<w:p><w:pPr>{properties}</w:pPr>{''.join(content)}</w:p>"


def read(body: str, parts: Mapping[str, str | None] | None = None) -> tuple[str, list[str]]:
    notes: list[str] = []
    document = document_of(papers.word(body, parts), "a.docx", notes.append)
    return document.text, notes


def m(name: str, *parts: tuple[str, str]) -> str:
    inside = "".join(f"<m:{part}><m:r><m:t>{text}</m:t></m:r></m:{part}>" for part, text in parts)
    return f"<m:oMath><m:{name}>{inside}</m:{name}></m:oMath>"


SUPER, SUB = '<w:vertAlign w:val="superscript"/>', '<w:vertAlign w:val="subscript"/>'


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (t("10") + t("6", SUPER) + t(" of H") + t("2", SUB) + t("O"), "10^6 of H_2O"),
        (t("10") + t("6", '<w:position w:val="8"/>'), "10^6"),
        (t("10") + t("6", '<w:rStyle w:val="Up"/>'), "10^6"),
        (t("10") + m("sSup", ("e", "10"), ("sup", "−6")) + t("3"), "10 10^−6 3"),
        (m("f", ("num", "1+a"), ("den", "2")), "(1+a)/2"),
        (m("rad", ("deg", ""), ("e", "2b")), "sqrt(2b)"),
        (m("nary", ("sub", "i=1"), ("sup", "10"), ("e", "i")), "∫_(i=1)^10 i"),
        (m("sPre", ("sub", "6"), ("sup", "14"), ("e", "C")), "_6^14C"),
        ("<w:r><w:t>10</w:t><w:cr/><w:t>20</w:t></w:r>", "10\n20"),
        ('<w:r><w:t>10</w:t><w:br w:type="page"/><w:t>20</w:t></w:r>', "10\n20"),
        (f"<w:fldSimple>{t('Figure 7')}</w:fldSimple>", "Figure 7"),
        (f'<w:hyperlink r:id="gone">{t("link")}</w:hyperlink>', "link"),
        (t("12", "<w:strike/>") + t(" ") + t("13", "<w:dstrike/>"), "~~12~~ ~~13~~"),
        (
            '<w:sdt><w:sdtPr><w14:checkbox><w14:checked w14:val="1"/></w14:checkbox></w:sdtPr>'
            f"<w:sdtContent>{t('☒')}</w:sdtContent></w:sdt>{t(' yes')}",
            "[x] yes",
        ),
        (
            '<w:r><w:fldChar w:fldCharType="begin"><w:ffData><w:checkBox><w:checked w:val="1"/>'
            "</w:checkBox></w:ffData></w:fldChar></w:r><w:r><w:instrText>FORMCHECKBOX</w:instrText>"
            '</w:r><w:r><w:fldChar w:fldCharType="end"/></w:r>' + t("yes"),
            "[x] yes",
        ),
    ],
)
def test_a_paragraph_is_what_a_reader_sees(content: str, text: str) -> None:
    style = (
        '<w:styles><w:style w:type="character" w:styleId="Up"><w:name w:val="Up"/>'
        '<w:rPr><w:vertAlign w:val="superscript"/></w:rPr></w:style></w:styles>'
    )
    assert read(p(content), {"styles": style})[0].replace("  \n", "\n") == text


def level(number: int, kind: str, text: str, start: int = 1, style: str = "") -> str:
    linked = f'<w:pStyle w:val="{style}"/>' if style else ""
    return (
        f'<w:lvl w:ilvl="{number}"><w:start w:val="{start}"/><w:numFmt w:val="{kind}"/>{linked}'
        f'<w:lvlText w:val="{text}"/></w:lvl>'
    )


NUMBERING = (
    '<w:numbering><w:abstractNum w:abstractNumId="7">'
    + level(0, "decimal", "§%1", start=4, style="Clause")
    + level(1, "lowerLetter", "(%2)")
    + level(2, "upperRoman", "%1.%3.")
    + '</w:abstractNum><w:abstractNum w:abstractNumId="8">'
    + level(0, "bullet", "•")
    + level(1, "decimal", "%2.", start=3)
    + '</w:abstractNum><w:num w:numId="1"><w:abstractNumId w:val="7"/></w:num>'
    '<w:num w:numId="2"><w:abstractNumId w:val="8"/></w:num>'
    '<w:num w:numId="3"><w:abstractNumId w:val="7"/><w:lvlOverride w:ilvl="0">'
    '<w:startOverride w:val="9"/></w:lvlOverride></w:num></w:numbering>'
)
STYLES = (
    '<w:styles><w:style w:type="paragraph" w:styleId="Clause"><w:name w:val="Clause"/><w:pPr>'
    '<w:numPr><w:numId w:val="1"/></w:numPr></w:pPr></w:style></w:styles>'
)


def item(text: str, list_id: int, depth: int = 0) -> str:
    numbers = f'<w:numPr><w:ilvl w:val="{depth}"/><w:numId w:val="{list_id}"/></w:numPr>'
    return p(t(text), properties=numbers)


def test_lists_have_the_numbers_that_word_shows() -> None:
    body = (
        item("a", 1) + item("b", 1, 1) + item("c", 1, 1) + item("d", 1, 2)
        + p(t("e"), properties='<w:pStyle w:val="Clause"/>') + item("f", 1, 1)
        + item("g", 3) + item("h", 2) + item("i", 0)
    )  # fmt: skip
    text, _ = read(body, {"numbering": NUMBERING, "styles": STYLES})
    assert text.split("\n\n") == [
        "§4 a", "(a) b", "(b) c", "4.I. d", "§5 e", "(a) f", "§9 g", "- h", "i",
    ]  # fmt: skip


def test_numbers_below_a_bullet_begin_again_after_it() -> None:
    body = item("a", 2) + item("b", 2, 1) + item("c", 2, 1) + item("d", 2) + item("e", 2, 1)
    text, _ = read(body, {"numbering": NUMBERING, "styles": STYLES})
    assert [line.strip() for line in text.splitlines() if line] == [
        "- a", "3. b", "4. c", "- d", "3. e",
    ]  # fmt: skip


def test_boxes_notes_and_comments_stand_in_the_text() -> None:
    box = f"<w:txbxContent>{p(t('in a box'))}</w:txbxContent>"
    drawn = (
        "<w:r><mc:AlternateContent><mc:Choice><w:drawing><wp:inline><wps:txbx>"
        f"{box}</wps:txbx></wp:inline></w:drawing></mc:Choice><mc:Fallback><w:pict><v:textbox>"
        f"{box}</v:textbox></w:pict></mc:Fallback></mc:AlternateContent></w:r>"
    )
    references = (
        '<w:r><w:footnoteReference w:id="2"/></w:r><w:r><w:endnoteReference w:id="2"/></w:r>'
        '<w:r><w:commentReference w:id="0"/></w:r>'
    )
    parts = {
        "footnotes": (
            f'<w:footnotes><w:footnote w:id="2">{p(t("foot 1"))}</w:footnote></w:footnotes>'
        ),
        "endnotes": f'<w:endnotes><w:endnote w:id="2">{p(t("end 2"))}</w:endnote></w:endnotes>',
        "comments": f'<w:comments><w:comment w:id="0" w:author="Mira">{p(t("why 12?"))}</w:comment>'
        "</w:comments>",
        "header1": f"<w:hdr>{p(t('Draft'))}</w:hdr>",
        "footer1": "<w:ftr></w:ftr>",
        "styles": None,
    }
    text, notes = read(p(t("1999"), references, drawn) + p(t("after")), parts)
    assert text == (
        "1999[1][2] [comment by Mira: why 12?]\n\nin a box\n\nafter\n\n1. foot 1 ↑\n2. end 2 ↑"
    )
    assert notes == ["a.docx: left out: 1 page header"]


def test_what_is_left_out_is_told() -> None:
    picture = (
        '<w:r><w:drawing><wp:inline><wp:docPr descr="{}"/><a:blip/></wp:inline></w:drawing></w:r>'
    )
    gone = "<w:del><w:r><w:delText>12</w:delText></w:r></w:del>"
    text, notes = read(
        p(t("seen"), picture.format(""), picture.format("a pump"), gone, t("13", "<w:vanish/>"))
        + p('<w:r><w:sym w:font="Symbol" w:char="F0B1"/><w:sym w:font="Own" w:char="F0B1"/></w:r>')
    )
    assert text == "seen a pump\n\n±"
    (told,) = notes
    assert told == "a.docx: left out: 1 picture, 1 deleted passage, 1 hidden passage, 1 symbol"


def test_merged_cells_keep_their_columns() -> None:
    def cell(text: str, properties: str = "") -> str:
        return f"<w:tc><w:tcPr>{properties}</w:tcPr>{p(t(text))}</w:tc>"

    rows = (
        (cell("N", '<w:vMerge w:val="restart"/>'), cell("1")),
        (cell("", "<w:vMerge/>"), cell("2")),
        (cell("both", '<w:gridSpan w:val="2"/>'),),
    )
    table = f"<w:tbl>{''.join(f'<w:tr>{chr(32).join(row)}</w:tr>' for row in rows)}</w:tbl>"
    assert read(table)[0] == "|  |  |\n| --- | --- |\n| N | 1 |\n|  | 2 |\n| both | |"


@pytest.mark.parametrize("main", ["word/document2.xml", "doc/main.xml"])
def test_the_main_part_may_have_any_name(main: str) -> None:
    assert document_of(papers.word(p(t("found")), main=main), "a.docx").text == "found"


def test_strict_files_are_read() -> None:
    data = papers.word(p(t("10"), t("6", SUPER)))
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        members = {
            name: file.read(name)
            .replace(
                papers.WORD_SPACES["w"].encode(),
                b"http://purl.oclc.org/ooxml/wordprocessingml/main",
            )
            .replace(
                papers.WORD_SPACES["r"].encode(),
                b"http://purl.oclc.org/ooxml/officeDocument/relationships",
            )
            for name in file.namelist()
        }
    assert document_of(papers.archive(members), "a.docx").text == "10^6"
