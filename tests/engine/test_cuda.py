"""Where weights and cache lie on a real card, according to llama.cpp's report of its buffers.

    python -m pytest -m cuda

needs a CUDA card and a llama-cpp-python that was built for it. Without a card, test_fit_choose.py
tests the list of overrides and the arithmetic.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from checkpoints import write_checkpoint
from hollow import llama_log

import convert
from l4cli.engine.llamacpp import LlamaBackend, LlamaModel
from l4cli.engine.llamacpp.devices import devices
from l4cli.fit.memory import ContextSpec, kv_cache
from l4cli.fit.placement import layer_weights
from l4cli.fit.shape import ModelShape, shape_of_file

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(
        not any(device.id.startswith("CUDA") for device in devices()),
        reason="llama.cpp sees no CUDA card: there is none, or it was not built for one",
    ),
]

ROUNDED = 0.02  # MiB: llama.cpp reports two digits, and pads each tensor to 128 bytes


@pytest.fixture(scope="module")
def maverick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four layers: the first and third are dense, the others have 128 experts."""
    folder = tmp_path_factory.mktemp("maverick")
    checkpoint = write_checkpoint(folder / "checkpoint", kind="maverick")
    return convert.convert(convert.plan(checkpoint, "F16"), folder / "maverick.gguf").path


@pytest.fixture(scope="module")
def shape(maverick: Path) -> ModelShape:
    return shape_of_file(maverick)


@pytest.mark.parametrize("cpu_moe", [0, 2, 4])
def test_exactly_the_routed_experts_stay_in_ram(
    maverick: Path, shape: ModelShape, cpu_moe: int
) -> None:
    with llama_log() as log:
        LlamaModel(maverick, cpu_moe=cpu_moe).close()
    report = "".join(log)
    assert f"offloaded {shape.n_layers + 1}/{shape.n_layers + 1} layers to GPU" in report
    routed = {
        f"blk.{layer}.ffn_{part}_exps.weight"
        for layer in (1, 3)
        if layer < cpu_moe
        for part in ("gate", "up", "down")
    }
    overridden = re.findall(r"tensor (\S+) \(.*buffer type overridden to CPU", report)
    assert set(overridden) == routed
    planned = sum(layer_weights(shape, layer, cpu_moe) for layer in range(shape.n_layers + 1))
    assert on_cards("model", report) == pytest.approx(planned / 2**20, abs=ROUNDED)


def test_with_all_experts_in_ram_the_dense_layers_are_on_the_card(
    maverick: Path, shape: ModelShape
) -> None:
    with llama_log() as log:
        LlamaModel(maverick, cpu_moe=shape.n_layers).close()
    report = "".join(log)
    assert not shape.blocks[0].routed.total  # its wide feed-forward network is dense
    assert shape.blocks[0].dense.total > shape.blocks[1].dense.total
    assert on_cards("model", report) == pytest.approx(shape.dense_bytes / 2**20, abs=ROUNDED)
    layers = dict(re.findall(r"layer +(\d+) assigned to device (\w+)", report))
    assert len(layers) == shape.n_layers + 1
    assert all(device.startswith("CUDA") for device in layers.values())


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
def test_the_cache_lies_with_its_layers(maverick: Path, shape: ModelShape, kv_type: str) -> None:
    model = LlamaModel(maverick, cpu_moe=shape.n_layers)
    with llama_log() as log:
        LlamaBackend(model, n_ctx=16_384, kv_type=kv_type).close()
    model.close()
    planned = sum(kv_cache(shape.cache, ContextSpec(16_384, kv_type=kv_type)))
    assert on_cards("KV", "".join(log)) == pytest.approx(planned / 2**20, abs=ROUNDED)


def test_experts_in_ram_answer(maverick: Path) -> None:
    from l4cli import load

    with load(maverick, ctx=512, gpu_layers="auto", cpu_moe=4) as llm:
        assert llm.generate("Hello", max_tokens=4, temperature=0.0, ignore_eos=True).token_ids


def on_cards(what: str, report: str) -> float:
    """MiB of the buffers of a kind on all cards; the host's pinned memory (CUDA_Host) is RAM."""
    sizes = re.findall(rf"CUDA\d+ {what} buffer size = +([\d.]+) MiB", report)
    assert sizes, report[-2000:]
    return sum(map(float, sizes))
