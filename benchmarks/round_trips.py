"""Texts full of numbers through other programs' documents: does the model read every number?

    python -m benchmarks.round_trips [--texts 20] [--first 0] [--keep DIR]

Each text, made by seed, has headings, numbers, superscripts, subscripts, tables, nested lists,
quotations, definitions, footnotes and struck text. pandoc writes it as DOCX, EPUB and HTML, and
LibreOffice makes PDF, ODT, DOCX and HTML of that. Every number and every power of the source
must be in what l4 reads, and no other number. Formats whose program is missing are skipped
(apt-get install pandoc libreoffice-writer). Documents that fail are kept. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from l4cli.documents import read_document

NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_AT_ONCE = 10  # texts that LibreOffice gets with one start
_WORDS = ("pump", "valve", "cells", "water", "pressure", "of", "the", "and", "was", "litres")
_UNITS = ("m", "cm", "x", "CO", "H", "km")


@dataclass
class Source:
    """A text in Markdown, the numbers in it, and strings that must be read as they are.

    items: the numbers of list items. LibreOffice's HTML has others, where a list goes on.
    """

    markdown: str = ""
    numbers: set[str] = field(default_factory=set)
    items: set[str] = field(default_factory=set)
    strings: set[str] = field(default_factory=set)


def main() -> int:
    options = parse()
    pandoc = options.pandoc or shutil.which("pandoc")
    if pandoc is None:
        print(json.dumps({"skipped": "pandoc is missing"}))
        return 0
    soffice = shutil.which("soffice")
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        for first in range(options.first, options.first + options.texts, _AT_ONCE):
            seeds = range(first, min(first + _AT_ONCE, options.first + options.texts))
            sources = {seed: make(random.Random(seed)) for seed in seeds}
            for seed, path in written(sources, Path(scratch) / str(first), pandoc, soffice):
                wrong = compared(sources[seed], path)
                outcomes[f"{path.parent.name} {path.suffix}{': wrong' if wrong else ''}"] += 1
                if wrong:
                    kept = options.keep / f"{seed}-{path.parent.name}{path.suffix}"
                    options.keep.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, kept)
                    print(f"{kept}: {wrong}", flush=True)
            print(json.dumps(dict(sorted(outcomes.items()))), file=sys.stderr, flush=True)
    print(json.dumps(dict(sorted(outcomes.items()))))
    return 1 if any(outcome.endswith("wrong") for outcome in outcomes) else 0


def make(chance: random.Random) -> Source:
    """Return a random text."""
    source = Source()
    blocks = [f"# Report {_number(chance, source)}", *_paragraphs(chance, source)]
    makers = (_list, _list, _table, _table, _quotation, _definition, _heading)
    for maker in chance.sample(makers, chance.randint(2, len(makers))):
        blocks += [maker(chance, source), *_paragraphs(chance, source)]
    year = _number(chance, source)
    notes = [f"[^{n}]: Note {_words(chance, source, 3)}." for n in range(1, 3)]
    source.numbers.update(("1", "2"))
    blocks += [f"In {year}[^1] and later[^2].", *notes, ""]
    source.markdown = "\n\n".join(blocks)
    return source


def _paragraphs(chance: random.Random, source: Source) -> Iterator[str]:
    for _ in range(chance.randint(1, 3)):
        yield f"Here {_words(chance, source, chance.randint(5, 30))} end."


def _words(chance: random.Random, source: Source, count: int) -> str:
    """Words, among them numbers and powers, struck, in bold, in italics, as a link or as code."""
    words = []
    for _ in range(count):
        kind = chance.random()
        if kind < 0.15:
            base, power = _number(chance, source), str(chance.choice((6, -7, 12, 100)))
            source.numbers.add(power.lstrip("-"))
            source.strings.add(f"{base}^{power}")
            words.append(f"{base}^{power}^")
        elif kind < 0.3:
            unit, index = chance.choice(_UNITS), str(chance.randint(2, 99))
            source.numbers.add(index)
            mark = chance.choice("^~")
            source.strings.add(f"{unit}{'_' if mark == '~' else '^'}{index}")
            words.append(f"{unit}{mark}{index}{mark}")
        elif kind < 0.5:
            form = chance.choice(("~~{}~~", "**{}**", "*{}*", "`{}`", "[{}](http://a.example/)"))
            words.append(form.format(_number(chance, source)))
        elif kind < 0.65:
            words.append(_number(chance, source))
        else:
            words.append(chance.choice(_WORDS))
    return " ".join(words)


def _list(chance: random.Random, source: Source, level: int = 0) -> str:
    """A list, with numbers or bullets; items of the outer levels may have lists in them."""
    first = chance.randint(1, 40) if chance.random() < 0.6 else None
    lines = []
    for n in range(chance.randint(2, 4)):
        mark = "-   " if first is None else f"{first + n}.".ljust(4)
        if first is not None:
            source.items.add(str(first + n))
        lines.append(f"{'    ' * level}{mark}item {_words(chance, source, 3)}")
        if level < 2 and chance.random() < 0.3:
            lines.append(_list(chance, source, level + 1))
    return "\n".join(lines)


def _table(chance: random.Random, source: Source) -> str:
    num_columns = chance.randint(2, 4)

    def row(start: str) -> str:
        cells = [_words(chance, source, chance.randint(1, 2)) for _ in range(num_columns - 1)]
        return f"| {' | '.join([start, *cells])} |"

    rows = [row(f"row {_number(chance, source)}") for _ in range(chance.randint(1, 5))]
    rule = "|".join(chance.choice(("---", ":--", "--:", ":-:")) for _ in range(num_columns))
    return "\n".join([row("name"), f"|{rule}|", *rows])


def _quotation(chance: random.Random, source: Source) -> str:
    return f"> It says {_words(chance, source, 8)}."


def _definition(chance: random.Random, source: Source) -> str:
    return f"Term {_number(chance, source)}\n\n:   It is {_words(chance, source, 5)}."


def _heading(chance: random.Random, source: Source) -> str:
    return f"{'#' * chance.randint(2, 4)} Part {_words(chance, source, 3)}"


def _number(chance: random.Random, source: Source) -> str:
    """Return a number that the source notes."""
    number = chance.choice(
        (
            str(chance.randint(2, 99)),
            str(chance.randint(1900, 2030)),
            f"{chance.randint(1, 999)},{chance.randint(0, 999):03}",
            f"{chance.randint(0, 99)}.{chance.randint(0, 99):02}",
        )
    )
    source.numbers.add(number)
    return number


def written(
    sources: Mapping[int, Source], folder: Path, pandoc: str, soffice: str | None
) -> Iterator[tuple[int, Path]]:
    """Yield the documents that the programs write, with the seeds of their texts."""
    plain, office = folder / "pandoc", folder / "libreoffice"
    plain.mkdir(parents=True)
    for seed, source in sources.items():
        text = folder / f"{seed}.md"
        text.write_text(source.markdown)
        for kind in ("docx", "epub", "html"):
            path = plain / f"{seed}.{kind}"
            command = [pandoc, "-s", "--metadata", "title=T", str(text), "-o", str(path)]
            subprocess.run(command, check=True, capture_output=True)
            yield seed, path
    if soffice is None:
        return
    for kind, whence in (
        ("pdf", plain / "{}.docx"),
        ("odt", plain / "{}.docx"),
        ("docx", office / "{}.odt"),
        ("html", office / "{}.odt"),
    ):
        files = [str(whence).format(seed) for seed in sources]
        command = [soffice, "--headless", "--convert-to", kind, "--outdir", str(office), *files]
        subprocess.run(command, check=True, capture_output=True)
        if kind != "odt":
            yield from ((seed, office / f"{seed}.{kind}") for seed in sources)


def compared(source: Source, path: Path) -> str:
    """Return what l4 reads wrongly of a document, "" for nothing."""
    text = " ".join(read_document(path).text.replace("−", "-").split())
    text = re.sub(r"\^\(([^()]*)\)", r"^\1", text)
    found = set(NUMBER.findall(text))
    items = set() if path.parent.name == "libreoffice" and path.suffix == ".html" else source.items
    wrong = {
        "missing": sorted((source.numbers | items) - found),
        "other": sorted(found - source.numbers - source.items),
        "changed": sorted(string for string in source.strings if string not in text),
    }
    return ", ".join(f"{what} {values}" for what, values in wrong.items() if values)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--pandoc", help="the program, if it is not on the PATH")
    parser.add_argument("--keep", type=Path, default=Path("round-trips"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
