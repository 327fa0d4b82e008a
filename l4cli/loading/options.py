"""How a model is to be loaded, as it was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from l4cli.fit.choose import PlacementLimits

DEFAULT_N_CTX = 16384

Auto = Literal["auto"]


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How a model is to be loaded. Whatever is "auto" is chosen to fit the machine.

    ctx: tokens of context, shared by all sequences. "auto" makes contexts that fit the requests
        (`LLM.fit`), "largest" one as long as memory allows; None is `default_ctx`, or what the
        model was trained for if that is less.
    default_ctx: tokens of context where `ctx` is None.
    parallel: how many sequences may run at once. "auto" finds out while they run.
    threads: CPU threads; None is one for each physical core.
    gpu_layers: layers on the graphics cards, -1 for all.
    cpu_moe: of how many layers the routed experts stay in RAM; None is none.
    tensor_split: shares of the layers, one for each card.
    kv_type: type of the KV cache: f16, q8_0, q4_0.
    force: whether what does not fit is loaded all the same.
    elastic: whether `ctx` and `parallel` are limits within which contexts are made.
    deterministic: whether the same request gives the same text whatever came before: one sequence
        at a time, always in the same pieces.
    store: whether computed prefixes can be kept on disk (`LLM.recall`, `LLM.remember`).
    store_limit: bytes that the kept prefixes of all models may take; None is a fifth of the disk.
    """

    ctx: int | Literal["auto", "largest"] | None = None
    default_ctx: int = DEFAULT_N_CTX
    parallel: int | Auto = 1
    threads: int | None = None
    gpu_layers: int | Auto = -1
    cpu_moe: int | Auto | None = None
    tensor_split: Sequence[float] | Auto | None = None
    kv_type: str = "f16"
    force: bool = False
    elastic: bool = False
    deterministic: bool = False
    store: bool = False
    store_limit: int | None = None

    def but(self, **changes: Any) -> LoadOptions:
        """The same with some fields changed."""
        return replace(self, **changes)

    @property
    def n_seq_max(self) -> int | Auto:
        """How many sequences may run at once; one where it is deterministic."""
        return 1 if self.deterministic else self.parallel

    @property
    def is_elastic(self) -> bool:
        """Whether contexts are made to fit the requests, not once and for all."""
        is_open = self.ctx == "auto" or self.n_seq_max == "auto"
        return self.elastic or self.deterministic or is_open

    @property
    def n_ctx(self) -> int | Auto:
        """Tokens of context that there must be room for; "auto" for as many as fit."""
        if self.ctx == "largest":
            return "auto"
        if self.ctx == "auto":
            return DEFAULT_N_CTX
        return self.default_ctx if self.ctx is None else self.ctx

    @property
    def n_seqs_with_room(self) -> int:
        """For how many sequences the context must have room: elastic ones are cut to what fits."""
        count = self.n_seq_max
        return count if isinstance(count, int) and not self.elastic else 1

    @property
    def leaves_something(self) -> bool:
        """Whether there is anything to choose."""
        asked = (self.n_ctx, self.kv_type, self.gpu_layers, self.cpu_moe, self.tensor_split)
        return "auto" in asked

    @property
    def split(self) -> tuple[float, ...] | None:
        """The shares that are given; None where there are none."""
        given = self.tensor_split
        return None if given is None or isinstance(given, str) else tuple(map(float, given))

    @property
    def placement(self) -> PlacementLimits:
        """What is fixed of where the weights go."""
        from l4cli.fit.choose import PlacementLimits

        if isinstance(self.cpu_moe, int):
            cpu_moe: int | None = self.cpu_moe
        else:
            cpu_moe = None if "auto" in (self.cpu_moe, self.gpu_layers) else 0
        layers = None if self.gpu_layers == "auto" else self.gpu_layers
        return PlacementLimits(gpu_layers=layers, cpu_moe=cpu_moe, split=self.split)
