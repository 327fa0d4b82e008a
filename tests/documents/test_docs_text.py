"""`l4 docs text` prints what the model reads of documents."""

from __future__ import annotations

from pathlib import Path

import papers
from conftest import L4

from l4cli.documents import read_document
from l4cli.documents.prompt import shown


def test_it_is_the_prompt_to_the_byte(tmp_path: Path, l4: L4) -> None:
    (tmp_path / "a.md").write_text("# One\n\nü  \n\n")
    (tmp_path / "b.pdf").write_bytes(papers.pdf(["Pump", "Valve"]))
    paths = [tmp_path / "a.md", tmp_path / "b.pdf"]
    for chosen in (paths[:1], paths):
        done = l4("docs", "text", *chosen)
        assert done.stdout == "".join(shown([read_document(path) for path in chosen]))
        assert done.returncode == 0


def test_places_are_marked(tmp_path: Path, l4: L4) -> None:
    (tmp_path / "a.md").write_text("Intro\n# One\n\f\ntext\n")
    (tmp_path / "b.pdf").write_bytes(papers.pdf(["Pump", "Valve"], outline=[("Valve", 1)]))
    done = l4("docs", "text", "--places", "a.md", "b.pdf", "gone.txt", cwd=tmp_path)
    assert done.stdout == (
        "--- a.md\n     1  Intro\n"
        '--- "One"\n     2  # One\n     3  \f\n     4  text\n'
        '--- b.pdf\n--- page 1\nPump\n\n--- page 2, "Valve"\nValve\n'
    )
    assert done.returncode == 1
    assert done.stderr == "l4: gone.txt: No such file or directory; continuing without it\n"
