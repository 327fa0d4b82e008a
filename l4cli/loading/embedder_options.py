"""How an embedding model is loaded: the options, and what is decided from them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from convert.gguf.kind import is_encoder
from l4cli.amounts import gib, tokens
from l4cli.engine.embedding import POOLINGS, Pooling
from l4cli.errors import ModelLoadError, UsageError

DEFAULT_LONGEST = 8192  # tokens of an input, unless the model was trained for less; as OpenAI's
_N_BATCH = 512  # tokens of several inputs together
_STATED: Mapping[int, Pooling] = {1: "mean", 2: "cls", 3: "last"}  # llama_pooling_type of llama.h
_SMALLEST = 256  # tokens; a model that lacks memory for such inputs does not fit
_KEPT_SHARE = 2  # inputs take at most one part in so many of the memory that is left


@dataclass(frozen=True, slots=True)
class EmbedderOptions:
    """How an embedding model is to be loaded.

    longest: most tokens of an input; None is what the model was trained for, at most 8192 and what
        fits in memory.
    pooling: how the vectors of all tokens become one; None is what the GGUF states.
    threads: CPU threads; None is one for each physical core.
    gpu_layers: layers on the graphics cards, -1 for all; "auto" for all if they fit, else none.
    force: whether to load the model even if it does not seem to fit.
    alone: whether each input is computed by itself, so that its embedding never depends on others.
    """

    longest: int | None = None
    pooling: Pooling | None = None
    threads: int | None = None
    gpu_layers: int | str = -1
    force: bool = False
    alone: bool = False


@dataclass(frozen=True, slots=True)
class EmbedderSizes:
    """The sizes of a model that decide how much memory its inputs take."""

    n_ctx_train: int
    n_vocab: int
    n_embd: int
    n_ff: int
    n_layers: int
    n_bytes: int
    has_cache: bool  # whether it is a decoder, which keeps keys and values

    @classmethod
    def of(cls, fields: Mapping[str, Any], n_bytes: int) -> EmbedderSizes:
        """The sizes in a GGUF's metadata; 0 for what it does not state as one number.

        n_bytes: of its files.
        """
        architecture = fields.get("general.architecture")

        def number(key: str) -> int:
            value = fields.get(f"{architecture}.{key}")
            return value if type(value) is int else 0

        listed = fields.get("tokenizer.ggml.tokens")
        return cls(
            n_ctx_train=number("context_length"),
            n_vocab=len(listed) if listed is not None else 0,
            n_embd=number("embedding_length"),
            n_ff=number("feed_forward_length"),
            n_layers=number("block_count"),
            n_bytes=n_bytes,
            has_cache=not is_encoder(architecture),
        )

    @property
    def bytes_per_token(self) -> int:
        """Bytes that a token of an input takes; more than llama.cpp's log of its buffers says.

        llama.cpp sets aside logits for every token, even for encoders, which have none. Decoders
        compute them, and keep keys and values.
        """
        logits = 4 * self.n_vocab
        n_bytes = 4 * (12 * self.n_embd + 2 * self.n_ff) + logits
        if self.has_cache:
            n_bytes += logits + 2 * 2 * self.n_layers * self.n_embd
        return n_bytes


def pooling_of(name: str, fields: Mapping[str, Any], asked: Pooling | None) -> Pooling:
    """The pooling that was asked for, or that the metadata state.

    Raises ModelLoadError if there is none: a wrong one gives embeddings that look right.
    """
    if asked is not None:
        return asked
    architecture = fields.get("general.architecture")
    stated = fields.get(f"{architecture}.pooling_type")
    if stated in _STATED and type(stated) is int:
        return _STATED[stated]
    known = ", ".join(POOLINGS)
    if not stated and not is_encoder(architecture):
        raise ModelLoadError(
            f"{name} states no {architecture}.pooling_type, so it is not known as an embedding "
            f"model; if it is one, its model card says which --embed-pooling it has ({known})"
        )
    what = f"states the pooling_type {stated}" if stated else "states no pooling_type"
    raise ModelLoadError(
        f"{name} {what}: give the --embed-pooling that its model card names ({known}), or convert "
        "it again from a checkpoint with modules.json and 1_Pooling/config.json"
    )


def longest_of(name: str, sizes: EmbedderSizes, asked: int | None, free: int | None) -> int:
    """Tokens that an input may have.

    free: bytes that are left for inputs once the weights are loaded; None: do not check.

    Raises UsageError if more are asked for than the model was trained for, and ModelLoadError if
    there is no memory for them.
    """
    trained = sizes.n_ctx_train
    if not trained:
        raise ModelLoadError(f"{name} does not state the context it was trained for")
    if asked is not None and asked > trained:
        raise UsageError(
            f"--embed-ctx {tokens(asked)} is more than the {tokens(trained)} tokens that {name} "
            "was trained for"
        )
    wanted = asked or min(trained, DEFAULT_LONGEST)
    if free is None:
        return wanted
    most = max(0, free) // _KEPT_SHARE // max(1, sizes.bytes_per_token)
    if most >= max(wanted, _N_BATCH):
        return wanted
    if asked is not None or most < min(_SMALLEST, wanted):
        raise ModelLoadError(
            f"{name} does not fit: {gib(sizes.n_bytes)} of weights and inputs of "
            f"{tokens(wanted)} tokens, with {gib(max(0, free))} left for these; try a smaller "
            "--embed-ctx, or --force to load it anyway"
        )
    return min(wanted, most)


def batch_of(longest: int) -> int:
    """Tokens that are computed together: several inputs, or a single one as long as any may be."""
    return max(longest, _N_BATCH)
