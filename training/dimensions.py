"""The model's dimensions, and which of its layers are global or have experts."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Dimensions:
    """The dimensions that a checkpoint's config.json states.

    For Llama 4, llama.cpp fixes `chunk`, `temperature_floor`, `temperature_scale` and
    `nope_interval`. Every second layer has experts, as in Maverick. Two of the eight layers are
    global, so the second one can use what the first one found. Eight such layers have as many
    weights as four layers that all have experts.

    expert_width, dense_width: inner width of an expert and of a dense layer's MLP.
    moe_interval: one layer in so many has experts.
    nope_interval: one layer in so many is global and has no RoPE.
    chunk: tokens that a layer with RoPE attends within.
    temperature_floor, temperature_scale: from which position on, and by how much, the queries of a
        global layer grow.
    context: the longest context that the checkpoint declares, in tokens.
    """

    vocab_size: int
    hidden: int = 256
    layers: int = 8
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 128
    experts: int = 16
    expert_width: int = 256
    dense_width: int = 256
    moe_interval: int = 2
    eps: float = 1e-5
    rope_theta: float = 500000.0
    chunk: int = 8192
    nope_interval: int = 4
    temperature_floor: int = 8192
    temperature_scale: float = 0.1
    context: int = 131072

    def is_global(self, layer: int) -> bool:
        """Whether the layer attends to its whole sequence, without RoPE."""
        return (layer + 1) % self.nope_interval == 0

    def is_moe(self, layer: int) -> bool:
        """Whether the layer has experts."""
        return (layer + 1) % self.moe_interval == 0
