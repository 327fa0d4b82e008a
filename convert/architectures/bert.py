"""BERT, the encoder of most embedding models: all-MiniLM, bge, e5, gte.

An encoder writes no text: it turns a text into one vector. Its head (pooler, masked words, next
sentence) is left out, because llama.cpp pools the last layer itself. Sources: transformers
``models/bert/modeling_bert.py``; llama.cpp ``conversion/bert.py`` and ``src/models/bert.cpp``.
"""

from __future__ import annotations

from collections.abc import Iterator

from convert.checkpoint.hparams import BertHparams, Config
from convert.checkpoint.source import Source
from convert.checkpoint.tensors import OutputTensor, matrix, vector
from convert.doctor.checkpoint import error
from convert.gguf.fields import Field, boolean, f32, u32
from convert.types import Finding

NAME = "bert"

# What belongs to heads for other tasks, or is computed anew.
_DROPPED = (
    "pooler.dense.",
    "cls.predictions.",
    "cls.seq_relationship.",
    "embeddings.position_ids",
)
_GELUS = ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh")


def read_hparams(config: Config) -> BertHparams:
    """The hyperparameters. A value that every published checkpoint states has no default."""
    n_heads = config.integer("num_attention_heads")
    hidden_size = config.integer("hidden_size")
    return BertHparams(
        n_layers=config.integer("num_hidden_layers"),
        hidden_size=hidden_size,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_dim=max(1, hidden_size // n_heads),
        vocab_size=config.integer("vocab_size"),
        context_length=config.integer("max_position_embeddings"),
        norm_eps=config.number("layer_norm_eps"),
        hidden_act=config.string("hidden_act", "gelu"),
        tie_embeddings=True,
        dense_size=config.integer("intermediate_size"),
        n_experts=0,
        n_experts_used=0,
        expert_size=0,
        rope_type="none",
        rope_theta=0.0,
        rope_scaling=None,
        n_token_types=config.integer("type_vocab_size", 2),
    )


def fields(_config: Config, hparams: BertHparams) -> dict[str, Field]:
    """The metadata, in the order of llama.cpp's converter."""
    values = {
        "block_count": u32(hparams.n_layers),
        "context_length": u32(hparams.context_length),
        "embedding_length": u32(hparams.hidden_size),
        "feed_forward_length": u32(hparams.dense_size),
        "attention.head_count": u32(hparams.n_heads),
        "attention.layer_norm_epsilon": f32(hparams.norm_eps),
        "attention.causal": boolean(False),
    }
    keyed = {f"{NAME}.{key}": value for key, value in values.items()}
    return {**keyed, "tokenizer.ggml.token_type_count": u32(hparams.n_token_types)}


def canonical_name(name: str) -> str:
    """The name without a prefix; old exports call a norm's weight and bias gamma and beta."""
    name = name.removeprefix("bert.")
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def is_dropped(name: str) -> bool:
    """Whether a stored tensor is left out on purpose: heads for other tasks, and positions."""
    return canonical_name(name).startswith(_DROPPED)


def tensors(hparams: BertHparams, source: Source) -> Iterator[OutputTensor]:
    """Yield every tensor of the GGUF. Raises ConvertError on a missing one or a wrong shape."""
    hidden = hparams.hidden_size
    for out, theirs, n_rows in (
        ("token_embd", "word_embeddings", hparams.vocab_size),
        ("position_embd", "position_embeddings", hparams.context_length),
        ("token_types", "token_type_embeddings", hparams.n_token_types),
    ):
        view = source.matrix(f"embeddings.{theirs}.weight", n_rows, hidden)
        yield matrix(f"{out}.weight", view)
    yield from _norm("embeddings.LayerNorm", "token_embd_norm", hidden, source)
    for layer in range(hparams.n_layers):
        yield from _block(f"encoder.layer.{layer}.", f"blk.{layer}.", hparams, source)


def diagnose(config: Config, hparams: BertHparams) -> Iterator[Finding]:
    """Yield where the config differs from what llama.cpp computes."""
    if hparams.hidden_act not in _GELUS:
        yield error(f"hidden_act is {hparams.hidden_act}; llama.cpp computes gelu")
    if hparams.hidden_size % hparams.n_heads:
        yield error(f"hidden_size {hparams.hidden_size} is no multiple of {hparams.n_heads} heads")
    kind = config.string("position_embedding_type", "absolute")
    if kind != "absolute":
        yield error(f"position_embedding_type is {kind}; llama.cpp knows absolute positions only")
    for key in ("is_decoder", "add_cross_attention"):
        if config.flag(key, False):
            yield error(f"{key} is true; llama.cpp runs BERT as an encoder")


def _block(stored: str, out: str, hparams: BertHparams, source: Source) -> Iterator[OutputTensor]:
    hidden, width = hparams.hidden_size, hparams.dense_size
    for name, theirs, n_rows, n_cols in (
        ("attn_q", "attention.self.query", hidden, hidden),
        ("attn_k", "attention.self.key", hidden, hidden),
        ("attn_v", "attention.self.value", hidden, hidden),
        ("attn_output", "attention.output.dense", hidden, hidden),
        ("ffn_up", "intermediate.dense", width, hidden),
        ("ffn_down", "output.dense", hidden, width),
    ):
        view = source.matrix(f"{stored}{theirs}.weight", n_rows, n_cols)
        yield matrix(f"{out}{name}.weight", view)
        yield vector(f"{out}{name}.bias", source.vector(f"{stored}{theirs}.bias", n_rows))
    yield from _norm(
        f"{stored}attention.output.LayerNorm", f"{out}attn_output_norm", hidden, source
    )
    yield from _norm(f"{stored}output.LayerNorm", f"{out}layer_output_norm", hidden, source)


def _norm(stored: str, out: str, hidden: int, source: Source) -> Iterator[OutputTensor]:
    for part in ("weight", "bias"):
        yield vector(f"{out}.{part}", source.vector(f"{stored}.{part}", hidden))
