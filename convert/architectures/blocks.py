"""The parts that decoders are built of: maps the tensor names of transformers to llama.cpp's.

Each function yields the output tensors of one part, and checks that they are stored in the right
shape. Its arguments `stored` and `out` are the prefixes of the part's tensor names in the
checkpoint and in the GGUF.
"""

from __future__ import annotations

from collections.abc import Iterator

from convert.checkpoint.hparams import Hparams
from convert.checkpoint.rope import rope_factors
from convert.checkpoint.source import Source
from convert.checkpoint.tensors import (
    Constant,
    OutputTensor,
    matrix,
    stack,
    transposed_expert,
    upright_expert,
    vector,
)
from convert.gguf.fields import Field, u32

# llama.cpp's names of the matrices of a gated feed-forward network -> the names most models use.
GATED = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}


def outer(hparams: Hparams, source: Source) -> Iterator[OutputTensor]:
    """Embeddings, the last norm, the output matrix unless tied, and Llama 3's RoPE factors."""
    hidden, vocab = hparams.hidden_size, hparams.vocab_size
    yield matrix("token_embd.weight", source.matrix("model.embed_tokens.weight", vocab, hidden))
    yield vector("output_norm.weight", source.vector("model.norm.weight", hidden))
    # A tied checkpoint may store the embeddings again as lm_head. If it does not, llama.cpp uses
    # the embeddings as the output matrix.
    if not hparams.tie_embeddings or "lm_head.weight" in source:
        yield matrix("output.weight", source.matrix("lm_head.weight", vocab, hidden))
    if hparams.rope_scaling is not None:
        factors = rope_factors(hparams.head_dim, hparams.rope_theta, hparams.rope_scaling)
        yield OutputTensor("rope_freqs.weight", (len(factors),), (Constant(factors),))


def shape_fields(hparams: Hparams) -> dict[str, Field]:
    """The first metadata of every architecture; keys without the architecture's name as prefix."""
    return {
        "block_count": u32(hparams.n_layers),
        "context_length": u32(hparams.context_length),
        "embedding_length": u32(hparams.hidden_size),
        "feed_forward_length": u32(hparams.dense_size),
        "attention.head_count": u32(hparams.n_heads),
        "attention.head_count_kv": u32(hparams.n_kv_heads),
    }


def norms(stored: str, out: str, hparams: Hparams, source: Source) -> Iterator[OutputTensor]:
    """The norms before attention and before the feed-forward network."""
    for name, theirs in (("attn", "input_layernorm"), ("ffn", "post_attention_layernorm")):
        view = source.vector(f"{stored}{theirs}.weight", hparams.hidden_size)
        yield vector(f"{out}{name}_norm.weight", view)


def attention(
    stored: str,
    out: str,
    hparams: Hparams,
    source: Source,
    *,
    interleaved: bool = False,
    qkv_bias: bool = False,
    qk_norm: bool = False,
) -> Iterator[OutputTensor]:
    """The projections of self-attention.

    interleaved: whether llama.cpp's RoPE rotates neighbouring numbers of a head. transformers
        rotates one half against the other, so the rows of q and k are then reordered.
    qkv_bias: whether q, k and v have biases.
    qk_norm: whether queries and keys are normed per head.
    """
    hidden, head_dim = hparams.hidden_size, hparams.head_dim
    q_size, kv_size = hparams.n_heads * head_dim, hparams.n_kv_heads * head_dim
    rotated = head_dim if interleaved else 0
    for name, theirs, n_rows, n_cols, head_rows in (
        ("q", "q", q_size, hidden, rotated),
        ("k", "k", kv_size, hidden, rotated),
        ("v", "v", kv_size, hidden, 0),
        ("output", "o", hidden, q_size, 0),
    ):
        view = source.matrix(f"{stored}{theirs}_proj.weight", n_rows, n_cols, head_rows=head_rows)
        yield matrix(f"{out}attn_{name}.weight", view)
        if qkv_bias and name != "output":
            bias = source.vector(f"{stored}{theirs}_proj.bias", n_rows)
            yield vector(f"{out}attn_{name}.bias", bias)
        if qk_norm and name in "qk":
            norm = source.vector(f"{stored}{theirs}_norm.weight", head_dim)
            yield vector(f"{out}attn_{name}_norm.weight", norm)


def mlp(
    stored: str, out: str, suffix: str, width: int, hidden: int, source: Source
) -> Iterator[OutputTensor]:
    """A gated feed-forward network of `width`; the output names get `suffix`."""
    for kind, n_rows, n_cols in mlp_shapes(width, hidden):
        view = source.matrix(f"{stored}{GATED[kind]}.weight", n_rows, n_cols)
        yield matrix(f"{out}ffn_{kind}{suffix}.weight", view)


def router(stored: str, out: str, hparams: Hparams, source: Source) -> OutputTensor:
    """The matrix that chooses experts; `stored` is its full name."""
    view = source.matrix(stored, hparams.n_experts, hparams.hidden_size)
    return matrix(f"{out}ffn_gate_inp.weight", view)


def experts(
    stored: str, out: str, names: dict[str, str], hparams: Hparams, source: Source
) -> Iterator[OutputTensor]:
    """The routed experts, stacked into one tensor for each of gate, up and down.

    The checkpoint may store each expert's matrices separately, or all experts fused as transformers
    holds them in memory: see `fused_experts`.

    names: the checkpoint's names of separately stored matrices, as in GATED.
    """
    if f"{stored}gate_up_proj" in source:
        yield from fused_experts(stored, out, hparams, source)
        return
    for kind, n_rows, n_cols in mlp_shapes(hparams.expert_size, hparams.hidden_size):
        views = [
            source.matrix(f"{stored}{expert}.{names[kind]}.weight", n_rows, n_cols)
            for expert in range(hparams.n_experts)
        ]
        yield stack(f"{out}ffn_{kind}_exps.weight", views)


def fused_experts(
    stored: str, out: str, hparams: Hparams, source: Source, *, transposed: bool = False
) -> Iterator[OutputTensor]:
    """The routed experts, stored as one tensor of gate and up (gate first) and one of down.

    transposed: each expert is stored as [in, out], like Meta's Llama 4; False: as [out, in].
    """
    n, width, hidden = hparams.n_experts, hparams.expert_size, hparams.hidden_size
    gate_up_shape, down_shape = (2 * width, hidden), (hidden, width)
    expert_view = upright_expert
    if transposed:
        gate_up_shape, down_shape = gate_up_shape[::-1], down_shape[::-1]
        expert_view = transposed_expert
    gate_up = source.experts(f"{stored}gate_up_proj", n, *gate_up_shape)
    down = source.experts(f"{stored}down_proj", n, *down_shape)
    for kind, fused, first, n_rows in (
        ("gate", gate_up, 0, width),
        ("up", gate_up, width, width),
        ("down", down, 0, hidden),
    ):
        views = [expert_view(fused, expert, first, n_rows) for expert in range(n)]
        yield stack(f"{out}ffn_{kind}_exps.weight", views)


def mlp_shapes(width: int, hidden: int) -> tuple[tuple[str, int, int], ...]:
    """Kind, rows and columns of the three matrices of a gated feed-forward network."""
    return ("gate", width, hidden), ("up", width, hidden), ("down", hidden, width)
