"""The command `l4 eval` with real models: golden figures, bad input, broken weights, Ctrl-C."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from terminal import CTRL_C, Terminal

from benchmarks.eval import ours_like
from l4cli.app import invoke
from l4cli.demo import demo_gguf
from l4cli.engine.llamacpp import LlamaBackend, LlamaModel
from l4cli.engine.types import BatchItem
from l4cli.eval.session import Evaluation, Subject
from l4cli.speeds import Conditions

GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The demo model as Q8_0 and as Q4_K_M."""
    folder = tmp_path_factory.mktemp("demo")
    return {
        ftype: Path(shutil.copy(demo_gguf(ftype), folder / f"demo-{ftype}.gguf"))
        for ftype in ("Q8_0", "Q4_K_M")
    }


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *args: object
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["l4", "eval", *map(str, args)])
    code = invoke(debug=False)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def close(name: str, ours: str, theirs: str) -> bool:
    """Whether two printed figures differ by one in the last digit, a perplexity by a millionth.

    Both sum float32 numbers, whose last bits depend on how the exponential is computed.
    """
    a, b = float(ours), float(theirs)
    digits = len(theirs.partition(".")[2])
    return abs(a - b) <= max(1.01 * 10**-digits, 1e-6 * abs(b) if "PPL" in name else 0)


def check(value: dict[str, Any], golden: dict[str, str]) -> None:
    ours = ours_like(golden, value)
    assert golden.keys() == ours.keys()
    different = {name: (ours[name], golden[name]) for name in golden if ours[name] != golden[name]}
    assert all(close(name, *pair) for name, pair in different.items()), different
    assert len(different) <= max(2, len(golden) // 4)


def test_figures_are_those_of_llama_perplexity(
    demo: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = json.loads((GOLDEN / "perplexity.json").read_text())
    text = ("--text", GOLDEN / "perplexity.txt", "--ctx", golden["n_ctx"])
    options = (*text, "--chunks", golden["chunks"], "--threads", "2", "--json")
    code, out, _ = run(monkeypatch, capsys, demo["Q8_0"], *options)
    assert code == 0
    [plain] = json.loads(out)["models"]
    check(plain, golden["Q8_0"])

    code, out, _ = run(monkeypatch, capsys, demo["Q4_K_M"], "--against", demo["Q8_0"], *options)
    assert code == 0
    value = json.loads(out)
    [compared] = value["models"]
    check(compared, golden["Q4_K_M against Q8_0"])
    assert value["against"] == "demo-Q8_0"
    assert compared["tokens_scored"] == golden["chunks"] * (golden["n_ctx"] // 2 - 1)
    assert len(compared["worst"]) == 10
    assert compared["worst"][0]["kld"] == pytest.approx(compared["kld"]["maximum"], abs=1e-5)
    assert compared["depths"][0]["start"] == 65


def test_perplexity_is_that_of_each_logit_computed_alone(tiny_gguf: Path, tmp_path: Path) -> None:
    from l4cli.eval.chunks import cut

    model = LlamaModel(tiny_gguf)
    tokens = [model.bos_token or 0, *model.tokenize("one two three four five six " * 30)]
    bos = model.bos_token if model.adds_bos else None
    chunks = cut(tokens, 50, 2, bos, "text")
    evaluation = Evaluation([Subject("tiny", model, Conditions("", n_threads=1))], None, chunks)
    evaluation.run()
    backend = LlamaBackend(model, n_ctx=64)
    expected = []
    for chunk in range(chunks.count):
        backend.truncate(0, 0)
        for at, token in enumerate(chunks.ids(chunk, 0, 49)):
            backend.decode([BatchItem(0, at, [token], True)])
            if at >= 25:
                row = backend.logits(0).astype(np.float64)
                expected.append(math.log(np.exp(row).sum()) - row[tokens[chunk * 50 + at + 1]])
    backend.close()
    model.close()
    (found,) = evaluation.found
    assert found.num_tokens == len(expected) == 2 * 24
    assert found.nll == pytest.approx(expected, rel=1e-3)


def zeroed(source: Path, target: Path, name: str) -> Path:
    """Copy a GGUF with all bytes of one tensor set to zero."""
    from gguf import GGUFReader

    shutil.copy(source, target)
    for tensor in GGUFReader(target, "r+").tensors:
        if tensor.name == name:
            tensor.data[:] = 0
            return target
    raise KeyError(name)


def test_a_broken_tensor_costs_much_more_than_a_quantization(
    demo: dict[str, Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    broken = zeroed(demo["Q8_0"], tmp_path / "zeroed.gguf", "blk.3.attn_output.weight")
    swapped = Path(shutil.copy(demo["Q8_0"], tmp_path / "swapped.gguf"))
    from gguf import GGUFReader

    for tensor in GGUFReader(swapped, "r+").tensors:
        if "ffn_down_exps" in tensor.name:
            tensor.data[:] = tensor.data[::-1].copy()
    same = Path(shutil.copy(demo["Q8_0"], tmp_path / "same.gguf"))
    options = ("--text", GOLDEN / "perplexity.txt", "--ctx", "128", "--chunks", "3")
    code, out, _ = run(
        monkeypatch, capsys, same, broken, swapped, "--against", demo["Q8_0"], *options, "--json"
    )
    assert code == 0
    values = {value["model"]: value for value in json.loads(out)["models"]}
    assert abs(values["same"]["kld"]["mean"]) < 1e-4
    assert values["same"]["same_top"]["mean"] > 0.98
    for name in ("zeroed", "swapped"):
        assert values[name]["kld"]["mean"] > 0.3, name
        assert values[name]["same_top"]["mean"] < 0.8, name

    code, out, _ = run(monkeypatch, capsys, same, broken, "--against", demo["Q8_0"], *options)
    assert code == 0
    assert "compared with demo-Q8_0" in out
    header = next(line for line in out.splitlines() if line.startswith("MODEL"))
    assert header.split() == ["MODEL", "SIZE", "PPL", "±", "KLD", "SAME", "TOP", "TOKENS/S"]
    assert max(map(len, out.splitlines())) <= 80
    assert "#####" in out  # the bar of the broken one


def test_no_logits_are_kept(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The context keeps no more rows than are allowed, and no array has the vocabulary's length."""
    from l4cli.eval import session
    from l4cli.eval.chunks import cut

    made: list[LlamaBackend] = []

    class Watched(LlamaBackend):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(self)

    monkeypatch.setattr(session, "LlamaBackend", Watched)
    monkeypatch.setattr("l4cli.eval.passing.ROWS_BYTES", 1)  # the least
    model = LlamaModel(tiny_gguf)
    subject = Subject("tiny", model, Conditions("", n_threads=1))
    chunks = cut(list(range(256)) * 2, 256, None, None, "text")
    evaluation = Evaluation([subject], subject, chunks)
    evaluation.run()
    assert {backend.n_outputs for backend in made} == {64}
    assert {backend.n_ubatch for backend in made} == {128}
    found = evaluation.found[0].all_compared
    assert {len(array) for array in found} == {chunks.count * chunks.num_scored}
    assert all(array.ndim == 1 for array in found)
    model.close()


def test_rows_whose_memory_was_given_back_are_computed_anew(tiny_gguf: Path) -> None:
    model = LlamaModel(tiny_gguf)
    backend = LlamaBackend(model, n_ctx=256, n_batch=128, n_outputs=128, n_threads=1)
    items = [BatchItem(0, 0, [1 + at % 50 for at in range(128)], True, wants_all=True)]
    backend.decode(items)
    rows = backend.kept()
    before = rows.copy()
    backend.drop_kept()
    if sys.platform == "linux" and before.nbytes > 1 << 16:
        assert not np.array_equal(rows, before)  # the memory is the system's again
    backend.truncate(0, 0)
    backend.decode(items)
    assert np.array_equal(backend.kept(), before)
    backend.close()
    model.close()


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--text", "short.txt"], "short.txt: it has "),
        (["--text", "short.txt", "--rows", "x"], "--text and --rows cannot be given together"),
        (["--task", "task.jsonl", "--chunks", "2"], "--chunks is for texts"),
        (["--task", "task.jsonl", "--against", "demo"], "--against is for texts"),
        (["--task", "task.jsonl"], "task.jsonl:1: it has 1 choice"),
        (["--task", "empty.jsonl"], "empty.jsonl: it has no questions"),
        (["--rows", "empty.jsonl"], "empty.jsonl: it has no rows"),
        (["--rows", "task.jsonl"], "task.jsonl:1: a row needs text, prompt or messages"),
        (["--ctx", "4"], "--ctx must be at least 8, not 4"),
        (["--ctx", "900M"], "was trained for"),
        (["--chunks", "0"], "--chunks"),
        (["--text", "nowhere.txt"], "nowhere.txt: No such file"),
        (["--against", "nowhere.gguf"], "nowhere.gguf"),
    ],
)
def test_bad_input_is_one_line(
    tiny_gguf: Path, tmp_path: Path, args: list[str], complaint: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("short.txt").write_text("a short text\n")
    Path("empty.jsonl").write_text("")
    Path("task.jsonl").write_text('{"question": "q", "choices": ["a"], "answer": 0}\n')
    code, out, err = run(monkeypatch, capsys, tiny_gguf, *args)
    assert code == 2
    assert complaint in err
    assert len(err.splitlines()) == 1
    assert not out


def test_models_of_other_vocabularies_are_not_compared(
    tiny_gguf: Path, demo: dict[str, Path], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    code, out, err = run(monkeypatch, capsys, tiny_gguf, "--against", demo["Q8_0"], "--ctx", "64")
    assert code == 2
    assert err.startswith("l4: tiny and demo-Q8_0 have different vocabularies (")
    assert len(err.splitlines()) == 1
    assert not out


def test_a_model_that_computes_nan_is_told_and_those_before_it_are_shown(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from gguf import GGUFReader

    bad = Path(shutil.copy(tiny_gguf, tmp_path / "bad.gguf"))
    for tensor in GGUFReader(bad, "r+").tensors:
        if tensor.name == "output_norm.weight":
            tensor.data[:] = np.nan
    options = ("--ctx", "64", "--chunks", "2", "--threads", "1")
    code, out, err = run(monkeypatch, capsys, tiny_gguf, bad, *options)
    assert code == 2
    assert "perplexity" in out
    assert "bad: it computed what is no number" in err
    task = tmp_path / "task.jsonl"
    task.write_text('{"question": "q", "choices": ["a", "b"], "answer": 0}\n')
    code, out, err = run(monkeypatch, capsys, bad, "--task", task, "--threads", "1")
    assert code == 2
    assert "bad: it computed what is no number" in err


def test_rows_are_read_as_texts_and_as_conversations(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    rows = tmp_path / "rows.jsonl"
    lines: list[dict[str, Any]] = [
        {"text": "one two three " * 20},
        {"prompt": "four five", "completion": " six seven " * 20},
        {"messages": [{"role": "user", "content": "how are you " * 20}]},
    ]
    rows.write_text("\n".join(map(json.dumps, lines)))
    options = ("--rows", rows, "--ctx", "32", "--json", "--threads", "1")
    code, out, _ = run(monkeypatch, capsys, tiny_gguf, *options)
    assert code == 0
    [value] = json.loads(out)["models"]
    assert value["chunks"] >= 3
    assert value["ppl"]["mean"] > 1


def test_a_task_tells_accuracy_and_each_answer(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    task = tmp_path / "task.jsonl"
    rows: list[dict[str, Any]] = [
        {"question": f"number {at}", "choices": ["one", "two", "a long one"], "answer": at % 3}
        for at in range(9)
    ]
    task.write_text("\n".join(map(json.dumps, [*rows, {"question": "a", "answer": "b"}])))
    code, out, _ = run(monkeypatch, capsys, tiny_gguf, "--task", task, "--json", "--threads", "1")
    assert code == 0
    [value] = json.loads(out)["models"]
    assert value["acc"]["count"] == 9
    assert value["exact_match"]["count"] == 1
    right = sum(one["chosen"] == one["gold"] for one in value["answers"][:9])
    assert value["acc"]["value"] == pytest.approx(right / 9)
    code, out, _ = run(monkeypatch, capsys, tiny_gguf, "--task", task, "--threads", "1")
    assert code == 0
    assert [line.split()[1] for line in out.splitlines()[1:]] == ["acc", "acc_norm", "exact_match"]
    assert max(map(len, out.splitlines())) <= 80


def test_the_built_in_text_is_named_and_long_enough(
    demo: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(monkeypatch, capsys, demo["Q4_K_M"], "--chunks", "1")
    assert code == 0
    assert "the built-in text: 255 tokens scored, 1 chunk of 512" in out
    assert "perplexity" in out


def command(tiny_gguf: Path, *args: str) -> Sequence[str]:
    return [sys.executable, "-m", "l4cli", "eval", str(tiny_gguf), "--threads", "1", *args]


def test_ctrl_c_shows_what_was_measured(tiny_gguf: Path, tmp_path: Path) -> None:
    text = tmp_path / "long.txt"
    text.write_text("one two three four five six seven\n" * 60_000)
    with Terminal(command(tiny_gguf, "--text", str(text))) as terminal:
        terminal.wait_for(r"[1-9][\d,]* of [\d,]+ tokens")
        terminal.type(CTRL_C)
        assert terminal.exit_code() == 130
        assert "stopped" in terminal.text()


def test_an_encoder_is_no_language_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from gguf import GGUFWriter

    path = tmp_path / "bert.gguf"
    writer = GGUFWriter(path, "bert")
    writer.add_tensor("token_embd.weight", np.zeros((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    code, _, err = run(monkeypatch, capsys, path)
    assert code == 2
    assert "is an encoder (bert)" in err
    assert len(err.splitlines()) == 1
