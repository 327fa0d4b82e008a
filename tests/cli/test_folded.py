"""Notes on a terminal: folded between words, and what is to be pasted stays whole."""

from __future__ import annotations

import pytest

from l4cli.console import folded


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("4.92 bits per weight, 19.4M parameters", ["4.92 bits per weight,", "19.4M parameters"]),
        ("  indented words of a list", ["  indented words of a", "list"]),
        ("go on with: l4 run --resume -o out", ["go on with:", "l4 run --resume -o out"]),
        ("so `l4 chat --session pumps` it is", ["so", "`l4 chat --session pumps`", "it is"]),
        ("/a/very/long/path/to/some/file.gguf", ["/a/very/long/path/to/some/file.gguf"]),
        (
            "l4: --schema: no type 'x'; a type is str",
            ["l4: --schema: no type", "'x'; a type is str"],
        ),
        ("", [""]),
    ],
)
def test_a_line_is_folded_between_words_and_commands_stay_whole(
    text: str, lines: list[str]
) -> None:
    assert folded(text, 22).split("\n") == lines
