"""GGUF files with a vocabulary of bytes, of any pre-tokenizer, and tokens of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np
import tiny_tokenizer


def write_vocabulary(
    path: Path,
    pre: str,
    *,
    merges: Sequence[str] = (),
    control: Sequence[str] = (),
    eos: str = "",
    template: str = "",
) -> Path:
    """Write such a file; return its path.

    merges: pairs of tokens, each with a space between them, that become one token.
    eos: one of the control tokens.
    """
    words = [*tiny_tokenizer._VOCAB, *(pair.replace(" ", "") for pair in merges)]
    kinds = [gguf.TokenType.NORMAL] * len(words) + [gguf.TokenType.CONTROL] * len(control)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(1 << 20)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(64)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([*words, *control])
    writer.add_token_types(kinds)
    writer.add_token_merges([*(" ".join(pair) for pair in tiny_tokenizer._MERGES), *merges])
    if eos:
        writer.add_eos_token_id(len(words) + list(control).index(eos))
    if template:
        writer.add_chat_template(template)
    writer.add_tensor("token_embd.weight", np.zeros((len(kinds), 64), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
