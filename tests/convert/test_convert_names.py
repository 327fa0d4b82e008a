"""Names from outside: what may become part of a path."""

from __future__ import annotations

import random

import pytest
from damage import seeds

from convert.names import is_commit, is_file_name, is_path_inside, is_sha256

STEPS = [
    "a",
    "b.gguf",
    "..",
    ".",
    "",
    "/",
    "\\",
    "\0",
    "c d",
    "模型",
    "-x",
    "~",
    "C:",
    "\n",
    "\ud800",
]


@pytest.mark.parametrize("name", ["model.gguf", "模型 1.gguf", ".hidden", "...", "-", "a" * 255])
def test_names_of_files(name: str) -> None:
    assert is_file_name(name)
    assert is_path_inside(f"folder/{name}")


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "a\\b", "/", "a\0", "a\n", "\x7f", "a" * 256, "模" * 86, 3, None, ["a"]],
)
def test_what_is_none(name: object) -> None:
    assert not is_file_name(name)


def test_a_path_inside_never_leaves_its_folder() -> None:
    """Whatever is put together: what is accepted lies below the folder that it is joined to."""
    for seed in seeds(2000):
        rng = random.Random(seed)
        path = "/".join(rng.choice(STEPS) for _ in range(rng.randrange(5)))
        if is_path_inside(path):
            steps = path.split("/")
            assert steps
            assert not {"", ".", ".."} & set(steps), path
            assert not any(sign in path for sign in "\\\0\n"), path


def test_digests() -> None:
    assert is_commit("0123456789abcdef" * 2 + "01234567")
    assert is_sha256("ab" * 32)
    for text in ("", "ab" * 20 + "\n", "AB" * 20, "٣" * 40, None, 7):
        assert not is_commit(text)
    for text in ("ab" * 31, "../" * 21 + "x", "gg" * 32, None):
        assert not is_sha256(text)
