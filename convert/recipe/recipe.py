"""Which tensor of a file gets which qtype: the recipe of llama.cpp's quantizer, and nothing else.

Pure: names and shapes in, qtypes out. The rules are those of ``llama_model_quantize``
(``src/llama-quant.cpp``: ``llama_tensor_get_type`` and its fallback), so that one pass gives the
very bytes of the two-step path; a test compares whole files for every ftype.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from convert.errors import ConvertError
from convert.gguf.ftypes import FType
from convert.gguf.qtypes import QTYPES

# Where a row is not whole blocks of a type, this one is tried, and then F16. Types of more than 32
# weights a block that are missing here have no way out, in llama.cpp neither.
_FALLBACK = {
    "IQ1_S": "IQ4_NL",
    "IQ1_M": "IQ4_NL",
    "IQ2_XXS": "IQ4_NL",
    "IQ2_XS": "IQ4_NL",
    "IQ2_S": "IQ4_NL",
    "IQ3_XXS": "IQ4_NL",
    "IQ3_S": "IQ4_NL",
    "IQ4_XS": "IQ4_NL",
    "Q2_0": "Q4_0",
    "Q2_K": "Q4_0",
    "Q3_K": "Q4_0",
    "TQ1_0": "Q4_0",
    "TQ2_0": "Q4_0",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}

# The types that the quantizer refuses to make without an importance matrix (the embeddings and the
# output excepted), and those that ggml itself aborts on without one.
_POOR_WITHOUT_IMATRIX = frozenset(("IQ3_XXS", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ1_M", "IQ1_S"))
_ABORT_WITHOUT_IMATRIX = frozenset(("IQ2_XXS", "IQ2_XS", "IQ1_S"))

# The smallest files have rules of their own.
_SMALLEST = frozenset(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M"))

# With exactly 8 experts (Mixtral) attention is a small share of the file, so these give it more.
_EIGHT_EXPERTS_ATTN_OUTPUT = frozenset((
    "Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M",
    "IQ3_XXS", "IQ3_XS", "IQ3_S", "IQ3_M", "IQ4_NL", "IQ4_XS",
))  # fmt: skip


@dataclass(frozen=True)
class Model:
    """What the rules ask of a model: layers, experts (0 = dense), query heads per KV head.

    `is_70b`: llama.cpp takes it for one of the 70B models, 80 layers of dense Llama or Qwen 2.
    """

    n_layers: int
    n_experts: int
    n_gqa: int
    is_70b: bool = False

    @classmethod
    def of(
        cls, architecture: str, *, n_layers: int, n_heads: int, n_kv_heads: int, n_experts: int
    ) -> Model:
        """The model of llama.cpp's `architecture` with these counts."""
        n_gqa = n_heads // n_kv_heads
        is_dense_llama = architecture == "llama" and n_gqa > 1
        is_70b = n_layers == 80 and (architecture == "qwen2" or is_dense_llama)
        return cls(n_layers, n_experts, n_gqa, is_70b)


def file_order(name: str) -> tuple[int, str]:
    """Sort key of llama.cpp's files: first what belongs to no block, then block by block."""
    return _layer(name), name


def is_quantizable(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor may become anything else than F32: a matrix, neither norm nor router."""
    kept = "_norm.weight" in name or "ffn_gate_inp.weight" in name or not name.endswith("weight")
    return any(n > 1 for n in shape[1:]) and not kept


def needs_imatrix(name: str, qtype: str, ftype: FType) -> bool:
    """Whether the quantizer refuses this tensor when the importance matrix has nothing on it."""
    if qtype in _ABORT_WITHOUT_IMATRIX:
        return True
    if kind_of(name) in ("output", "token_embd"):
        return False
    return qtype in _POOR_WITHOUT_IMATRIX or (qtype == "Q2_K" and ftype.name == "Q2_K_S")


def fit_rows(name: str, qtype: str, n_cols: int) -> str:
    """`qtype`, or what stands in for it where rows of `n_cols` are not whole blocks of it."""
    if n_cols % QTYPES[qtype].block == 0:
        return qtype
    if qtype not in _FALLBACK and QTYPES[qtype].block > 32:
        raise ConvertError(
            f"{name}: rows of {n_cols} are not whole blocks of {qtype} and no type stands in for "
            "it; choose another type"
        )
    stand_in = _FALLBACK.get(qtype, qtype)
    return stand_in if n_cols % QTYPES[stand_in].block == 0 else "F16"


class Recipe:
    """The recipe for one file of the tensors `names`, to be asked in file order.

    Some rules count the tensors of a kind that came before, as llama.cpp does: those that the
    recipe is not asked about are not counted.
    """

    def __init__(
        self, ftype: FType, model: Model, names: Collection[str], has_imatrix: bool
    ) -> None:
        self._base = ftype.base
        self._name = ftype.name
        self._model = model
        self._has_imatrix = has_imatrix
        self._is_tied = "output.weight" not in names
        self._n_attn_v = sum(kind_of(name) == "attn_v" for name in names)
        self._seen = dict.fromkeys(("attn_v", "ffn_down", "ffn_gate", "ffn_up"), 0)

    def is_output(self, kind: str) -> bool:
        """Whether logits are computed with it: the output, or embeddings that serve as output."""
        return kind == "output" or (kind == "token_embd" and self._is_tied)

    def choose(self, name: str, shape: tuple[int, ...]) -> str:
        """The type the recipe wants for a tensor, before its row length is looked at."""
        kind = kind_of(name)
        if self.is_output(kind):
            return self._output(shape[0])
        if self._name == "MXFP4_MOE":
            return "MXFP4" if len(shape) > 2 and shape[2] > 1 else "Q8_0"
        if kind == "token_embd":
            return self._token_embd()
        nth = self._count(kind)
        if self._name in _SMALLEST:
            return self._smallest(kind, nth) or self._base
        wanted: str | None = None
        if kind == "attn_v":
            wanted = self._attn_v(nth)
        elif kind in ("attn_q", "attn_k"):
            wanted = self._attn_qk(kind)
        elif kind == "attn_output":
            wanted = self._attn_output()
        elif kind in ("ffn_down", "ffn_gate", "ffn_up"):
            # Counting fails where a layer has several of a kind: there the name tells the layer.
            layer = _layer(name) if self._model.n_experts > 1 else nth
            wanted = self._ffn_down(layer) if kind == "ffn_down" else self._ffn_gate_up(layer)
        return wanted or self._base

    def _count(self, kind: str) -> int:
        """How many tensors of this kind have been chosen for before this one."""
        nth = self._seen.get(kind, 0)
        if kind in self._seen:
            self._seen[kind] += 1
        return nth

    def _output(self, n_cols: int) -> str:
        if self._name == "MXFP4_MOE" or n_cols % QTYPES[self._base].block:
            return "Q8_0"
        if self._name in _SMALLEST or self._name == "IQ3_XXS":
            return "Q5_K"
        return "Q8_0" if self._base == "Q8_0" else "Q6_K"

    def _token_embd(self) -> str:
        return {
            "IQ1_S": "Q2_K", "IQ1_M": "Q2_K", "IQ2_XXS": "Q2_K", "IQ2_XS": "Q2_K",
            "IQ2_S": "IQ3_S", "IQ2_M": "IQ3_S", "IQ3_XXS": "IQ3_S",
            "TQ1_0": "Q4_K", "TQ2_0": "Q4_K", "Q2_0": "Q4_K",
        }.get(self._name, self._base)  # fmt: skip

    def _smallest(self, kind: str, nth: int) -> str | None:
        model = self._model
        better = "IQ3_S" if self._name in ("IQ2_S", "IQ2_M") else "Q2_K"
        if kind == "attn_v":
            return "Q4_K" if model.n_gqa >= 4 or model.n_experts >= 4 else better
        if kind == "attn_k":
            return "Q4_K" if model.n_experts == 8 else None
        if kind == "ffn_down":
            # Tensors are counted here, not layers: experts use the eighth up sooner.
            return better if nth < model.n_layers // 8 else None
        if kind == "attn_output":
            if model.n_experts == 8:
                return "Q5_K"
            return {
                "IQ1_S": "IQ2_XXS", "IQ1_M": "IQ2_XXS", "IQ2_S": "IQ3_S", "IQ2_M": "IQ3_S",
            }.get(self._name)  # fmt: skip
        return None

    def _attn_v(self, nth: int) -> str | None:
        if self._model.n_experts == 8:
            return "Q8_0"
        wanted = self._attn_v_by_type(nth)
        # 80 layers of 8 query heads to a KV head: attn_v is small, and more bits cost little.
        if self._model.is_70b and (wanted or self._base) in ("Q3_K", "Q4_K"):
            return "Q5_K"
        return wanted

    def _attn_v_by_type(self, nth: int) -> str | None:
        name, is_shared = self._name, self._model.n_gqa >= 4
        if name in ("Q4_K_M", "Q5_K_M"):
            return "Q6_K" if _use_more_bits(nth, self._n_attn_v) else None
        if name == "Q4_K_S":
            return "Q5_K" if nth < 4 else None
        if name == "Q3_K_M":
            return "Q5_K" if nth < 2 else "Q4_K"
        if name == "Q2_K":
            return "Q4_K" if is_shared else "Q3_K"
        if name in ("IQ4_NL", "IQ4_XS"):
            return "Q5_K" if is_shared else None
        if name == "IQ3_XXS":
            return "Q4_K" if is_shared else None if self._has_imatrix else "IQ3_S"
        if name in ("Q2_K_S", "IQ3_XS", "IQ3_S"):
            return "Q4_K" if is_shared else None
        return {"Q3_K_L": "Q5_K", "IQ3_M": "Q4_K"}.get(name)

    def _attn_qk(self, kind: str) -> str | None:
        if kind == "attn_k" and self._model.n_experts == 8:
            return "Q8_0"
        return {"IQ3_XS": "IQ3_XXS", "IQ3_XXS": "IQ2_S"}.get(self._name)

    def _attn_output(self) -> str | None:
        if self._model.n_experts == 8:
            return "Q5_K" if self._name in _EIGHT_EXPERTS_ATTN_OUTPUT else None
        return {
            "Q2_K": "Q3_K", "IQ3_XXS": "IQ3_S", "IQ3_M": "Q4_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K",
        }.get(self._name)  # fmt: skip

    def _ffn_down(self, layer: int) -> str | None:
        name, n = self._name, self._model.n_layers
        is_first_eighth = layer < n // 8
        if name in ("Q4_K_M", "Q5_K_M"):
            return "Q6_K" if _use_more_bits(layer, n) else None
        if name == "Q4_K_S":
            return "Q5_K" if is_first_eighth else None
        if name in ("IQ4_NL", "IQ4_XS"):
            return "Q5_K" if is_first_eighth and not self._has_imatrix else None
        if name in ("Q4_0", "Q5_0"):
            # With an importance matrix the first layers may go astray in these.
            guarded = {"Q4_0": "Q4_1", "Q5_0": "Q5_1"}[name]
            return guarded if is_first_eighth and self._has_imatrix else None
        if name == "Q3_K_M":
            return "Q5_K" if layer < n // 16 else "Q4_K"
        if name == "IQ3_M":
            wants_more = self._model.n_experts == 8 and _use_more_bits(layer, n)
            return "Q4_K" if is_first_eighth or wants_more else None
        if name == "IQ3_XXS" and not self._has_imatrix:
            return "Q4_K" if is_first_eighth else "Q3_K"
        if name == "Q2_K_S":
            return "Q4_K" if is_first_eighth else None
        return {"Q2_K": "Q3_K", "Q3_K_L": "Q5_K"}.get(name)

    def _ffn_gate_up(self, layer: int) -> str | None:
        n = self._model.n_layers
        is_middle = n // 8 <= layer < 7 * n // 8
        return "IQ3_XXS" if self._name == "IQ3_XS" and is_middle else None


def _use_more_bits(layer: int, n_layers: int) -> bool:
    """The first and last eighth of the layers, and every third of those between."""
    eighth = n_layers // 8
    return layer < eighth or layer >= 7 * n_layers // 8 or (layer - eighth) % 3 == 2


def kind_of(name: str) -> str:
    """What a tensor is to the rules: "attn_v", "ffn_down" (whichever), "output", ... or "other"."""
    if name in ("output.weight", "token_embd.weight"):
        return name.removesuffix(".weight")
    match = re.search(r"(attn_v|attn_k|attn_q|attn_output)\.weight|(ffn_(?:up|gate|down))", name)
    return (match[1] or match[2]) if match else "other"


def _layer(name: str) -> int:
    """The block a tensor belongs to; -1 for none."""
    match = re.match(r"blk\.(\d+)\.", name)
    return int(match[1]) if match else -1
