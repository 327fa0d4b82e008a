"""Whether a KL divergence is more than a quantization costs. Pure."""

from __future__ import annotations

from l4cli.eval.figures import Comparison

# Bits of a weight, and the mean KL divergence that is too much for them. Of LLaMA 3 8B, 8.5 bits
# cost 0.0014, 4.8 bits 0.03 and 2.6 bits 0.33 (llama.cpp's tables); small models lose some more.
_MOST = ((7.5, 0.03), (5.5, 0.1), (4.4, 0.3), (3.2, 0.8), (2.4, 1.5), (0.0, 3.0))


def is_suspicious(found: Comparison, bits_per_weight: float) -> bool:
    """Whether a model lost so much that it may be broken.

    bits_per_weight: of the model, on average.
    """
    return found.kld.value > next(most for bits, most in _MOST if bits_per_weight >= bits)
