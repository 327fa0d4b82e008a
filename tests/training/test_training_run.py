"""A model is trained from nothing with one command, resumed, exported, converted and asked."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the `train` extra is not installed")

from training import batches, checkpoint, tokenizer  # noqa: E402
from training.render import Renderer  # noqa: E402

pytestmark = pytest.mark.train

ROOT = Path(__file__).resolve().parents[2]
TINY = ("--tokens", 300, "--longest", 200, "--width", 32, "--check", 1)


def python(*words):
    """Run a module of the project; return what it printed."""
    command = [sys.executable, "-m", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two steps, by two processes."""
    folder = tmp_path_factory.mktemp("training") / "run"
    python("training.train", "--out", folder, "--steps", 2, *TINY)
    return folder


def state_of(run):
    return torch.load(run / "state.pt")


def test_from_nothing_to_an_answer(run, tmp_path):
    first = state_of(run)
    assert first["step"] == 2
    printed = python("training.train", "--out", run, "--steps", 3, *TINY)
    assert "momentum" not in printed  # the optimizers' state was found
    second = state_of(run)
    assert second["step"] == 3
    assert any(
        not torch.equal(weight, second["average"][name])
        for name, weight in first["average"].items()
    )

    exported, gguf = tmp_path / "checkpoint", tmp_path / "model.gguf"
    python("training.export", run, exported)
    weights = dict(checkpoint.read(exported).named_parameters())
    for name, weight in second["average"].items():
        torch.testing.assert_close(weights[name], weight, rtol=0.01, atol=0.01)  # it is BF16

    python("l4cli", "convert", exported, "-o", gguf, "--type", "F32")
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(json.dumps({"prompt": "What is l4?", "max_tokens": 4, "temperature": 0}))
    row = json.loads(python("l4cli", "run", "-m", gguf, prompts))
    assert row["usage"]["completion_tokens"] >= 1


def test_a_new_run_starts_from_a_checkpoint(run, tmp_path):
    exported, tuned = tmp_path / "checkpoint", tmp_path / "tuned"
    python("training.export", run, exported)
    # With a learning rate of 0 the weights stay those of the checkpoint.
    python("training.train", "--out", tuned, "--start", exported, "--steps", 1, "--lr", 0, *TINY)
    assert (tuned / "tokenizer.json").read_bytes() == (exported / "tokenizer.json").read_bytes()
    weights = dict(checkpoint.read(exported).named_parameters())
    for name, weight in state_of(tuned)["average"].items():
        assert torch.equal(weight, weights[name])


def test_seed_and_step_decide_the_data(run):
    trained = tokenizer.load(run / "tokenizer.json")

    def ids(seed, step):
        data = batches.step_batches(Renderer(trained), seed, step, 600, 300, parts=2)
        return [batch.ids.tolist() for batch in data]

    assert ids(4, 7) == ids(4, 7)
    assert ids(4, 7) != ids(4, 8)
    assert ids(4, 7) != ids(5, 7)
