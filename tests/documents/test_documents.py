"""Documents of every format: their texts, the places in them, and the errors for bad ones."""

from __future__ import annotations

import os
import random
import sys
import threading
from io import BufferedReader, BytesIO, TextIOWrapper
from itertools import pairwise
from pathlib import Path
from typing import Any

import papers
import pytest
from odd_documents import damaged

from l4cli.documents import Document, Place, ingest, read_document
from l4cli.documents import text as texts
from l4cli.documents.formats import archive as archives
from l4cli.documents.formats.readers import convert
from l4cli.documents.ingest import document_of
from l4cli.documents.text import decode
from l4cli.errors import InputError

PDF = papers.pdf(
    ["Pump manual\nRead it first.", "Priming the pump\nFill it (with water).\nThen start."],
    outline=[("Preface", 0), ("Priming the pump", 1)],
)
DOCX = papers.docx(
    [
        ("Title", "Pump manual"),
        ("heading 1", "Priming"),
        ("", "Fill it with “water”."),
        ("heading 2", "Why"),
        ("", "Air cannot be moved."),
    ]
)
EPUB = papers.epub(
    {
        "one.xhtml": "<h1>One</h1><p>It was a <em>dark</em> night.</p>",
        "two%20b.xhtml": "<h1>Two</h1><p>It dawned.</p>",
    }
)


def write(path: Path, content: str | bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def place(document: Document, words: str) -> Place:
    return document.place(document.text.index(words))


def test_text_keeps_its_lines(tmp_path: Path) -> None:
    document = read_document(
        Path(write(tmp_path / "a.txt", b"\xef\xbb\xbfone\r\n\r\ntwo\rthree\n"))
    )
    assert document.text == "one\n\ntwo\nthree\n"
    assert place(document, "two") == Place(line=3)
    assert document.place(len(document.text)) == Place(line=4)
    with pytest.raises(IndexError):
        document.place(len(document.text) + 1)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_what_a_bom_says_is_believed(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "a.txt", "Grüße\n".encode(encoding))
    assert read_document(Path(path)).text == "Grüße\n"


def test_markdown_has_lines_and_headings(tmp_path: Path) -> None:
    text = (
        "---\ntitle: no heading\n---\nIntro\n\n# The *pump*\n\n```\n# a comment\n```\n"
        "> # quoted\n\nPriming [it](u)\n---------\ntext\n"
    )
    document = read_document(Path(write(tmp_path / "a.md", text)))
    assert document.text == text
    assert [(h.level, h.title) for h in document.headings] == [(1, "The pump"), (2, "Priming it")]
    assert place(document, "Intro") == Place(line=4)
    assert place(document, "a comment") == Place(line=9, heading="The pump")
    assert place(document, "text") == Place(line=15, heading="Priming it")
    assert str(place(document, "text")) == 'line 15, "Priming it"'


def test_html_is_what_a_reader_sees(tmp_path: Path) -> None:
    page = (
        "<!doctype html><title>t</title><style>p{}</style><script>x()</script>"
        "<h1>The <em>pump</em></h1><p>Some <b>bold</b> a_b*c, <a href=u>linked</a> "
        "<img src='data:x' alt='a drawing'>&amp; more.<template>hidden</template></p>"
        "<ul><li>one<li>two</ul><table><tr><th>a<th>b<tr><td>1<td>2</table><pre>if x:\n    y</pre>"
    )
    document = read_document(Path(write(tmp_path / "a.html", page)))
    assert document.text == (
        "# The pump\n\nSome bold a_b*c, linked a drawing& more.\n\n- one\n- two\n\n"
        "| a | b |\n| --- | --- |\n| 1 | 2 |\n\n```\nif x:\n    y\n```"
    )
    assert place(document, "bold") == Place(heading="The pump")


def test_paragraphs_need_not_be_closed(tmp_path: Path) -> None:
    document = read_document(Path(write(tmp_path / "a.html", "<p>one" * 5000)))
    assert document.text.split("\n\n") == ["one"] * 5000


def test_html_is_decoded_as_it_says(tmp_path: Path) -> None:
    page = '<meta charset="iso-8859-1"><p>caf\xe9</p>'
    assert read_document(Path(write(tmp_path / "a.html", page.encode("latin-1")))).text == "café"
    with pytest.raises(InputError, match=r"b\.html: not UTF-8 at byte 7"):
        read_document(Path(write(tmp_path / "b.html", b"<p>caf\xe9")))
    for name, shown in (("klingon", "klingon"), ("rot13", "rot13"), ("gb2\n12", "gb2 12")):
        page = f'<meta charset="{name}">x..y'
        with pytest.raises(InputError, match=rf"not in the encoding that it names \({shown}\)"):
            read_document(Path(write(tmp_path / "c.html", page)))


def test_pdf_has_pages_and_its_outline(tmp_path: Path) -> None:
    document = read_document(Path(write(tmp_path / "a.pdf", PDF)))
    assert document.text == (
        "Pump manual\nRead it first.\n\nPriming the pump\nFill it (with water).\nThen start."
    )
    assert document.num_pages == 2
    assert place(document, "Read") == Place(page=1, heading="Preface")
    assert place(document, "water") == Place(page=2, heading="Priming the pump")


def test_docx_has_headings(tmp_path: Path) -> None:
    document = read_document(Path(write(tmp_path / "a.docx", DOCX)))
    assert document.text == (
        "# Pump manual\n\n# Priming\n\nFill it with “water”.\n\n## Why\n\nAir cannot be moved."
    )
    assert place(document, "Fill") == Place(heading="Priming")
    assert place(document, "Air") == Place(heading="Why")


def test_epub_is_its_spine(tmp_path: Path) -> None:
    document = read_document(Path(write(tmp_path / "a.epub", EPUB)))
    assert document.text == "# One\n\nIt was a dark night.\n\n# Two\n\nIt dawned."
    assert place(document, "dawned") == Place(heading="Two")


def test_a_format_is_told_by_content_not_by_name(tmp_path: Path) -> None:
    assert "Priming" in read_document(Path(write(tmp_path / "manual.txt", PDF))).text
    assert "Priming" in read_document(Path(write(tmp_path / "manual", DOCX))).text


def test_stdin_may_be_any_format(monkeypatch: pytest.MonkeyPatch) -> None:
    for data, words in ((b"plain", "plain"), (PDF, "Priming"), (b"<html><p>page", "page")):
        monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(data)))
        (document,) = ingest(["-"])
        assert document.name == "stdin"
        assert words in document.text


def test_a_tree_is_its_readable_files(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    write(tree / ".gitignore", "*.log\nbuild/\n!kept.log\n")
    write(tree / "b" / ".gitignore", "local*\n!x.log\n")
    names = ("b.py", "a.md", "no.log", "kept.log", "build/x", "b/local.py", "b/x.log", ".git/x")
    for name in names:
        write(tree / name, name)
    write(tree / "b" / "manual.pdf", PDF)
    write(tree / "logo.png", b"\x89PNG\r\n\0")
    write(tree / "program", b"\x7fELF\0")
    write(tree / "__init__.py", "")
    (tree / "loop").symlink_to(tree)
    os.mkfifo(tree / "pipe")
    notes: list[str] = []
    read = [
        Path(d.name).relative_to(tree).as_posix() for d in ingest([str(tree)], on_note=notes.append)
    ]
    assert read == ["a.md", "b/manual.pdf", "b/x.log", "b.py", "kept.log"]
    (note,) = notes
    assert note.startswith(f"{tree}: left out: ")
    assert set(note.partition("left out: ")[2].split(", ")) == {
        "3 files ignored by .gitignore",
        "1 link",
        "1 empty file",
        "2 binary files",
    }


def test_what_programs_have_put_into_a_tree_is_left_out(tmp_path: Path) -> None:
    """And a .gitignore above the folder counts, up to the repository's root."""
    write(tmp_path / ".gitignore", "b.md\nout/\n")  # above the repository
    root = tmp_path / "repository"
    write(root / ".git" / "HEAD", "ref")
    write(root / ".gitignore", "*.log\nout/\n")
    for name in ("a.log", "b.md", "out/x.md", "node_modules/x.js", "env/pyvenv.cfg", "env/x.py"):
        write(root / "src" / name, name)
    write(root / "src" / "tmp" / "CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55")

    def read(folder: Path, **options: bool) -> tuple[list[str], str]:
        notes: list[str] = []
        found = ingest([str(folder)], on_note=notes.append, **options)
        return [Path(d.name).relative_to(folder).as_posix() for d in found], "; ".join(notes)

    names, note = read(root / "src")
    assert names == ["b.md"]
    assert "2 files ignored by .gitignore" in note
    assert "3 folders of packages or caches" in note
    assert read(root / "src", use_gitignore=False)[0] == ["a.log", "b.md", "out/x.md"]
    assert read(root / "src" / "out")[0] == ["x.md"]  # because it is named


def test_patterns_and_repetitions(tmp_path: Path) -> None:
    for name in ("x/b.md", "x/y/a.md", "x/y/c.txt"):
        write(tmp_path / name, name)
    sources = [str(tmp_path / "x/b.md"), str(tmp_path / "x/**/*.md"), str(tmp_path / "x")]
    assert [d.text for d in ingest(sources)] == ["x/b.md", "x/y/a.md", "x/y/c.txt"]
    write(tmp_path / "odd[1].md", "odd")
    assert [d.text for d in ingest([str(tmp_path / "odd[1].md")])] == ["odd"]


BAD: dict[str, tuple[bytes | None, str]] = {
    "missing.txt": (None, "No such file or directory"),
    "program": (b"\x7fELF\0", "a binary file"),
    "latin.txt": (b"caf\xe9", "not UTF-8 at byte 4; convert it"),
    "half.txt": (b"\xff\xfea", "not UTF-16 at byte"),
    "empty.txt": (b" \n", "the file is empty"),
    "empty.docx": (papers.docx([("", "")]), "the file is empty"),
    "old.doc": (b"\xd0\xcf\x11\xe0\0", "an old or encrypted Office file; save it as .docx"),
    "sheet.xlsx": (papers.archive({"xl/workbook.xml": ""}), "a spreadsheet; save its sheets"),
    "files.zip": (papers.archive({"a": ""}), "a zip archive; unpack it"),
    "locked.pdf": (papers.pdf(["x"], encrypted=True), "encrypted; save it without its password"),
    "scanned.pdf": (papers.pdf([papers.SCANNED]), "scanned: its pages are pictures"),
    "blank.pdf": (papers.pdf([""]), "blank.pdf: empty"),
    "cut.pdf": (PDF[:20], "not a PDF that can be read"),
    "hole.pdf": (PDF.replace(b"5 0 R 7 0 R]", b"5 0 R 0 0 R]"), "page 2 is missing"),
    "cut.docx": (DOCX[: len(DOCX) // 2], "a broken or cut off document"),
    "torn.docx": (papers.docx([("", "x")], head="<oops>"), "a broken or cut off document"),
    "hole.epub": (papers.epub({"a": "x", "b": "y"}, left_out=["b"]), "OEBPS/b is missing"),
    "locked.epub": (papers.epub({"a": "x", "b": "y"}, locked=["b"]), "OEBPS/b is encrypted"),
    "deep.html": (b"<div>" * 5000 + b"x", "nested too deeply"),
    "abyss.html": (b"<div>" * 500_000 + b"x", "nested too deeply"),
}


def test_each_bad_document_is_one_line_and_the_others_go_on(tmp_path: Path) -> None:
    sources = [write(tmp_path / "first.txt", "first")]
    for name, (content, _) in BAD.items():
        sources.append(write(tmp_path / name, content) if content else str(tmp_path / name))
    sources.append(write(tmp_path / "last.txt", "last"))
    errors: list[str] = []
    read = [d.text for d in ingest(sources, on_error=lambda error: errors.append(str(error)))]
    assert read == ["first", "last"]
    for (name, (_, complaint)), error in zip(BAD.items(), errors, strict=True):
        assert error.startswith(str(tmp_path / name)), error
        assert complaint in error
        assert "\n" not in error
    with pytest.raises(InputError, match="No such file"):
        list(ingest([str(tmp_path / "missing.txt")]))


@pytest.mark.parametrize("whole", [PDF, DOCX, EPUB], ids=["pdf", "docx", "epub"])
def test_whatever_is_damaged_is_read_or_refused_in_a_line(whole: bytes) -> None:
    chance = random.Random(0)
    for _ in range(150):
        data = damaged(chance, whole)
        try:
            message = f"some.file: {document_of(data, 'some.file').num_pages}"
        except InputError as error:
            message = str(error)
        assert message.startswith("some.file: ")
        assert len(message) < 300
        assert "\n" not in message


def test_empty_sources_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    errors: list[str] = []
    paths = ["a\0b", "~nobody-of-that-name/x", "x" * 5000]
    sources = [str(tmp_path / "*.pdf"), str(tmp_path / "folder"), *paths]
    assert not list(ingest(sources, on_error=lambda error: errors.append(str(error))))
    assert "no file matches this pattern" in errors[0]
    assert "no files in this folder" in errors[1]
    assert "embedded null" in errors[2]
    assert "home directory" in errors[3]
    assert "File name too long" in errors[4]


def test_pages_that_are_pictures_are_told(tmp_path: Path) -> None:
    pages = ["one", papers.SCANNED, "", papers.SCANNED, papers.SCANNED]
    notes: list[str] = []
    (document,) = ingest([write(tmp_path / "a.pdf", papers.pdf(pages))], on_note=notes.append)
    assert document.num_pages == 5
    assert notes == [
        f"{tmp_path / 'a.pdf'}: no text on 3 of 5 pages (2, 4-5): these may be scanned"
    ]


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_UNPACKED", 1 << 20)
    bomb = papers.docx([("", "0" * (1 << 20))])
    assert len(bomb) < 10_000
    with pytest.raises(InputError, match=r"unpacks to 1,04.,... bytes in 5 files, more than l4"):
        convert(bomb, "bomb.docx")


def test_entities_that_multiply_are_refused(tmp_path: Path) -> None:
    laughs = "".join(
        f'<!ENTITY {name} "{f"&{before};" * 20}">' for before, name in pairwise("abcdefghijklmnop")
    )
    container = f'<!DOCTYPE d [<!ENTITY a "ha">{laughs}]><container>&p;</container>'
    book = papers.archive({"META-INF/container.xml": container})
    with pytest.raises(InputError, match=r"broken or cut off document: META-INF/container\.xml"):
        read_document(Path(write(tmp_path / "a.epub", book)))


def test_absurd_sizes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "MAX_BYTES", 1 << 20)
    with (tmp_path / "zero").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(InputError, match=r"zero: larger than 1 MiB; split the file"):
        read_document(tmp_path / "zero")


def test_what_never_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"zero: a device, not a file"):
        read_document(Path("/dev/zero"))
    monkeypatch.setattr(texts, "MAX_WAIT", 0.1)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"pipe: a pipe that no program writes to"):
        read_document(tmp_path / "pipe")


def test_a_file_that_changes_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.txt"
    write(path, "one\n")
    opened = Path.open

    class Growing(BufferedReader):
        def read(self, *args: Any) -> bytes:
            with opened(path, "ab") as other:
                other.write(b"two\n")
            return super().read(*args)

    def open_growing(self: Path, *args: Any) -> Any:
        return Growing(opened(self, *args).detach())

    monkeypatch.setattr(Path, "open", open_growing)
    with pytest.raises(InputError, match=r"log\.txt: it changed while it was read"):
        read_document(path)


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"piped",))
    writer.start()
    assert read_document(pipe).text == "piped"
    writer.join()


def test_titles_do_nothing_to_a_terminal(tmp_path: Path) -> None:
    document = read_document(Path(write(tmp_path / "a.md", "# \x1b[31mred\x07\n")))
    assert document.headings[0].title == "[31mred"


@pytest.mark.parametrize("ending", ["pdf", "docx"])
def test_a_damaged_document_is_named_as_such(ending: str) -> None:
    with pytest.raises(InputError, match=f"not a valid {ending.upper()} file"):
        decode(b"\0\1\2\xff" * 99, f"thesis.{ending}")
