"""Memory arithmetic, compared with llama.cpp's own figures and with known sizes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checkpoints import MORE_SIZES, PUBLISHED_SHAPES, SIZES, make_config
from hollow import Oracle, gemma3, write_header, write_hollow
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.gguf.fields import Field, i32, u16
from convert.gguf.file import GGUFTensor
from convert.outline import outline
from l4cli.errors import InputError, UsageError
from l4cli.fit.cache_shape import read_cache
from l4cli.fit.described import described_shape
from l4cli.fit.hardware import Gpu, Hardware
from l4cli.fit.memory import ContextSpec, compute_buffer, kv_cache, logits, memory_use
from l4cli.fit.plan import make_row
from l4cli.fit.shape import ModelShape, shape_of, shape_of_file
from l4cli.models.registry import load_registry

GIB = 1 << 30
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128_256,
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-5,
}
QWEN3 = LLAMA | {
    "architectures": ["Qwen3ForCausalLM"],
    "num_hidden_layers": 36,
    "head_dim": 128,
    "intermediate_size": 12_288,
    "vocab_size": 151_936,
    "max_position_embeddings": 40_960,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "scout": make_config("scout", **PUBLISHED_SHAPES),
    "maverick": make_config("maverick", **PUBLISHED_SHAPES),
    "llama 8B": LLAMA,
    "llama 1B": LLAMA
    | {
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "intermediate_size": 8192,
        "head_dim": 64,
        "tie_word_embeddings": True,
    },
    "qwen3 8B": QWEN3,
    "qwen3 0.6B": QWEN3
    | {"hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 3072},
    "qwen3 30B-A3B": QWEN3
    | {
        "architectures": ["Qwen3MoeForCausalLM"],
        "hidden_size": 2048,
        "num_key_value_heads": 4,
        "moe_intermediate_size": 768,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "norm_topk_prob": True,
    },
    "mixtral": LLAMA
    | {
        "architectures": ["MixtralForCausalLM"],
        "vocab_size": 32_000,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
    },
}


KEYS = (
    "block_count", "context_length", "embedding_length", "expert_count", "expert_used_count",
    "expert_feed_forward_length", "attention.head_count", "attention.head_count_kv",
    "attention.key_length", "attention.value_length", "attention.sliding_window",
    "attention.sliding_window_pattern", "attention.kv_lora_rank", "attention.key_length_mla",
)  # fmt: skip
TINY = make_config("scout", max_position_embeddings=1 << 20)


def described(config: dict[str, Any], ftype: str = "Q4_K_M") -> ModelShape:
    model = outline(config, "a test")
    return shape_from({**model.fields}, model.types(ftype), model.architecture)


def shape_from(
    fields: dict[str, Field], tensors: dict[str, GGUFTensor], architecture: str
) -> ModelShape:
    values = {key: field.value for key, field in fields.items()}
    return shape_of({**values, "general.architecture": architecture}.get, tensors, name="a test")


def contexts() -> Iterator[ContextSpec]:
    """Contexts that differ in length, sequences, ubatch, KV type, and pool or regions."""
    for n_ctx, kv_type in itertools.product((4096, 131_072), ("f16", "q8_0")):
        for n_seq_max, unified in ((1, True), (4, False), (16, True), (16, False)):
            yield ContextSpec(n_ctx, n_seq_max, 512, kv_type, unified)
    yield ContextSpec(32_768, n_ubatch=256)
    yield ContextSpec(65_536, 8, 512, "q4_0", unified=False)
    yield ContextSpec(32_768, 2, 1024, "q8_0")


def agrees(path: Path, shape: ModelShape) -> None:
    oracle = Oracle(path)
    try:
        for spec in contexts():
            told = oracle.ask(spec)
            rounding = 6000  # the log has two digits of a MiB
            assert sum(kv_cache(shape.cache, spec)) == pytest.approx(told.kv, abs=rounding), spec
            compute = compute_buffer(shape, spec)
            assert compute == pytest.approx(told.compute, rel=0.01, abs=rounding), spec
            assert logits(shape, spec) == pytest.approx(told.output, rel=0.01, abs=rounding), spec
    finally:
        oracle.close()


@pytest.mark.parametrize("name", CONFIGS)
def test_kv_cache_and_compute_buffer_are_llama_cpps_own(name: str, tmp_path: Path) -> None:
    path = write_hollow(tmp_path / "hollow.gguf", CONFIGS[name], "Q4_K_M")
    agrees(path, described(CONFIGS[name]))


def test_a_model_of_sliding_windows(tmp_path: Path) -> None:
    fields, tensors = gemma3(n_layers=48, n_embd=3840, n_ff=15360, n_heads=16, n_kv=8)
    path = write_header(tmp_path / "hollow.gguf", fields, tensors)
    shape = shape_from(fields, tensors, "gemma3")
    assert shape.cache.windows[:6] == (1024, 1024, 1024, 1024, 1024, 0)
    agrees(path, shape)


@pytest.mark.parametrize("name", SIZES)
def test_sizes_of_every_type_with_no_file_present(name: str) -> None:
    registry = load_registry()
    for ftype, gigabytes in (SIZES[name] | MORE_SIZES[name]).items():
        shape = described_shape(registry.models[name], ftype, registry)
        assert shape.n_bytes == pytest.approx(gigabytes * 1e9, rel=0.005), ftype


@pytest.mark.parametrize(
    ("name", "n_bytes"),  # of the published files, which also have a vocabulary of up to 6 MB
    [("smollm2", 386e6), ("qwen3-0.6b", 639_446_688), ("qwen3-1.7b", 1_834_426_016)],
)
def test_sizes_of_models_that_use_their_embeddings_twice(name: str, n_bytes: float) -> None:
    registry = load_registry()
    shape = described_shape(registry.models[name], "Q8_0", registry)
    assert shape.is_tied
    assert shape.n_bytes == pytest.approx(n_bytes, rel=0.01)


@pytest.mark.parametrize(
    ("kv_type", "sizes"),
    [("f16", (7.2, 49.2, 481.2)), ("q8_0", (3.82, 26.1, 255.6)), ("q4_0", (2.02, 13.8, 135.3))],
)
def test_kv_cache_of_scout_from_128k_to_10m(kv_type: str, sizes: tuple[float, ...]) -> None:
    registry = load_registry()
    for name in ("scout", "maverick"):
        shape = described_shape(registry.models[name], "Q4_K_M", registry)
        for n_ctx, gibibytes in zip((128 << 10, 1 << 20, 10 << 20), sizes, strict=True):
            use = memory_use(shape, n_ctx=n_ctx, kv_type=kv_type)
            per_cell = 2 * 8 * 128 * {"f16": 2, "q8_0": 34 / 32, "q4_0": 18 / 32}[kv_type]
            assert use.kv_global == 12 * n_ctx * per_cell
            assert use.kv_window == 36 * 8704 * per_cell
            assert use.kv / GIB == pytest.approx(gibibytes, rel=0.005)


def test_behemoth_is_sized_from_its_parameters_alone() -> None:
    registry = load_registry()
    shape = described_shape(registry.models["behemoth"], "Q8_0", registry)
    assert shape.n_bytes == pytest.approx(2e12 * 34 / 32, rel=0.01)
    assert not shape.knows_cache
    # 16 experts of 114 billion parameters each, one of them active.
    assert shape.routed_bytes == pytest.approx(16 * 1712e9 / 15 * 34 / 32, rel=0.01)


def test_a_file_has_the_shape_that_its_config_tells(tmp_path: Path) -> None:
    config = CONFIGS["scout"]
    path = write_hollow(tmp_path / "scout.gguf", config, "Q4_K_M")
    shape = shape_of_file(path)
    told = described(config)
    assert (shape.blocks, shape.cache, shape.n_params) == (told.blocks, told.cache, told.n_params)
    assert shape.n_bytes <= path.stat().st_size
    assert shape.n_params_routed == 48 * 16 * 3 * 5120 * 8192


def test_a_split_file_is_one_model(tmp_path: Path) -> None:
    fields, tensors = gemma3(n_layers=6)
    whole = shape_of_file(write_header(tmp_path / "whole.gguf", fields, tensors))
    halves = list(tensors.items())[:20], list(tensors.items())[20:]
    for index, half in enumerate(halves):
        split = {
            "split.no": u16(index),
            "split.count": u16(2),
            "split.tensors.count": i32(len(tensors)),
        }
        name = f"split-0000{index + 1}-of-00002.gguf"
        write_header(tmp_path / name, {**(fields if index == 0 else {}), **split}, dict(half))
    parts = shape_of_file(tmp_path / "split-00001-of-00002.gguf")
    assert (parts.blocks, parts.cache, parts.n_params) == (
        whole.blocks, whole.cache, whole.n_params,
    )  # fmt: skip


def test_where_llama_4_has_neither_windows_nor_metadata() -> None:
    metadata: dict[str, Any] = {
        "general.architecture": "llama4",
        "llama4.block_count": "48",
        "llama4.embedding_length": "5120",
        "llama4.attention.head_count": "40",
        "llama4.attention.head_count_kv": "8",
    }
    assert set(read_cache(metadata.get, "it").windows) == {0, 8192}
    metadata["llama4.attention.sliding_window"] = "0"
    assert set(read_cache(metadata.get, "it").windows) == {0}
    with pytest.raises(InputError, match=r"it: does not say its architecture"):
        read_cache({}.get, "it")


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("block_count", 10**12, "not a number from 1 to 512"),
        ("block_count", -1, "not a number"),
        ("attention.head_count_kv", [8, 8], "has 2 entries for 48 layers"),
        ("embedding_length", "wide", "not a number"),
    ],
)
def test_absurd_metadata_is_one_clear_line(key: str, value: object, complaint: str) -> None:
    model = outline(CONFIGS["scout"], "a test")
    fields: dict[str, Any] = {key: field.value for key, field in model.fields.items()}
    fields |= {"general.architecture": "llama4", f"llama4.{key}": value}
    with pytest.raises(InputError, match=rf"^bad.gguf: llama4.{key} .*{complaint}"):
        shape_of(fields.get, model.types("Q8_0"), name="bad.gguf")


ODD = st.one_of(
    st.integers(-(1 << 63), 1 << 63), st.integers(0, 64), st.floats(), st.text(max_size=4),
    st.lists(st.integers(-1, 300), max_size=60), st.booleans(), st.none(),
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(KEYS), ODD, min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_whatever_the_metadata_says_it_is_planned_or_refused(odd: dict[str, Any]) -> None:
    model = outline(TINY, "a test")
    fields: dict[str, Any] = {key: field.value for key, field in model.fields.items()}
    fields |= {"general.architecture": "llama4"} | {f"llama4.{k}": v for k, v in odd.items()}
    machine = Hardware(64 * GIB, 64 * GIB, 1e11, (Gpu("GPU", 8 * GIB, 8 * GIB, 1e12),))
    try:
        shape = shape_of(fields.get, model.types("Q8_0"), name="odd.gguf")
    except InputError:
        return
    assert make_row("odd", shape, ContextSpec(4096), machine).fit.use.ram.total > 0


def test_unknown_kv_types_and_sizes_below_one() -> None:
    shape = described(CONFIGS["llama 1B"])
    with pytest.raises(UsageError, match="no KV type 'q9_9'"):
        memory_use(shape, n_ctx=1024, kv_type="q9_9")
    with pytest.raises(UsageError, match="1 or more"):
        memory_use(shape, n_ctx=0)
