"""Texts full of numbers through other programs' documents: does the model read every number?

    python -m benchmarks.round_trips [--texts 20] [--first 0] [--keep DIR]

Each text, made by seed, has numbers, superscripts, subscripts, a table, lists, footnotes and struck
text. pandoc writes it as DOCX, EPUB, HTML and ODT, and LibreOffice makes PDF, DOCX and HTML of
these. Every number and every power of the source must be in what l4 reads, and no other number.
Formats whose program is missing are skipped (apt-get install pandoc libreoffice-writer). The
documents that fail are kept. The last line is JSON.
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
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from l4cli.documents import read_document

NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_WORDS = ("pump", "valve", "cells", "water", "pressure", "of", "the", "and", "was", "litres")
_UNITS = ("m", "cm", "x", "CO", "H", "km")


@dataclass
class Source:
    """A text in Markdown, the numbers in it, and strings that must be read as they are."""

    markdown: str = ""
    numbers: set[str] = field(default_factory=set)
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
        for seed in range(options.first, options.first + options.texts):
            source = make(random.Random(seed))
            for path in written(source, Path(scratch) / str(seed), pandoc, soffice):
                wrong = compared(source, path)
                outcomes[f"{path.parent.name} {path.suffix}{': wrong' if wrong else ''}"] += 1
                if wrong:
                    kept = options.keep / f"{seed}-{path.parent.name}{path.suffix}"
                    options.keep.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, kept)
                    print(f"{kept}: {wrong}", flush=True)
    print(json.dumps(dict(sorted(outcomes.items()))))
    return 1 if any(outcome.endswith("wrong") for outcome in outcomes) else 0


def make(chance: random.Random) -> Source:
    """Return a random text."""
    source = Source()
    paragraphs = [f"# Report {_number(chance, source)}", *_paragraphs(chance, source)]
    first = chance.randint(1, 40)
    items = [f"{first + n}. item {_number(chance, source)}" for n in range(3)]
    source.numbers.update(str(first + n) for n in range(3))
    rows = [f"| r{n} | {_number(chance, source)} | {_number(chance, source)} |" for n in range(3)]
    source.numbers.update(str(n) for n in range(3))
    table = "\n".join(["| name | first | second |", "|---|---|---|", *rows])
    notes = [f"[^{n}]: Note {_number(chance, source)}." for n in range(1, 3)]
    source.numbers.update(("1", "2"))
    year = _number(chance, source)
    paragraphs += ["\n".join(items), table, f"In {year}[^1] and later[^2]."]
    source.markdown = "\n\n".join([*paragraphs, *notes, ""])
    return source


def _paragraphs(chance: random.Random, source: Source) -> Iterator[str]:
    for _ in range(chance.randint(2, 5)):
        words = []
        for _ in range(chance.randint(5, 30)):
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
            elif kind < 0.4:
                words.append(f"~~{_number(chance, source)}~~")
            elif kind < 0.6:
                words.append(_number(chance, source))
            else:
                words.append(chance.choice(_WORDS))
        yield " ".join(["Here", *words, "end."])


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


def written(source: Source, folder: Path, pandoc: str, soffice: str | None) -> Iterator[Path]:
    """Yield the documents that the programs write."""
    plain = folder / "pandoc"
    plain.mkdir(parents=True)
    (folder / "text.md").write_text(source.markdown)
    for kind in ("docx", "epub", "html", "odt"):
        path = plain / f"text.{kind}"
        command = [pandoc, "-s", "--metadata", "title=T", str(folder / "text.md"), "-o", str(path)]
        subprocess.run(command, check=True, capture_output=True)
        if kind != "odt":
            yield path
    if soffice is None:
        return
    office = folder / "libreoffice"
    for kind, whence in (("pdf", "docx"), ("docx", "odt"), ("html", "odt")):
        command = [soffice, "--headless", "--convert-to", kind, "--outdir", str(office)]
        subprocess.run([*command, str(plain / f"text.{whence}")], check=True, capture_output=True)
        yield office / f"text.{kind}"


def compared(source: Source, path: Path) -> str:
    """Return what l4 reads wrongly of a document, "" for nothing."""
    text = " ".join(read_document(path).text.replace("−", "-").split())
    text = re.sub(r"\^\(([^()]*)\)", r"^\1", text)
    found = set(NUMBER.findall(text))
    wrong = {
        "missing": sorted(source.numbers - found),
        "other": sorted(found - source.numbers),
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
