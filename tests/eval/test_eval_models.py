"""`l4 eval` with checkpoints, several candidates, broken models, and the results that are kept."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from encoders import write_encoder
from gguf import GGUFReader
from terminal import CTRL_C, Terminal

import convert
from l4cli.app import invoke
from l4cli.demo import checkpoint_dir, demo_gguf
from l4cli.eval import planning
from l4cli.paths import cache_dir, state_dir

GOLDEN = Path(__file__).parent.parent / "golden"
TEXT = ("--text", str(GOLDEN / "perplexity.txt"), "--ctx", "128", "--chunks", "2")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("demo")
    return {
        ftype: Path(shutil.copy(demo_gguf(ftype), folder / f"demo-{ftype}.gguf"))
        for ftype in ("BF16", "Q8_0", "Q4_K_M", "Q2_K")
    }


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *args: object
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["l4", *map(str, args)])
    code = invoke(debug=False)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def figures(models: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The figures of each model, without its speed."""
    return {one["model"]: {**one, "tokens_per_second": None} for one in models}


def left_over() -> list[str]:
    folder = cache_dir() / "eval"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("ftype", [None, "q8_0"])
def test_a_checkpoint_is_converted_and_removed(
    demo: dict[str, Path], ftype: str | None, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    more = ("--against-type", ftype) if ftype else ()
    command = ("eval", demo["Q4_K_M"], *TEXT, "--json", "--against")
    code, out, err = run(monkeypatch, capsys, *command, checkpoint_dir(), *more)
    assert code == 0, err
    made = ftype.upper() if ftype else "BF16"
    assert json.loads(out)["against"] == f"checkpoint-{made}"
    assert f"converted to {made} for this evaluation" in err
    code, expected, _ = run(monkeypatch, capsys, *command, demo[made])
    assert figures(json.loads(out)["models"]) == figures(json.loads(expected)["models"])
    assert left_over() in ([], ["lock"])


def test_candidates_may_be_checkpoints(
    demo: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("eval", checkpoint_dir(), "--against-type", "Q8_0", *TEXT, "--json")
    code, out, err = run(monkeypatch, capsys, *command)
    assert code == 0, err
    assert [one["model"] for one in json.loads(out)["models"]] == ["checkpoint-Q8_0"]
    assert left_over() in ([], ["lock"])


def test_a_disk_without_room_is_told_before_anything_is_written(
    demo: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    mounted: Path,
) -> None:  # fmt: skip
    monkeypatch.setenv("XDG_CACHE_HOME", str(mounted))
    command = ("eval", demo["Q4_K_M"], *TEXT, "--against", checkpoint_dir())
    code, out, err = run(monkeypatch, capsys, *command)
    assert code == 2
    assert "as Q8_0 it needs" in err
    assert "are free: give a smaller --against-type" in err
    assert not out
    assert left_over() in ([], ["lock"])


def test_what_a_kill_left_is_removed(
    demo: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dead = cache_dir() / "eval" / "dead"
    dead.mkdir(parents=True, exist_ok=True)
    (dead / "model.gguf").write_bytes(b"left")
    command = ("eval", demo["Q4_K_M"], *TEXT, "--against", checkpoint_dir())
    code, _, _ = run(monkeypatch, capsys, *command)
    assert code == 0
    assert left_over() == ["lock"]


def test_ctrl_c_while_a_checkpoint_is_evaluated_leaves_nothing(
    demo: dict[str, Path], tmp_path: Path
) -> None:
    text = tmp_path / "long.txt"
    text.write_text("one two three four five six seven\n" * 60_000)
    command = ["eval", str(demo["Q4_K_M"]), "--against", str(checkpoint_dir()), "--threads", "1"]
    with Terminal([sys.executable, "-m", "l4cli", *command, "--text", str(text)]) as terminal:
        terminal.wait_for(r"[1-9][\d,]* of [\d,]+ tokens")
        terminal.type(CTRL_C)
        assert terminal.exit_code() == 130
    assert left_over() == ["lock"]


def test_candidates_together_have_the_figures_that_each_has_alone(
    demo: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("Q8_0", "Q4_K_M", "Q2_K")
    command = ("eval", "--against", demo["BF16"], *TEXT, "--json")
    found: list[object] = []
    kept = planning.options_together
    monkeypatch.setattr(
        planning, "options_together", lambda *args: found.append(kept(*args)) or found[-1]
    )
    code, out, _ = run(monkeypatch, capsys, *command, *(demo[name] for name in names))
    assert code == 0
    together = figures(json.loads(out)["models"])
    assert len(found) == 1
    assert found[0] is not None
    alone: dict[str, Any] = {}
    for name in names:
        code, out, _ = run(monkeypatch, capsys, *command, demo[name])
        assert code == 0
        alone |= figures(json.loads(out)["models"])
    assert together == alone
    # And where memory is too short for all of them:
    monkeypatch.setattr(planning, "options_together", lambda *args: None)
    code, out, _ = run(monkeypatch, capsys, *command, *(demo[name] for name in names))
    assert figures(json.loads(out)["models"]) == alone


def test_of_candidates_together_one_that_computes_nan_is_left_out(
    demo: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    bad = Path(shutil.copy(demo["BF16"], tmp_path / "bad.gguf"))
    for tensor in GGUFReader(bad, "r+").tensors:
        if tensor.name == "blk.2.attn_norm.weight":
            tensor.data[3] = np.nan
    code, out, err = run(
        monkeypatch, capsys, "eval", bad, demo["Q4_K_M"], "--against", demo["BF16"], *TEXT
    )
    assert code == 2
    assert "demo-Q4_K_M against demo-BF16" in out
    assert "layer 2: blk.2.attn_norm.weight has NaN or infinite weights" in out
    assert err.startswith("l4: bad: it computed what is no number")
    assert len(err.splitlines()) == 1


def test_a_broken_layer_is_named_without_being_asked(
    demo: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    broken = Path(shutil.copy(demo["Q4_K_M"], tmp_path / "broken.gguf"))
    for tensor in GGUFReader(broken, "r+").tensors:
        if tensor.name == "blk.3.attn_output.weight":
            tensor.data[:] = 0
    command = ("eval", broken, demo["Q8_0"], "--against", demo["BF16"], *TEXT)
    code, out, _ = run(monkeypatch, capsys, *command)
    assert code == 0
    assert "layer 3: blk.3.attn_output.weight is all zero" in out
    assert "demo-Q8_0 differs" not in out
    code, out, _ = run(monkeypatch, capsys, *command, "--json")
    assert json.loads(out)["oddities"]["broken"] == [
        {"name": "blk.3.attn_output.weight", "layer": 3, "what": "is all zero"}
    ]
    code, out, _ = run(monkeypatch, capsys, *command, "--find")
    assert "nothing in demo-Q8_0 is broken that demo-BF16 shows" in out


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--find"], "--find compares with a reference: give --against"),
        (["--against-type", "Q8_0"], "--against-type is for checkpoints: none is given"),
        (["--few-shot", "2"], "--few-shot is for tasks of lm-evaluation-harness"),
        (["--lm-eval", "x", "--task", "t.jsonl"], "--task and --lm-eval cannot be given together"),
    ],
)
def test_options_that_need_others_say_so(
    demo: dict[str, Path], args: list[str], complaint: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    code, out, err = run(monkeypatch, capsys, "eval", demo["Q8_0"], *args)
    assert code == 2
    assert complaint in err
    assert len(err.splitlines()) == 1
    assert not out


def test_results_are_kept_and_shown_by_info(
    demo: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    model = Path(shutil.copy(demo["Q4_K_M"], tmp_path / "mine.gguf"))
    long, short = (
        ("--text", GOLDEN / "perplexity.txt", "--ctx", "64", "--chunks", n) for n in "32"
    )
    code, out, _ = run(
        monkeypatch, capsys, "eval", model, "--against", demo["Q8_0"], *long, "--json"
    )
    assert code == 0
    (value,) = json.loads(out)["models"]
    run(monkeypatch, capsys, "eval", model, "--against", demo["Q8_0"], *short)  # over fewer tokens
    run(monkeypatch, capsys, "eval", model, *short)
    code, out, _ = run(monkeypatch, capsys, "info", model)
    assert code == 0
    lines = " ".join(out.split())
    assert f"KLD {value['kld']['mean']:.4f}" in lines
    assert "against demo-Q8_0" in lines
    assert "3 chunks of 64" in lines
    assert max(map(len, out.splitlines())) <= 80
    code, out, _ = run(monkeypatch, capsys, "info", model, "--json")
    kept = json.loads(out)["evaluations"]
    assert [one["chunks"] for one in kept] == [2, 3]
    assert kept[1]["kld"] == pytest.approx(value["kld"]["mean"], abs=1e-7)
    assert not any(one["is_partial"] for one in kept)

    # Another file of the same size that differs only in the middle has no results.
    other = Path(shutil.copy(model, tmp_path / "other.gguf"))
    for tensor in GGUFReader(other, "r+").tensors:
        if tensor.name == "blk.3.attn_output.weight":
            tensor.data[:] = 0
    code, out, _ = run(monkeypatch, capsys, "info", other, "--json")
    assert json.loads(out)["evaluations"] == []
    # A damaged file of results is no obstacle.
    (state_dir() / "evaluations.jsonl").write_text('{"ppl": "x"}\nno json\n[]\n')
    code, out, _ = run(monkeypatch, capsys, "info", model, "--json")
    assert (code, json.loads(out)["evaluations"]) == (0, [])


def test_ctrl_c_keeps_a_partial_result(
    demo: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    text = tmp_path / "long.txt"
    text.write_text("one two three four five six seven\n" * 60_000)
    command = ["eval", str(demo["Q2_K"]), "--threads", "1", "--ctx", "64", "--text", str(text)]
    with Terminal([sys.executable, "-m", "l4cli", *command]) as terminal:
        terminal.wait_for(r"\d,\d{3} of [\d,]+ tokens")
        terminal.type(CTRL_C)
        assert terminal.exit_code() == 130
    code, out, _ = run(monkeypatch, capsys, "info", demo["Q2_K"])
    assert code == 0
    assert "of 64, stopped" in " ".join(out.split())


@pytest.mark.slow
def test_convert_evaluates_and_writes_the_figures_into_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    pattern, plain = tmp_path / "demo-{type}.gguf", tmp_path / "plain.gguf"
    command = ("convert", checkpoint_dir(), "--type", "Q4_K_M", "-o")
    code, out, err = run(
        monkeypatch, capsys, *command, pattern, "--type", "Q8_0", "--eval", "3", "--threads", "2"
    )
    assert code == 0, err
    assert "demo-Q4_K_M against checkpoint-BF16: PPL " in err
    evaluated = tmp_path / "demo-Q4_K_M.gguf"
    assert run(monkeypatch, capsys, *command, plain)[0] == 0
    # Without --eval the bytes are llama.cpp's; with it, only the header is longer.
    assert plain.read_bytes().endswith(evaluated.read_bytes()[-(1 << 20) :])
    assert b"l4.eval." not in plain.read_bytes()[: 1 << 20]

    code, out, _ = run(monkeypatch, capsys, "info", evaluated, "--json")
    metadata = json.loads(out)["metadata"]
    assert 0 < metadata["l4.eval.kld"] < 2
    assert metadata["l4.eval.tokens"] > 0
    assert metadata["l4.eval.against"].rstrip() == "checkpoint-BF16"
    (kept,) = json.loads(out)["evaluations"]
    assert kept["kld"] == pytest.approx(metadata["l4.eval.kld"], rel=1e-6)
    # On another machine the file itself says it.
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
    code, out, _ = run(monkeypatch, capsys, "info", evaluated)
    assert "says the file" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80

    # The same command again replaces only what it would write, and goes on from a whole file.
    before = evaluated.read_bytes()
    again = (*command, evaluated, "--eval", "1")
    code, _, err = run(monkeypatch, capsys, *again, "--resume")
    assert code == 0, err
    assert evaluated.read_bytes()[-(1 << 20) :] == before[-(1 << 20) :]
    assert run(monkeypatch, capsys, *again)[0] == 0

    # What is quantized from it does not carry its figures on.
    small = tmp_path / "small.gguf"
    code, _, err = run(
        monkeypatch, capsys, "quantize", tmp_path / "demo-Q8_0.gguf", "-o", small, "--type",
        "Q4_0", "--eval",
    )  # fmt: skip
    assert code == 0, err
    code, out, _ = run(monkeypatch, capsys, "info", small, "--json")
    assert json.loads(out)["metadata"]["l4.eval.against"].rstrip() == "demo-Q8_0"
    assert convert.describe(small).metadata["l4.eval.kld"] > 0


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--eval", "--verify-only"], "--verify-only writes nothing"),
        (["--eval", "0"], "--eval"),
    ],
)
def test_convert_refuses_what_cannot_be_evaluated(
    tmp_path: Path, args: list[str], complaint: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "x.gguf"
    code, _, err = run(monkeypatch, capsys, "convert", checkpoint_dir(), "-o", out, *args)
    assert code == 2
    assert complaint in err
    assert not out.exists()


def test_an_encoder_is_refused_before_anything_is_converted(
    demo: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    encoder, out = write_encoder(tmp_path / "encoder"), tmp_path / "x.gguf"
    code, _, err = run(monkeypatch, capsys, "convert", encoder, "-o", out, "--eval")
    assert code == 2
    assert "it is an encoder" in err
    assert not out.exists()
    code, _, err = run(monkeypatch, capsys, "eval", demo["Q8_0"], "--against", encoder)
    assert code == 2
    assert "it is an encoder" in err
    assert len(err.splitlines()) == 1
