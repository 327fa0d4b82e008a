"""Recognizing quantizations by the names of a repository's files."""

from __future__ import annotations

import pytest

from l4cli.errors import ModelNotFoundError
from l4cli.models.quants import by_label, by_pattern, pick
from l4cli.models.splits import missing_files

FILES = [
    "README.md",
    "mmproj-BF16.gguf",
    "imatrix_unsloth.gguf",
    "BF16/Scout-17B-16E-BF16-00001-of-00002.gguf",
    "BF16/Scout-17B-16E-BF16-00002-of-00002.gguf",
    "Q4_K_M/Scout-17B-16E-Q4_K_M-00001-of-00002.gguf",
    "Q4_K_M/Scout-17B-16E-Q4_K_M-00002-of-00002.gguf",
    "Scout-17B-16E-UD-IQ1_S.gguf",
    "scout-17b-16e-q8_0.gguf",
    "MXFP4_MOE/model.gguf",
]


def test_labels_are_in_the_names_of_files_or_directories() -> None:
    found = by_label(FILES)
    assert set(found) == {"BF16", "Q4_K_M", "UD-IQ1_S", "Q8_0", "MXFP4_MOE"}
    assert found["Q4_K_M"] == FILES[5:7]
    assert found["Q8_0"] == ["scout-17b-16e-q8_0.gguf"]


def test_files_that_share_a_label_go_by_their_names() -> None:
    found = by_label(["a-Q8_0.gguf", "b-Q8_0.gguf", "c.gguf", "b-Q4_0.gguf"])
    assert set(found) == {"a-Q8_0", "b-Q8_0", "c", "Q4_0"}


def test_patterns() -> None:
    assert set(by_pattern(FILES, "{quant}/*.gguf")) == {"BF16", "Q4_K_M", "MXFP4_MOE"}
    assert set(by_pattern(FILES, "{quant}/Scout-*-{quant}-*.gguf")) == {"BF16", "Q4_K_M"}
    assert by_pattern(FILES, "Scout-17B-16E-{quant}.gguf") == {
        "UD-IQ1_S": ["Scout-17B-16E-UD-IQ1_S.gguf"]
    }
    assert by_pattern(["a.gguf", "b.gguf"], "a.gguf") == {"default": ["a.gguf"]}
    assert by_pattern(["(a].gguf"], "(a].gguf") == {"default": ["(a].gguf"]}


def test_missing_parts() -> None:
    assert missing_files(FILES[5:7]) == []
    assert missing_files(FILES[5:6]) == FILES[6:7]
    assert missing_files(["x.gguf"]) == []


def test_picking() -> None:
    assert pick(["Q8_0", "Q4_K_M"], None, "x") == "Q4_K_M"
    assert pick(["Q8_0"], None, "x") == "Q8_0"
    assert pick(["UD-IQ1_S", "Q8_0"], "ud-iq1_s", "x") == "UD-IQ1_S"
    for quants, quant, message in (
        ([], None, "x: holds no GGUF files"),
        (["Q8_0", "Q6_K"], None, "x: which quantization. there are Q6_K, Q8_0"),
        (["Q8_0", "Q6_K"], "Q5_K", "x: has no quantization Q5_K; there are Q6_K, Q8_0"),
    ):
        with pytest.raises(ModelNotFoundError, match=message):
            pick(quants, quant, "x")
