"""The recipe of llama.cpp's quantizer: which qtype each tensor of a file gets. Pure.

The rules are those of ``llama_model_quantize`` (``src/llama-quant.cpp``: ``llama_tensor_get_type``
and its fallback). So converting in one pass gives the same bytes as llama.cpp's converter followed
by its quantizer; a test compares whole files for every ftype.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from convert.errors import ConvertError
from convert.gguf.ftypes import FType
from convert.gguf.qtypes import QTYPES
from convert.recipe.model import Model

# If a row is not whole blocks of a type, its fallback here is tried, and then F16. A type with more
# than 32 weights per block that is missing here has no fallback, as in llama.cpp.
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

# The types that llama.cpp's quantizer refuses to make without an importance matrix (except for the
# embeddings and the output), and those for which ggml aborts the process without one.
_POOR_WITHOUT_IMATRIX = frozenset(("IQ3_XXS", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ1_M", "IQ1_S"))
_ABORT_WITHOUT_IMATRIX = frozenset(("IQ2_XXS", "IQ2_XS", "IQ1_S"))

# Gemma 3n's second table of embeddings.
PER_LAYER_EMBD = "per_layer_token_embd.weight"

# The ftypes of the smallest files; separate rules apply to them.
_SMALLEST = frozenset(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M"))

# With exactly 8 experts (Mixtral) attention is a small share of the file, so these ftypes give
# attn_output more bits.
_EIGHT_EXPERTS_ATTN_OUTPUT = frozenset((
    "Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M",
    "IQ3_XXS", "IQ3_XS", "IQ3_S", "IQ3_M", "IQ4_NL", "IQ4_XS",
))  # fmt: skip


def file_order(name: str) -> tuple[int, str]:
    """Sort key of tensors in llama.cpp's files: those outside blocks first, then block by block."""
    return _layer(name), name


def needs_imatrix(name: str, qtype: str, ftype: FType) -> bool:
    """Whether llama.cpp's quantizer refuses `qtype` for a tensor that has no importance."""
    if qtype in _ABORT_WITHOUT_IMATRIX:
        return True
    if kind_of(name) in ("output", "token_embd"):
        return False
    return qtype in _POOR_WITHOUT_IMATRIX or (qtype == "Q2_K" and ftype.name == "Q2_K_S")


def fit_rows(name: str, qtype: str, n_cols: int) -> str:
    """`qtype`, or its fallback if rows of `n_cols` weights are not whole blocks of it.

    Raises ConvertError if it has no fallback.
    """
    if n_cols % QTYPES[qtype].block == 0:
        return qtype
    if qtype not in _FALLBACK and QTYPES[qtype].block > 32:
        raise ConvertError(
            f"{name}: rows of {n_cols} are not whole blocks of {qtype}, which has no fallback; "
            "choose another type"
        )
    stand_in = _FALLBACK.get(qtype, qtype)
    return stand_in if n_cols % QTYPES[stand_in].block == 0 else "F16"


class Recipe:
    """The recipe for one file.

    names: all tensors of the file.
    has_imatrix: whether the file is made with an importance matrix.

    Call `choose` in file order: some rules count the earlier tensors of the same kind. As in
    llama.cpp, only tensors that `choose` was called for are counted.
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
        """Whether a tensor computes the logits: the output, or embeddings that are tied to it."""
        return kind == "output" or (kind == "token_embd" and self._is_tied)

    def choose(self, name: str, shape: tuple[int, ...]) -> str:
        """The qtype of a tensor by the rules; `fit_rows` then takes its row length into account."""
        kind = kind_of(name)
        if self._model.architecture == "glm5-next" and _is_guarded_in_glm5(name):
            return "Q8_0"
        if self.is_output(kind):
            return self._output(shape[0])
        if self._name == "MXFP4_MOE":
            return "MXFP4" if self._is_stack_of_experts(kind, shape) else "Q8_0"
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
            # Counting gives the layer only if each layer has one tensor of the kind. Layers with
            # experts may have several, so there the layer is taken from the name.
            layer = _layer(name) if self._model.n_experts > 1 else nth
            wanted = self._ffn_down(layer) if kind == "ffn_down" else self._ffn_gate_up(layer)
        return wanted or self._base

    def _count(self, kind: str) -> int:
        """How many tensors of this kind came before; count this one, too."""
        nth = self._seen.get(kind, 0)
        if kind in self._seen:
            self._seen[kind] += 1
        return nth

    def _is_stack_of_experts(self, kind: str, shape: tuple[int, ...]) -> bool:
        is_stack = len(shape) > 2 and shape[2] > 1
        # Ling 3's attention has stacks of matrices, too.
        return is_stack and (self._model.architecture != "bailingmoe3" or kind.startswith("ffn_"))

    def _output(self, n_cols: int) -> str:
        is_odd = n_cols % QTYPES[self._base].block != 0
        if self._name == "MXFP4_MOE" or is_odd or self._model.is_falcon:
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
            # llama.cpp counts tensors here, not layers, so if a layer has several, the rule covers
            # fewer layers.
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
        # 70B models have 8 query heads per KV head. So attn_v is small, and more bits cost little.
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
        if self._model.is_falcon:
            return "Q4_K" if self._name == "Q3_K_L" else None
        if self._model.n_experts == 8:
            return "Q5_K" if self._name in _EIGHT_EXPERTS_ATTN_OUTPUT else None
        return {
            "Q2_K": "Q3_K", "IQ3_XXS": "IQ3_S", "IQ3_M": "Q4_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K",
        }.get(self._name)  # fmt: skip

    def _ffn_down(self, layer: int) -> str | None:
        name, n = self._name, self._model.n_layers
        is_first_eighth = layer < n // 8
        if self._model.is_falcon and name in ("Q3_K_M", "Q3_K_L", "Q4_K_M", "Q4_K_S"):
            return self._ffn_down_of_falcon(layer)
        if name in ("Q4_K_M", "Q5_K_M"):
            return "Q6_K" if _use_more_bits(layer, n) else None
        if name == "Q4_K_S":
            return "Q5_K" if is_first_eighth else None
        if name in ("IQ4_NL", "IQ4_XS"):
            return "Q5_K" if is_first_eighth and not self._has_imatrix else None
        if name in ("Q4_0", "Q5_0"):
            # With an importance matrix llama.cpp guards the first layers of these ftypes, which may
            # go wrong there.
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

    def _ffn_down_of_falcon(self, layer: int) -> str | None:
        name, n = self._name, self._model.n_layers
        if name in ("Q3_K_M", "Q4_K_M") and layer < n // 16:
            return {"Q3_K_M": "Q5_K", "Q4_K_M": "Q6_K"}[name]
        if name == "Q3_K_L":
            return "Q4_K"
        more = {"Q3_K_M": "Q4_K", "Q4_K_M": "Q5_K"}.get(name)
        return more if _use_more_bits(layer, n) else None

    def _ffn_gate_up(self, layer: int) -> str | None:
        n = self._model.n_layers
        is_middle = n // 8 <= layer < 7 * n // 8
        return "IQ3_XXS" if self._name == "IQ3_XS" and is_middle else None


def _use_more_bits(layer: int, n_layers: int) -> bool:
    """Whether a layer is in the first or last eighth, or is every third one in between."""
    eighth = n_layers // 8
    return layer < eighth or layer >= 7 * n_layers // 8 or (layer - eighth) % 3 == 2


def kind_of(name: str) -> str:
    """What the rules call a tensor: "attn_v", "ffn_down" (experts' too), "output", ... "other".

    A matrix that makes queries, keys and values at once, or the latter two, counts as attn_v.
    """
    if name == "output.weight":
        return "output"
    if name in ("token_embd.weight", PER_LAYER_EMBD):
        return "token_embd"
    match = re.search(r"(attn_(?:qkv|kv_b|v|k|q|output))\.weight|(ffn_(?:up|gate|down))", name)
    if match is None:
        return "other"
    kind = match[1] or match[2]
    return "attn_v" if kind in ("attn_qkv", "attn_kv_b") else kind


def _is_guarded_in_glm5(name: str) -> bool:
    return any(part in name for part in ("attn_q_a", "attn_q_b", "nextn.eh_proj"))


def _layer(name: str) -> int:
    """The block that a tensor belongs to; -1 if to none."""
    match = re.match(r"blk\.(\d+)\.", name)
    return int(match[1]) if match else -1
