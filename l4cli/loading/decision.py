"""How a model is loaded, after everything that was "auto" has been decided."""

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

    n_ctx: tokens of context, shared by all sequences.
    kv_type: type of the KV cache: f16, q8_0, q4_0.
    gpu_layers: layers on the graphics cards, -1 for all.
    cpu_moe: number of layers, from the first, whose routed experts stay in RAM.
    split: shares of the layers, one for each card; () if there is at most one.
    repack: whether the CPU backend may copy weights into the order that its kernels prefer.
    prefill_on: weights of a second context that computes prompts: "same", or "file order" for a
        second set in the file's order. None: one context computes everything, because a second is
        no faster or does not fit.
    line: one line for the user: the choices and the memory they take; None if there is none.
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
        """Return the conditions under which speeds of a model loaded like this were measured.

        fingerprint: the model file's; threads: CPU threads, None for one per physical core;
        cards: names of the graphics cards; n_layers: layers of the model.
        """
        found = Conditions(
            fingerprint, n_threads=threads or num_physical_cores(), kv_type=self.kv_type
        )
        return found.placed(
            cards, self.gpu_layers, self.cpu_moe, n_layers=n_layers, repack=self.repack
        )


def as_told(options: LoadOptions) -> Decision:
    """Return the options as a Decision, where nothing has to be chosen."""
    return Decision(
        n_ctx=DEFAULT_N_CTX if options.n_ctx == "auto" else options.n_ctx,
        kv_type=options.kv_type,
        gpu_layers=-1 if options.gpu_layers == "auto" else options.gpu_layers,
        cpu_moe=options.cpu_moe if isinstance(options.cpu_moe, int) else 0,
        split=options.split or (),
    )
