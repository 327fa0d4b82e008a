"""Overrides of the recipe mean what they do in llama-quantize; one without effect is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from checkpoints import PUBLISHED_SHAPES, write_checkpoint, write_hollow_checkpoint
from quantizer import make_sums, picked_types, quantize, write_hollow_gguf, write_imatrix

import convert
from convert import ConvertError, TypeOptions

SMALL = {"num_local_experts": 2, "num_hidden_layers": 2}


@pytest.fixture(scope="module")
def hollow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with Scout's layers, enough for the rules that count tensors."""
    path = tmp_path_factory.mktemp("hollow") / "model"
    write_hollow_checkpoint(path, shapes=PUBLISHED_SHAPES | {"num_key_value_heads": 20})
    write_hollow_gguf(path.with_suffix(".gguf"), path)
    return path


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tied") / "model"
    write_checkpoint(path, dtype="F32", tie_word_embeddings=True, **SMALL)
    convert.convert(convert.plan(path, "F32"), path.with_suffix(".gguf"))
    return path


def planned(checkpoint: Path, ftype: str, **options: Any) -> dict[str, str]:
    plan = convert.plan(checkpoint, ftype, options=TypeOptions(**options))
    return {tensor.name: tensor.qtype for tensor in plan.tensors}


CASES: list[tuple[str, dict[str, Any]]] = [
    ("Q4_K_M", {"tensor_types": (("attn_v", "Q8_0"),)}),
    # The recipe counts attn_v. It does not count those with an override, so later ones change.
    ("Q4_K_M", {"tensor_types": ((r"blk\.[0-9]\.attn_v", "Q5_0"),)}),
    ("Q3_K_M", {"tensor_types": ((r"blk\.(0|5|7)\.attn_v", "F16"), ("attn_v", "Q5_1"))}),
    ("Q4_K_M", {"tensor_types": (("ffn_down_exps", "IQ4_XS"), ("ffn_down", "Q6_K"))}),
    ("Q5_K_S", {"tensor_types": (("output", "Q8_0"), ("token_embd", "Q2_K"))}),
    ("Q4_K_M", {"tensor_types": ((r"BLK\.\d+\.ATTN_K", "Q8_0"),)}),
    ("Q4_K_M", {"tensor_types": ((r"^blk\.[[:digit:]]\.ffn_(gate|up)_exps\.", "MXFP4"),)}),
    ("Q6_K", {"output_tensor_type": "F16", "token_embedding_type": "Q4_0"}),
    ("Q4_K_M", {"output_tensor_type": "Q8_0", "tensor_types": (("output", "Q2_K"),)}),
    ("F16", {"output_tensor_type": "Q8_0", "token_embedding_type": "Q6_K"}),
    ("MXFP4_MOE", {"token_embedding_type": "NVFP4"}),
    ("Q4_K_M", {"pure": True}),
    ("MXFP4_MOE", {"pure": True}),
    ("IQ4_XS", {"pure": True, "tensor_types": (("attn_output", "Q5_K"),)}),
    ("Q2_K", {"pure": True, "output_tensor_type": "Q6_K", "token_embedding_type": "Q4_K"}),
]


MORE_CASES = [pytest.param(*case, marks=pytest.mark.slow) for case in CASES[6:]]


@pytest.mark.parametrize(("ftype", "options"), [*CASES[:6], *MORE_CASES])
def test_overrides_pick_what_llama_cpp_picks(
    ftype: str, options: dict[str, Any], hollow: Path
) -> None:
    lowered = options.copy()  # llama-quantize lower-cases patterns before it calls the library
    if "tensor_types" in options:
        lowered["tensor_types"] = tuple((p.lower(), t) for p, t in options["tensor_types"])
    picked = picked_types(hollow.with_suffix(".gguf"), ftype, **lowered)
    assert planned(hollow, ftype, **options) == picked


@pytest.mark.parametrize(
    ("ftype", "options"),
    [
        ("Q4_K_M", {"output_tensor_type": "Q8_0"}),
        ("Q4_K_M", {"token_embedding_type": "Q5_0", "output_tensor_type": "Q8_0"}),
        ("Q4_0", {"pure": True, "output_tensor_type": "Q8_0"}),
    ],
)
def test_embeddings_that_serve_as_output(ftype: str, options: dict[str, Any], tied: Path) -> None:
    base = tied.with_suffix(".gguf")
    assert planned(tied, ftype, **options) == picked_types(base, ftype, **options)


def test_the_bytes_are_llama_cpp_s(tied: Path, tmp_path: Path) -> None:
    sums = make_sums(convert.plan(tied, "F32"))
    imatrix = write_imatrix(tmp_path / "imatrix.gguf", sums)
    options: dict[str, Any] = {
        "tensor_types": (("attn_q", "NVFP4"), ("attn_k", "Q1_0"), ("ffn_down_exps", "Q2_0")),
        "token_embedding_type": "Q8_0",
    }
    plan = convert.plan(tied, "Q3_K_M", options=TypeOptions(imatrix, **options))
    ours = convert.convert(plan, tmp_path / "ours.gguf").path.read_bytes()
    base = tied.with_suffix(".gguf")
    assert ours == quantize(base, "Q3_K_M", sums=sums, imatrix=imatrix, **options)


@pytest.mark.parametrize(
    ("ftype", "options", "message"),
    [
        ("Q4_K_M", {"tensor_types": (("attn_x", "Q8_0"),)}, "attn_x: matches no tensor"),
        ("Q4_K_M", {"tensor_types": (("ffn_gate_inp", "Q8_0"),)}, "matches no tensor that is quan"),
        ("F16", {"tensor_types": (("attn_v", "Q8_0"),)}, "F16 quantizes nothing"),
        (
            "Q4_K_M",
            {"tensor_types": (("attn_v", "Q8"),)},
            "--tensor-type attn_v=Q8: unknown tensor type 'Q8'",
        ),
        ("Q4_K_M", {"tensor_types": (("attn_(v", "Q8_0"),)}, "not a regular expression"),
        ("Q4_K_M", {"tensor_types": ((r"blk\.\D", "Q8_0"),)}, "lower-cased"),
        ("Q4_K_M", {"tensor_types": (("(?i)attn_v", "Q8_0"),)}, "not a pattern"),
        ("Q4_K_M", {"tensor_types": (("", "Q8_0"),)}, "not a pattern"),
        ("Q4_K_M", {"output_tensor_type": "Q8_K"}, "--output-tensor-type: unknown tensor type"),
        ("Q4_K_M", {"token_embedding_type": "Q4_K_M"}, "did you mean Q4_K"),
        ("Q4_K_M", {"cold_experts": "Q6"}, "--cold-experts: unknown tensor type"),
        ("Q4_K_M", {"tensor_types": (("attn_q", "IQ2_S"),)}, "needs an importance matrix"),
        ("Q4_K_M", {"token_embedding_type": "IQ2_XS"}, "token_embd.weight becomes IQ2_XS, which"),
    ],
)
def test_what_cannot_be_is_one_clear_line(
    ftype: str, options: dict[str, Any], message: str, tied: Path
) -> None:
    with pytest.raises(ConvertError) as caught:
        planned(tied, ftype, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rows_that_no_type_fits(tmp_path: Path) -> None:
    # llama.cpp refuses the first; the second fails an assertion, which ends the process.
    shapes = {"kind": "maverick", "hidden_size": 48, "intermediate_size": 48, "use_qk_norm": True}
    checkpoint = write_checkpoint(
        tmp_path / "model", num_local_experts=4, num_hidden_layers=2, **shapes
    )
    with pytest.raises(ConvertError, match=r"rows of 48 are not whole blocks of Q1_0"):
        convert.plan(checkpoint, "Q1_0")
    with pytest.raises(ConvertError, match=r"^token_embd.weight: rows of 48 are not whole blocks"):
        planned(checkpoint, "Q8_0", token_embedding_type="Q4_0")
    sizes = {size.ftype: size for size in convert.sizes(checkpoint)}
    assert sizes["Q1_0"].n_bytes is None
    assert "rows of 48" in (sizes["Q1_0"].refusal or "")
