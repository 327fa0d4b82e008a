"""How the caller wants a model to be loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from l4cli.fit.choose import PlacementLimits
    from l4cli.fit.together import Room

DEFAULT_N_CTX = 16384

Auto = Literal["auto"]


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How a model is to be loaded. An option that is "auto" is chosen to fit the machine.

    ctx: tokens of context, shared by all sequences. "auto" makes contexts that fit the requests
        (`LLM.fit`), "largest" makes one as long as memory allows. None is `default_ctx`, or the
        length that the model was trained for if that is less.
    default_ctx: tokens of context if `ctx` is None; what memory must have room for if it is "auto".
    parallel: the most sequences that run at once. "auto" finds the best number while they run.
    threads: CPU threads; None is one for each physical core.
    gpu_layers: layers on the graphics cards, -1 for all.
    cpu_moe: number of layers, from the first, whose routed experts stay in RAM; None is none.
    tensor_split: shares of the layers, one for each card; None or "auto" chooses them.
    kv_type: type of the KV cache: f16, q8_0, q4_0.
    experts: routed experts that each token passes; None is as many as the model was trained with.
    expert_counts: whether completions tell which experts their answers' tokens were sent to.
    force: whether to load the model even if it does not seem to fit.
    elastic: whether `ctx` and `parallel` are upper limits, and contexts are made to fit requests.
    deterministic: whether the same request gives the same text whatever came before it. Requests
        then run one at a time, and prompts are always computed in the same pieces.
    interactive: whether somebody waits for each token: prompts are then computed in small batches,
        and between two of them every running answer gets a token. For elastic contexts.
    store: whether computed prefixes can be kept on disk (`LLM.recall`, `LLM.remember`).
    store_limit: bytes that the stored prefixes of all models may take on disk; None is a fifth of
        the disk.
    room: what the model may take where others are loaded, too; None is all that is free now.
    """

    ctx: int | Literal["auto", "largest"] | None = None
    default_ctx: int = DEFAULT_N_CTX
    parallel: int | Auto = 1
    threads: int | None = None
    gpu_layers: int | Auto = -1
    cpu_moe: int | Auto | None = None
    tensor_split: Sequence[float] | Auto | None = None
    kv_type: str = "f16"
    experts: int | None = None
    expert_counts: bool = False
    force: bool = False
    elastic: bool = False
    deterministic: bool = False
    interactive: bool = False
    store: bool = False
    store_limit: int | None = None
    room: Room | None = None

    def but(self, **changes: Any) -> LoadOptions:
        """Return a copy with some fields changed."""
        return replace(self, **changes)

    @property
    def n_seq_max(self) -> int | Auto:
        """The most sequences that may run at once; 1 if deterministic."""
        return 1 if self.deterministic else self.parallel

    @property
    def is_elastic(self) -> bool:
        """Whether contexts are made to fit the requests, instead of one fixed context."""
        is_open = self.ctx == "auto" or self.n_seq_max == "auto"
        return self.elastic or self.deterministic or is_open

    @property
    def n_ctx(self) -> int | Auto:
        """Tokens of context that memory must have room for; "auto" for as many as fit."""
        if self.ctx == "largest":
            return "auto"
        return self.default_ctx if self.ctx in (None, "auto") else self.ctx

    @property
    def n_seqs_with_room(self) -> int:
        """The number of sequences that the context must have room for.

        It is 1 for an elastic context, which is later given as many sequences as fit.
        """
        count = self.n_seq_max
        return count if isinstance(count, int) and not self.elastic else 1

    @property
    def leaves_something(self) -> bool:
        """Whether any option is "auto" and has to be chosen."""
        asked = (self.n_ctx, self.kv_type, self.gpu_layers, self.cpu_moe, self.tensor_split)
        return "auto" in asked

    @property
    def split(self) -> tuple[float, ...] | None:
        """The shares given in `tensor_split`; None if there are none."""
        given = self.tensor_split
        return None if given is None or isinstance(given, str) else tuple(map(float, given))

    @property
    def placement(self) -> PlacementLimits:
        """The constraints that these options put on where the weights go."""
        from l4cli.fit.choose import PlacementLimits

        if isinstance(self.cpu_moe, int):
            cpu_moe: int | None = self.cpu_moe
        else:
            cpu_moe = None if "auto" in (self.cpu_moe, self.gpu_layers) else 0
        layers = None if self.gpu_layers == "auto" else self.gpu_layers
        repack = self.room.repack if self.room else None
        return PlacementLimits(gpu_layers=layers, cpu_moe=cpu_moe, split=self.split, repack=repack)
