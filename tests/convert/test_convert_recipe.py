"""The recipe: every tensor gets llama.cpp's qtype, and every file llama.cpp's bytes."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

import gguf
import pytest
from checkpoints import RECIPE_MODELS, make_config, write_checkpoint, write_hollow_checkpoint
from conftest import GOLDEN
from marks import slow_but
from quantizer import block_size, picked_types, quantize

import convert
from convert import ConvertError
from convert.gguf.fields import Field, TensorInfo, encode_header, f32, string, u32
from convert.gguf.ftypes import find_ftype
from convert.gguf.qtypes import QTYPES, find_qtype
from convert.kernels.quantize import requires_imatrix
from convert.recipe.choice import choose_qtypes
from convert.recipe.model import Model
from convert.recipe.recipe import needs_imatrix

RECIPES = GOLDEN / "recipe.json"

# Small models whose rows have the lengths that matter.
SMALL = {"num_local_experts": 2, "num_hidden_layers": 4}
NARROW = {"num_local_experts": 4, "use_qk_norm": True}

NEED_IMATRIX = (
    "IQ3_XS", "IQ3_XXS", "Q2_K_S", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S",
)  # fmt: skip
NEED_NONE = [ftype for ftype in convert.FTYPES if ftype not in NEED_IMATRIX]


def one_pass(checkpoint: Path, ftype: str, out: Path) -> Path:
    convert.convert(convert.plan(checkpoint, ftype), out, overwrite=True)
    return out


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("small") / "model", dtype="F32", **SMALL)


@pytest.fixture(scope="module")
def base(checkpoint: Path) -> Path:
    return one_pass(checkpoint, "F32", checkpoint.with_name("base.gguf"))


@pytest.mark.parametrize("ftype", slow_but(("F16", "Q8_0", "Q4_0", "Q4_K_M", "Q5_K_S"), NEED_NONE))
def test_one_pass_equals_two_steps(ftype: str, checkpoint: Path, base: Path) -> None:
    ours = one_pass(checkpoint, ftype, base.with_name("ours.gguf")).read_bytes()
    assert ours == quantize(base, ftype)


@pytest.mark.parametrize("width", [64, 48])  # neither is whole blocks of 256, 48 not even of 32
@pytest.mark.parametrize(
    "ftype", slow_but(("Q4_K_M", "Q8_0"), ["Q6_K", "Q5_K_M", "Q4_K_M", "IQ4_XS", "Q2_K", "Q8_0"])
)
def test_fallback_of_odd_rows_equals_two_steps(ftype: str, width: int, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(
        tmp_path / "model", kind="maverick", dtype="F32", intermediate_size=width, **NARROW
    )
    base = one_pass(checkpoint, "F32", tmp_path / "base.gguf")
    ours = one_pass(checkpoint, ftype, tmp_path / "ours.gguf").read_bytes()
    assert ours == quantize(base, ftype)


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_half_precision_checkpoints_equal_two_steps(dtype: str, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "model", dtype=dtype, **SMALL)
    base = one_pass(checkpoint, dtype, tmp_path / "base.gguf")
    ours = one_pass(checkpoint, "Q4_K_M", tmp_path / "ours.gguf").read_bytes()
    assert ours == quantize(base, "Q4_K_M")


def test_tied_embeddings_equal_two_steps(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(
        tmp_path / "model", dtype="F32", tie_word_embeddings=True, **SMALL
    )
    base = one_pass(checkpoint, "F32", tmp_path / "base.gguf")
    ours = one_pass(checkpoint, "Q4_K_M", tmp_path / "ours.gguf").read_bytes()
    assert ours == quantize(base, "Q4_K_M")


@pytest.mark.parametrize("has_imatrix", [False, True])
@pytest.mark.parametrize("name", RECIPE_MODELS)
def test_real_shapes_get_the_types_llama_cpp_picks(
    name: str, has_imatrix: bool, tmp_path: Path
) -> None:
    kind, shapes = RECIPE_MODELS[name]
    checkpoint = write_hollow_checkpoint(tmp_path / "model", kind=kind, shapes=shapes)
    config = make_config(kind, **shapes)
    n_gqa = config["num_attention_heads"] // config["num_key_value_heads"]
    model = Model(config["num_hidden_layers"], config["num_local_experts"], n_gqa)
    tensors = [(tensor.name, tensor.shape) for tensor in convert.plan(checkpoint, "F32").tensors]
    golden = json.loads(RECIPES.read_text())[name]
    assert list(golden["plain"]) == list(convert.FTYPES)
    for ftype in convert.FTYPES:
        picked: dict[str, list[str]] = {}
        qtypes = choose_qtypes(tensors, find_ftype(ftype), model, has_imatrix=has_imatrix)
        for tensor, qtype in qtypes.items():
            picked.setdefault(_kind(tensor), []).append(qtype)
        expected = golden["plain"][ftype]
        if has_imatrix:
            expected = expected | golden["imatrix"].get(ftype, {})
        assert picked == {kind: _expand(runs) for kind, runs in expected.items()}, ftype


# Other architectures use further rules: those for dense layers, which count tensors, and those for
# 70B models. (architecture, layers, heads, KV heads, experts)
OTHERS = {
    "Llama 8B": ("llama", 32, 32, 8, 0),
    "Llama 70B": ("llama", 80, 64, 8, 0),
    "Qwen 2 72B": ("qwen2", 80, 64, 8, 0),
    "Mixtral": ("llama", 32, 32, 8, 8),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_architectures_get_the_types_llama_cpp_picks(name: str, tmp_path: Path) -> None:
    _, n_layers, n_heads, n_kv_heads, n_experts = OTHERS[name]
    shapes = _shapes(n_layers, n_experts)
    hollow = _write_hollow(tmp_path / "hollow.gguf", shapes, *OTHERS[name])
    is_70b = name in ("Llama 70B", "Qwen 2 72B")
    model = Model(n_layers, n_experts, n_heads // n_kv_heads, is_70b)
    # The ftypes that an importance matrix changes.
    informed = json.loads(RECIPES.read_text())["20 KV heads"]["imatrix"]
    cases = [(ftype, False) for ftype in convert.FTYPES] + [(ftype, True) for ftype in informed]
    for ftype, has_imatrix in cases:
        ours = choose_qtypes(shapes.items(), find_ftype(ftype), model, has_imatrix=has_imatrix)
        assert ours == picked_types(hollow, ftype, has_imatrix=has_imatrix), (ftype, has_imatrix)


def _shapes(n_layers: int, n_experts: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"output.weight": (256, 512)}
    shapes["token_embd.weight"] = (256, 512)
    suffix, depth = ("_exps", (n_experts,)) if n_experts else ("", ())
    for layer in range(n_layers):
        block = {f"attn_{kind}": (256, 256) for kind in ("k", "output", "q", "v")}
        block |= {f"ffn_{kind}{suffix}": (256, 256, *depth) for kind in ("down", "gate", "up")}
        shapes |= {f"blk.{layer}.{kind}.weight": shape for kind, shape in block.items()}
    return shapes


def _write_hollow(
    path: Path,
    shapes: dict[str, tuple[int, ...]],
    architecture: str,
    n_layers: int,
    n_heads: int,
    n_kv_heads: int,
    n_experts: int,
) -> Path:
    numbers = {
        "block_count": n_layers,
        "context_length": 512,
        "embedding_length": 256,
        "feed_forward_length": 256,
        "attention.head_count": n_heads,
        "attention.head_count_kv": n_kv_heads,
        "vocab_size": 512,
    }
    if n_experts:
        numbers |= {"expert_count": n_experts, "expert_used_count": 2}
    fields: dict[str, Field] = {"general.architecture": string(architecture)}
    fields |= {f"{architecture}.{key}": u32(value) for key, value in numbers.items()}
    fields[f"{architecture}.attention.layer_norm_rms_epsilon"] = f32(1e-5)
    infos, offset = [], 0
    for name, shape in shapes.items():
        infos.append(TensorInfo(name, shape, QTYPES["F32"].id, offset))
        offset += 4 * prod(shape)
    header = encode_header(fields, infos)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + offset)
    return path


def _kind(name: str) -> str:
    return name.removesuffix(".weight").split(".")[-1]


def _expand(runs: str) -> list[str]:
    pairs = (run.split("*") for run in runs.split())
    return [qtype for qtype, count in pairs for _ in range(int(count))]


def test_block_sizes_are_ggml_s() -> None:
    for name, qtype in QTYPES.items():
        assert (qtype.name, qtype.block, qtype.block_bytes) == (name, *block_size(qtype.id))
    for theirs, size in gguf.GGML_QUANT_SIZES.items():
        if theirs.name in QTYPES:
            assert (theirs, size) == (QTYPES[theirs.name].id, block_size(theirs))


def test_what_ggml_would_abort_on_is_refused_before() -> None:
    # Without an importance matrix these types abort the process, whichever tensor it is.
    for qtype in QTYPES:
        if requires_imatrix(qtype):
            assert needs_imatrix("token_embd.weight", qtype, find_ftype("Q4_K_M"))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("q4_km", "did you mean Q4_K_M"),
        ("Q4_K", "did you mean"),
        ("nonsense", "one of F32"),
    ],
)
def test_unknown_types_are_answered_with_near_ones(name: str, hint: str) -> None:
    with pytest.raises(ConvertError, match=hint):
        find_ftype(name)


def test_types_are_found_in_any_case() -> None:
    assert find_ftype("q4_k_m") is find_ftype("Q4_K_M")


def test_tensor_types_are_found_in_any_case_too() -> None:
    assert find_qtype("q6_k") is QTYPES["Q6_K"]
    with pytest.raises(ConvertError, match="did you mean Q6_K"):
        find_qtype("Q6K")
