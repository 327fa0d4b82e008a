"""`--experts N`: another number of experts per token is another model, everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from checkpoints import write_checkpoint
from conftest import L4
from decoders import write_decoder

import convert
from l4cli.engine.llamacpp import LlamaBackend, LlamaModel
from l4cli.engine.types import BatchItem
from l4cli.errors import UsageError
from l4cli.loading.load import find_model, load
from l4cli.speeds import DecodeRate, recall, remember


def logits(model: LlamaModel) -> np.ndarray:
    backend = LlamaBackend(model, n_ctx=128, n_outputs=64, n_threads=1)
    backend.decode([BatchItem(0, 0, list(range(40)), True, wants_all=True)])
    found = backend.kept().copy()
    backend.close()
    return found


def test_the_numbers_are_those_of_a_file_that_says_so(tiny_gguf: Path, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "model", num_experts_per_tok=3)
    convert.convert(convert.plan(tmp_path / "model", "F32"), tmp_path / "three.gguf")
    found = {}
    for name, path, experts in (
        ("one", tiny_gguf, None),
        ("told", tiny_gguf, 3),
        ("said", tmp_path / "three.gguf", None),
        ("same", tmp_path / "three.gguf", 3),
    ):
        with load(path, experts=experts) as llm:
            assert isinstance(llm.vocabulary, LlamaModel)
            found[name] = logits(llm.vocabulary)
    assert not np.array_equal(found["one"], found["told"])
    assert np.array_equal(found["told"], found["said"])
    assert np.array_equal(found["said"], found["same"])


def test_nothing_kept_of_one_serves_the_other(tiny_gguf: Path) -> None:
    tokens = list(range(5, 305))
    prints = {}
    for experts in (None, 2, 1):
        with load(tiny_gguf, experts=experts, store=True, ctx=1024) as llm:
            prints[experts] = llm.fingerprint
            if experts == 2:
                assert llm.recall(tokens) == 0
                assert not recall(llm.conditions).decode
            else:
                assert (llm.recall(tokens) > 0) is (experts == 1)
            llm.generate(tokens, max_tokens=1)
            assert llm.remember(tokens) > 0 or experts == 1
            remember(llm.conditions, DecodeRate(1, 0, 10.0), busy=False)
    assert prints[None] == prints[1]  # as many as the file says
    assert prints[2] != prints[1]


def test_the_shape_knows_it(tiny_gguf: Path) -> None:
    file = find_model(str(tiny_gguf))
    more = file.with_experts(4)
    assert (file.shape.n_experts_used, more.shape.n_experts_used) == (1, 4)
    assert more.shape.n_ff_experts == 4 * file.shape.n_ff_experts
    assert more.weights_identity != file.weights_identity
    assert file.with_experts(1) is file.with_experts(None) is file


@pytest.mark.parametrize("experts", [0, -1, 17])
def test_numbers_that_there_are_not(tiny_gguf: Path, experts: int) -> None:
    with pytest.raises(UsageError, match=rf"--experts {experts}: .* to 1 to 16 experts"):
        load(tiny_gguf, experts=experts)


def test_a_dense_model_has_none(tmp_path: Path) -> None:
    write_decoder(tmp_path / "model", "llama3")
    convert.convert(convert.plan(tmp_path / "model", "F32"), tmp_path / "dense.gguf")
    with pytest.raises(UsageError, match="--experts 1: dense has no experts"):
        load(tmp_path / "dense.gguf", experts=1)


@pytest.mark.parametrize(
    "command",
    [
        ("chat", "-m", "MODEL", "-p", "hi"),
        ("run", "-m", "MODEL", "ROWS"),
        ("run", "-m", "MODEL", "ROWS", "--dry-run"),
        ("ask", "-m", "MODEL", "ROWS", "-q", "what"),
        ("bench", "MODEL"),
        ("eval", "MODEL"),
        ("experts", "MODEL"),
    ],
)
def test_every_command_says_so_in_one_line(
    l4: L4, tiny_gguf: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "hello"}\n')
    words = [{"MODEL": str(tiny_gguf), "ROWS": str(rows)}.get(word, word) for word in command]
    done = l4(*words, "--experts", "99")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--experts 99: tiny sends each token to 1 to 16 experts" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_run_does_not_go_on_with_another_number(l4: L4, tiny_gguf: Path, tmp_path: Path) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    rows.write_text('{"prompt": "hello"}\n{"prompt": "world"}\n')
    run = ("run", str(rows), "-o", str(out), "-m", str(tiny_gguf), "-n", "4", "--temperature", "0")
    assert l4(*run, "--experts", "2").returncode == 0
    kept = out.read_bytes()
    for more in ((), ("--experts", "3")):
        done = l4(*run, *more, "--resume")
        assert done.returncode == 2, done.stderr
        assert out.read_bytes() == kept
    assert l4(*run, "--experts", "2", "--resume").returncode == 0
    assert out.read_bytes() == kept


def test_eval_tells_what_it_costs(l4: L4, tiny_gguf: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("one two three four five six seven. " * 40)
    done = l4(
        "eval", str(tiny_gguf), "--experts", "2", "--against", str(tiny_gguf), "--ctx", "32",
        "--text", str(text), "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [found] = json.loads(done.stdout)["models"]
    assert found["model"] == "tiny with 2 experts"
    assert found["kld"]["mean"] > 1e-3
