"""Bytes of the KV cache, as llama.cpp sets them aside."""

from __future__ import annotations

from functools import partial

from l4cli.engine.kv import kv_bytes_per_token, kv_cache_bytes

SCOUT = {
    "general.architecture": "llama4",
    "llama4.block_count": "48",
    "llama4.embedding_length": "5120",
    "llama4.attention.head_count": "40",
    "llama4.attention.head_count_kv": "8",
    "llama4.attention.key_length": "128",
    "llama4.attention.value_length": "128",
}


def test_the_kv_cache_of_scout_is_what_llama_cpp_sets_aside() -> None:
    of = partial(kv_cache_bytes, SCOUT.get, n_seq_max=1, n_ubatch=512, unified=True)
    fixed = 36 * 8704 * 4096
    assert of(n_ctx=131072, kv_type="f16") == 131072 * 48 * 1024 + fixed
    assert of(n_ctx=1024, kv_type="f16") == 48 * 1024 * 4096
    assert of(n_ctx=1024, kv_type="q8_0") == 48 * 1024 * 4096 * 34 // 64


def test_each_of_several_parts_has_its_own_window() -> None:
    of = partial(kv_cache_bytes, SCOUT.get, n_ctx=4 * 16384, n_seq_max=4, n_ubatch=512)
    assert of(kv_type="f16", unified=False) == 4 * (12 * 16384 + 36 * 8704) * 4096
    assert of(kv_type="f16", unified=True) == (12 * 65536 + 36 * 33280) * 4096


def test_metadata_that_does_not_tell() -> None:
    of = partial(kv_cache_bytes, n_ctx=1, n_seq_max=1, n_ubatch=1, kv_type="f16", unified=True)
    assert of({}.get) is None
    assert kv_bytes_per_token({}.get, "f16") is None
    assert kv_bytes_per_token(SCOUT.get, "f16") == 48 * 4096
