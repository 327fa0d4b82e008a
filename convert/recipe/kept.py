"""Which tensors llama.cpp's quantizer leaves as they are. Pure.

Source: ``tensor_allows_quantization`` in ``src/llama-quant.cpp``.
"""

from __future__ import annotations

# A tensor is left as it is if one of these texts is in its name: norms, the routers of experts, and
# what is small or takes part in no matrix product.
_KEPT = (
    "_norm.weight",
    "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight",  # routers
    "altup", "laurel", "per_layer_model_proj",  # Gemma 3n
    "ssm_conv1d", "shortconv.conv.weight",  # Mamba, LFM2
    "indexer.k_proj.weight", "indexer.q_proj.weight",  # MiniMax
    "time_mix_first.weight", "time_mix_w0.weight", "time_mix_w1.weight", "time_mix_w2.weight",
    "time_mix_v0.weight", "time_mix_v1.weight", "time_mix_v2.weight", "time_mix_a0.weight",
    "time_mix_a1.weight", "time_mix_a2.weight", "time_mix_g1.weight", "time_mix_g2.weight",
    "time_mix_decay_w1.weight", "time_mix_decay_w2.weight", "time_mix_lerp_fused.weight",  # RWKV
    "attn_rel_b.weight",  # T5
    ".position_embd", "sam.pos_embd", "sam.neck.", "sam.net_", ".rel_pos", ".patch_embd",
    ".patch_merger", "a.rvq.codebook", "mm.a.code_embd",  # images and sound
)  # fmt: skip
_KEPT_WHOLE = ("position_embd.weight", "token_types.weight")  # GPT-2, BERT

_KEPT_IN = {
    "glm5-next": (
        "hc_", "indexer.attn_q_b", "indexer.attn_k", "indexer.proj", "indexer_compressor_gate",
        "indexer_compressor_ape", "ssm_f_a.weight", "ssm_f_b.weight", "ssm_g_a.weight",
        "ssm_g_b.weight", "ssm_beta.weight", "attn_kv_a_mqa.weight", "attn_k_b.weight",
        "attn_v_b.weight",
    ),
}  # fmt: skip


def is_quantizable(name: str, shape: tuple[int, ...], architecture: str = "") -> bool:
    """Whether a tensor may get another type than its own: a weight matrix that is not kept.

    shape: in ne order. architecture: llama.cpp's name.
    """
    if not name.endswith("weight") or not any(n > 1 for n in shape[1:]) or name in _KEPT_WHOLE:
        return False
    return not any(part in name for part in (*_KEPT, *_KEPT_IN.get(architecture, ())))
