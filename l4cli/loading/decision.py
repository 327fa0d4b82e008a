"""How a model is to be loaded, as it was decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from l4cli.loading.options import DEFAULT_N_CTX, LoadOptions

if TYPE_CHECKING:
    from l4cli.fit.choose import PrefillOn


@dataclass(frozen=True, slots=True)
class Decision:
    """How to load a model. `line` says what was chosen and why, or what to expect; None: nothing.

    `repack` lets the CPU copy weights into its kernels' own order. `prefill_on` tells over which
    weights prompts are computed by themselves, where that is faster and there is room: over the
    same, or over others that lie as in the file. None: they are not.
    """

    n_ctx: int
    kv_type: str
    gpu_layers: int
    cpu_moe: int = 0
    split: tuple[float, ...] = ()
    repack: bool = True
    prefill_on: PrefillOn | None = None
    line: str | None = None


def as_told(options: LoadOptions) -> Decision:
    """Nothing to choose: everything as it was said."""
    return Decision(
        n_ctx=DEFAULT_N_CTX if options.n_ctx == "auto" else options.n_ctx,
        kv_type=options.kv_type,
        gpu_layers=-1 if options.gpu_layers == "auto" else options.gpu_layers,
        cpu_moe=options.cpu_moe if isinstance(options.cpu_moe, int) else 0,
        split=options.split or (),
    )
