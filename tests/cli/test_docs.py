"""The documentation says what the code does: its tables, its links, its row fields."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT

from l4cli.batch import outputs, rows
from l4cli.batch.outcomes import Failure
from l4cli.documents import Document
from l4cli.engine.types import Completion
from l4cli.openai import fields

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_tables_are_what_the_code_says(page: Path, reference: ModuleType) -> None:
    text = page.read_text("utf-8")
    assert reference.rendered(text) == text, "run: python docs/reference.py"


def test_every_command_has_its_table(reference: ModuleType) -> None:
    text = "".join(page.read_text("utf-8") for page in PAGES)
    missing = [name for name in reference.commands() if f"<!-- options: {name} -->" not in text]
    assert missing == []


def test_every_row_field_is_documented_with_its_type() -> None:
    page = (DOCS / "run.md").read_text("utf-8")
    (table,) = re.findall(r"<!-- row fields[^\n]*\n(.*?)<!-- end -->", page, re.DOTALL)
    documented = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", table, re.MULTILINE))
    assert documented.keys() == rows.FIELDS
    words = {(int,): "integer", (int, float): "number", (bool,): "boolean"}
    for name, types in fields.SCALARS.items():
        assert documented[name] == words[types], name


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8")):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            heads = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads]
            assert anchor in slugs, link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_option_that_a_page_names_exists(page: Path, reference: ModuleType) -> None:
    known = {"--depth", "--no-cache-dir", "--extra-index-url", "--cpus"}
    for command in reference.commands().values():
        for parameter in command.params:
            known.update(parameter.opts, parameter.secondary_opts)
    known.update({"--version", "--verbose", "--debug", "--help"})
    if page.name == "CONTRIBUTING.md":
        return  # it names options of the benchmarks and of other tools
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page.read_text("utf-8")))
    assert named <= known, sorted(named - known)


def test_every_field_of_an_output_row_is_documented() -> None:
    page = (DOCS / "run.md").read_text("utf-8")
    table = page[page.index("## Rows out") : page.index("## Stopping and resuming")]
    documented = set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) | {"id", "model", "document"}
    answered = Completion("1", "", (), "stop", 1, 0, 1, 0.0, 0.0)
    source = rows.DocumentQuestions("x.md", Document("x.md", "text"), ("What?",))
    written = [
        outputs.answer(rows.Row(1, 1, b"", **asked), [answered] * count, "m")
        for count, asked in (
            (1, {"prompt": ""}),
            (1, {"messages": ({"role": "user", "content": ""},)}),
            (2, {"prompt": "", "n": 2}),
            (1, {"document": source}),
        )
    ]
    written.append(outputs.failure(rows.Row(1, 1, b""), Failure("invalid_input", "")))
    assert {name for row in written for name in row} <= documented
