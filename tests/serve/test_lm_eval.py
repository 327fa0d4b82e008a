"""lm-evaluation-harness against the server and in `l4 eval`: multiple choice, as l4 scores it.

It is many packages, so it belongs to the extra `clients`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from served import served

from l4cli.app import invoke
from l4cli.loading.llm import LLM
from l4cli.loading.load import load

pytestmark = pytest.mark.clients

CHECKPOINT = ROOT / "l4cli/demo/checkpoint"
QUESTIONS = [
    ("What is GGUF?", ["a file format", "a fruit", "a river in Norway", "a kind of music"], 0),
    ("What does a tokenizer do?", ["It cooks.", "It splits text into tokens."], 1),
    ("Wie heißt die Hauptstadt von Norwegen?", ["Bergen", "Tromsø", "Oslo"], 2),
    ("2 + 2 =", ["3", "4", "5", "22"], 1),
    ("Was ist 「量子化」?", ["quantization", "🙂🙂", "nothing at all"], 0),
    ("A llama is", ["an animal", "a model", "an animal\nand a model"], 0),
]
TASK = """
task: choices
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{question}}}}\\nAnswer:"
doc_to_choice: choices
doc_to_target: answer
metric_list:
  - metric: acc
  - metric: acc_norm
"""


@pytest.fixture(scope="module")
def model() -> Iterator[LLM]:
    with load("demo", elastic=True, parallel=4, ctx="auto", threads=2) as llm:
        llm.provide(2048, 4)
        yield llm


def own_logprob(llm: LLM, context: str, choice: str, *, has_bos: bool) -> float:
    """The logprob of a choice behind its context, which may begin with a BOS."""
    bos = [llm.vocabulary.bos_token] if has_bos else []
    num_context = len(bos + llm.vocabulary.tokenize(context))
    tokens = bos + llm.vocabulary.tokenize(context + choice)
    scored = [one for piece in llm.engine.score(tokens) for one in piece]  # from the second on
    return sum(one.logprob for one in scored[num_context - 1 :])


def evaluated(folder: Path, url: str, more: str) -> tuple[dict[str, Any], dict[int, list[float]]]:
    """What lm-eval says: the metrics, and by question the logprobs of its choices."""
    data = folder / "data.jsonl"
    rows = [{"question": q, "choices": c, "answer": a} for q, c, a in QUESTIONS]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "choices.yaml").write_text(TASK.format(data=data))
    arguments = f"model=demo,base_url={url}/v1/completions,tokenizer={CHECKPOINT}{more}"
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "lm_eval", "run", "--model", "local-completions"),
            *("--model_args", arguments, "--tasks", "choices", "--batch_size", "4"),
            *("--include_path", str(folder), "--output_path", str(folder / "out")),
            "--log_samples",
        ],
        env={**os.environ, **offline, "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (results,) = folder.glob("out/**/results_*.json")
    (samples,) = folder.glob("out/**/samples_*.jsonl")
    logprobs = {}
    for sample in map(json.loads, samples.read_text().splitlines()):
        logprobs[sample["doc_id"]] = [float(resps[0][0]) for resps in sample["resps"]]
    return json.loads(results.read_text())["results"]["choices"], logprobs


@pytest.mark.parametrize("more", ["", ",num_concurrent=4", ",add_bos_token=True"])
def test_lm_eval_scores_choices_as_the_engine_does(model: LLM, tmp_path: Path, more: str) -> None:
    has_bos = "bos" in more
    expected = {
        number: [
            own_logprob(model, f"{question}\nAnswer:", f" {choice}", has_bos=has_bos)
            for choice in choices
        ]
        for number, (question, choices, _) in enumerate(QUESTIONS)
    }
    right = [values.index(max(values)) == QUESTIONS[n][2] for n, values in expected.items()]
    with served(model) as url:
        metrics, found = evaluated(tmp_path, url, more)
    assert metrics["acc,none"] == pytest.approx(sum(right) / len(right))
    assert found.keys() == expected.keys()
    for number, values in expected.items():
        assert found[number] == pytest.approx(values, abs=1e-4)


def test_one_task_has_the_same_accuracy_each_way(
    model: LLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The harness on the API, the harness in `l4 eval --lm-eval`, and `l4 eval --task`."""
    with served(model) as url:
        metrics, _ = evaluated(tmp_path, url, ",add_bos_token=True")

    def run(*args: object) -> Any:
        command = ["l4", "eval", "demo", *map(str, args), "--threads", "2", "--json"]
        monkeypatch.setattr(sys, "argv", command)
        assert invoke(debug=False) == 0
        return json.loads(capsys.readouterr().out)["models"][0]

    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf2"))
    found = run("--lm-eval", "choices", "--include-path", tmp_path)["metrics"]
    values = {one["name"]: one for one in found}
    task = tmp_path / "task.jsonl"
    rows = [{"question": f"{q}\nAnswer:", "choices": c, "answer": a} for q, c, a in QUESTIONS]
    task.write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = run("--task", task)
    for name in ("acc", "acc_norm"):
        assert values[name]["value"] == pytest.approx(metrics[f"{name},none"]), name
        assert own[name]["value"] == pytest.approx(metrics[f"{name},none"]), name
        assert values[name]["error"] == pytest.approx(own[name]["error"]), name
    assert values["acc"]["count"] == len(QUESTIONS)
    few = run("--lm-eval", "choices", "--include-path", tmp_path, "--limit", 2)["metrics"]
    assert {one["count"] for one in few} == {2}


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--lm-eval", "choises"], "--lm-eval choises: lm-evaluation-harness has no such task"),
        (["--lm-eval", "empty"], "--lm-eval empty: "),
    ],
)
def test_tasks_that_cannot_be_run_are_told_in_a_line(
    tmp_path: Path, args: list[str], complaint: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    data = tmp_path / "data.jsonl"
    data.write_text("")
    text = TASK.format(data=data)
    (tmp_path / "choices.yaml").write_text(text)
    (tmp_path / "empty.yaml").write_text(text.replace("task: choices", "task: empty"))
    command = ["l4", "eval", "demo", *args, "--include-path", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    assert invoke(debug=False) == 2
    captured = capsys.readouterr()
    lines = [one for one in captured.err.splitlines() if "converting the demo" not in one]
    assert len(lines) == 1
    assert complaint in lines[0]
    assert not captured.out
