"""The type in which training multiplies matrices on this processor."""

import torch


def _fast_type() -> torch.dtype:
    """bfloat16 where the processor computes with it, else float32.

    Without such instructions torch emulates bfloat16: on a processor with AVX2 only, a product of
    600x256 by 256x512 took 86 times as long as in float32.
    """
    mkldnn = torch.backends.mkldnn.is_available()
    has_bfloat16 = mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if has_bfloat16 else torch.float32


COMPUTE_TYPE = _fast_type()


def autocast() -> torch.autocast:
    """Return a context in which matrix products use COMPUTE_TYPE.

    The cache of casts is off: each weight is cast once in a forward pass anyway, and the cache
    would keep all of the copies.
    """
    enabled = COMPUTE_TYPE is not torch.float32
    return torch.autocast("cpu", torch.bfloat16, enabled=enabled, cache_enabled=False)
