"""How a model is to be loaded, as it was decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from l4cli.loading.options import DEFAULT_N_CTX, LoadOptions
from l4cli.native.cpu import num_physical_cores
from l4cli.speeds import Conditions

if TYPE_CHECKING:
    from l4cli.fit.choose import PrefillOn


@dataclass(frozen=True, slots=True)
class Decision:
    """How to load a model.

    repack: whether the CPU backend may copy weights into the order of its kernels.
    prefill_on: over which weights a second context computes prompts, where that is faster and
        there is room: "same", or others in the file's order. None: there is no second context.
    line: what was chosen and why, or what to expect; None where there is nothing to say.
    context_line: a warning that one sequence cannot use the whole context; None if it can.
    """

    n_ctx: int
    kv_type: str
    gpu_layers: int
    cpu_moe: int = 0
    split: tuple[float, ...] = ()
    repack: bool = True
    prefill_on: PrefillOn | None = None
    line: str | None = None
    context_line: str | None = None

    def conditions(
        self, fingerprint: str, threads: int | None, cards: Sequence[str], n_layers: int
    ) -> Conditions:
        """What speeds measured with a model that was loaded like this hold for."""
        found = Conditions(
            fingerprint, n_threads=threads or num_physical_cores(), kv_type=self.kv_type
        )
        return found.placed(
            cards, self.gpu_layers, self.cpu_moe, n_layers=n_layers, repack=self.repack
        )


def as_told(options: LoadOptions) -> Decision:
    """Nothing to choose: everything as it was said."""
    return Decision(
        n_ctx=DEFAULT_N_CTX if options.n_ctx == "auto" else options.n_ctx,
        kv_type=options.kv_type,
        gpu_layers=-1 if options.gpu_layers == "auto" else options.gpu_layers,
        cpu_moe=options.cpu_moe if isinstance(options.cpu_moe, int) else 0,
        split=options.split or (),
    )
