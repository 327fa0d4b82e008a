"""`l4 run --expert-counts`: which experts each answer used, whatever shares its decodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import L4
from decoders import write_decoder

import convert
from l4cli.engine.llamacpp import LlamaBackend, LlamaModel
from l4cli.engine.llamacpp.routing import RoutingWatcher
from l4cli.engine.types import BatchItem
from l4cli.engine.ubatches import Placed
from l4cli.loading.load import load

TEXTS = ["one two three", "12 + 27 =", "{a: [b, c]}", "hello the world, hello", "x y z"]


def alone(path: Path, prompt: list[int], answer: list[int]) -> dict[int, dict[int, int]]:
    """The experts of an answer's tokens, each computed by itself, the last one left out."""
    model = LlamaModel(path)
    found: dict[int, dict[int, int]] = {}

    def take(layer: int, placed: Placed, chosen: np.ndarray) -> None:
        for pos, row in zip(placed.positions, chosen, strict=True):
            for expert in row.tolist() if pos >= len(prompt) else []:
                own = found.setdefault(layer, {})
                own[expert] = own.get(expert, 0) + 1

    backend = LlamaBackend(model, n_ctx=512, watcher=RoutingWatcher(take))
    backend.decode([BatchItem(0, 0, prompt, True)])
    for at, token in enumerate(answer[:-1]):
        backend.decode([BatchItem(0, len(prompt) + at, [token], True)])
    backend.close()
    model.close()
    return {layer: dict(sorted(found[layer].items())) for layer in sorted(found)}


@pytest.mark.parametrize("parallel", [1, 4])
@pytest.mark.parametrize("elastic", [True, False])
def test_an_answer_has_its_own_experts_in_any_batch(
    tiny_gguf: Path, parallel: int, elastic: bool
) -> None:
    from l4cli.loading.load import find_model, load_file
    from l4cli.loading.options import LoadOptions

    options = LoadOptions(ctx=1024, parallel=parallel, elastic=elastic, expert_counts=True)
    with load_file(find_model(str(tiny_gguf)), options) as llm:
        requests = [
            llm.request(text, raw=True, max_tokens=3 + 4 * number, temperature=0, ignore_eos=True)
            for number, text in enumerate([*TEXTS, TEXTS[0]])
        ]
        llm.fit(requests)
        done = {each.request_id: each for each in llm.engine.generate(requests)}
    for request in requests:
        completion = done[request.id]
        answer = list(completion.token_ids)
        assert completion.experts == alone(tiny_gguf, list(request.prompt), answer)
        assert completion.experts is not None
        for counts in completion.experts.values():
            assert sum(counts.values()) == len(answer) - 1


def test_completions_have_none_unless_asked_for(tiny_gguf: Path) -> None:
    with load(tiny_gguf) as llm:
        assert llm.generate("hello", raw=True, max_tokens=3).experts is None


def total(experts: dict[str, dict[str, int]]) -> int:
    return sum(sum(counts.values()) for counts in experts.values())


def test_rows_of_every_form_have_them(l4: L4, tiny_gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "note.md").write_text("hello the world " * 20)
    rows: list[dict[str, Any]] = [
        {"prompt": "hello"},
        {"messages": [{"role": "user", "content": "hello"}], "n": 2},
        {"document": str(tmp_path / "note.md"), "questions": ["what", "who"]},
        {"custom_id": "x", "method": "POST", "url": "/v1/chat/completions",
         "body": {"messages": [{"role": "user", "content": "hello"}]}},
    ]  # fmt: skip
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    run = ("run", str(path), "-m", str(tiny_gguf), "-n", "5", "--ignore-eos", "--experts", "2")
    done = l4(*run, "--expert-counts")
    assert done.returncode == 0, done.stderr
    plain, choices, document, envelope = map(json.loads, done.stdout.splitlines())
    found = [
        plain["experts"],
        *(choice["experts"] for choice in choices["choices"]),
        *(answer["experts"] for answer in document["answers"]),
        envelope["response"]["body"]["choices"][0]["experts"],
    ]
    assert len(found) == 6
    # Four of five tokens are put into the model, through 4 layers, to 2 experts each.
    assert [total(experts) for experts in found] == [4 * 4 * 2] * 6
    assert "experts" not in l4(*run).stdout


def test_a_dense_model_has_none(l4: L4, tmp_path: Path) -> None:
    write_decoder(tmp_path / "model", "llama3")
    convert.convert(convert.plan(tmp_path / "model", "F32"), tmp_path / "dense.gguf")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "hello"}\n')
    done = l4("run", str(rows), "-m", str(tmp_path / "dense.gguf"), "--expert-counts")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--expert-counts: dense has no experts" in done.stderr
