"""How a model is to be loaded, as it was asked for. Light: the usual case needs no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from l4cli.errors import ModelLoadError, UsageError
from l4cli.native.memory import free_memory_bytes
from l4cli.splits import split_parts

Auto = Literal["auto"]
PrefillOn = Literal["same", "file order"]
_HARMLESS_CTX = 65536  # tokens: below, only the weights can be too large
ROOM_FOR_CONTEXT = 16384  # tokens that room is kept for where the context's length is still open
# Files of less than half the free memory, too small to hold large experts, are loaded without a
# look inside.
_LARGEST_SHARE = 2
_SMALL_FILE = 1 << 30


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a model is to be loaded; "auto" leaves it to us. `n_ctx` tokens, `split` shares.

    `cpu_moe` None is 0 layers. With `force`, what does not fit is tried all the same. Saving and
    loading sequences, `with_states`, takes one more of them.
    """

    n_ctx: int | Auto
    n_seq_max: int = 1
    unified: bool = True
    with_states: bool = False
    kv_type: str = "f16"
    gpu_layers: int | Auto = -1
    cpu_moe: int | Auto | None = None
    split: Sequence[float] | Auto | None = None
    force: bool = False

    @property
    def layers(self) -> int:
        """Layers on the cards as told, -1 for all."""
        return -1 if self.gpu_layers == "auto" else self.gpu_layers

    @property
    def leaves_something(self) -> bool:
        """Whether there is anything to choose."""
        return "auto" in (self.n_ctx, self.kv_type, self.gpu_layers, self.cpu_moe, self.split)


@dataclass(frozen=True, slots=True)
class Decision:
    """How to load it. `line` says what was chosen and why, or what to expect; None: nothing.

    `prefill_on` tells over which weights prompts are computed by themselves, where that is faster
    and there is room: over the same, or over others that lie as in the file. None: they are not.
    """

    n_ctx: int
    kv_type: str
    gpu_layers: int
    cpu_moe: int = 0
    split: tuple[float, ...] = ()
    repack: bool = True
    prefill_on: PrefillOn | None = None
    line: str | None = None


def decide(path: Path, wanted: Wanted) -> Decision:
    """How to load the GGUF `path`; its header is read only where that can matter.

    Raises ModelLoadError, with what is lacking and the way out, for what cannot fit, and UsageError
    for cards that are not there.
    """
    check_cards(wanted)
    return _trusted(_decide(path, wanted))


def _decide(path: Path, wanted: Wanted) -> Decision:
    if not wanted.leaves_something and not _is_worth_a_look(path, wanted):
        return as_told(wanted)
    from convert.errors import ConvertError
    from l4cli.fit.hardware import probe
    from l4cli.fit.loading import choose
    from l4cli.fit.shape import shape_of_file

    try:
        shape = shape_of_file(path)
    except ConvertError as error:
        raise ModelLoadError(str(error)) from None
    return choose(shape, wanted, probe())


def _trusted(decision: Decision) -> Decision:
    """Without what the self-test found the installed llama.cpp to do wrong."""
    from l4cli.native.selftest import outcome

    found = outcome()
    if not found.extra_buffers:
        prefill_on: PrefillOn | None = "same" if decision.prefill_on else None
        decision = replace(decision, repack=False, prefill_on=prefill_on)
    return decision if found.moving else replace(decision, prefill_on=None)


def check_context(name: str, n_ctx: int, n_ctx_train: int, n_seq_max: int = 1) -> str | None:
    """The one rule for a context asked for: no sequence holds more than it was trained for.

    `n_ctx` tokens are for `n_seq_max` sequences together; `n_ctx_train` 0 is not known. UsageError
    where they could not hold so many. A line where one of them alone cannot, None if it can.
    """
    if not n_ctx_train or n_ctx <= n_ctx_train:
        return None
    if n_ctx <= n_ctx_train * n_seq_max:
        return (
            f"one sequence holds {n_ctx_train} of the {n_ctx} tokens of context: {name} was not "
            "trained for more"
        )
    whole = f"the {n_ctx_train} tokens that {name} was trained for"
    if n_seq_max > 1:
        whole = f"{n_seq_max} sequences of {whole}"
    raise UsageError(f"--ctx {n_ctx} is more than {whole}")


def trained_context(path: Path) -> int:
    """Tokens that a GGUF was trained for, by its header; 0 where it does not say."""
    from convert.errors import ConvertError
    from convert.gguf_file import read_gguf

    try:
        fields = read_gguf(path).fields
    except ConvertError:  # said better where it is loaded
        return 0
    value = fields.get(f"{fields.get('general.architecture')}.context_length")
    return value if type(value) is int else 0


def as_told(wanted: Wanted) -> Decision:
    """Nothing to choose: everything as it was said."""
    split = () if wanted.split in (None, "auto") else tuple(map(float, wanted.split or ()))
    return Decision(
        n_ctx=ROOM_FOR_CONTEXT if wanted.n_ctx == "auto" else wanted.n_ctx,
        kv_type=wanted.kv_type,
        gpu_layers=wanted.layers,
        cpu_moe=wanted.cpu_moe if isinstance(wanted.cpu_moe, int) else 0,
        split=split,
    )


def check_cards(wanted: Wanted) -> None:
    """UsageError where something is asked of cards that are not there."""
    asks = isinstance(wanted.gpu_layers, int) and wanted.gpu_layers > 0
    shares = wanted.split if wanted.split not in (None, "auto") else ()
    if not asks and not shares:
        return
    from l4cli.engine.llamacpp.devices import devices

    found = len(devices())
    if found == 0:
        option = f"--gpu-layers {wanted.gpu_layers}" if asks else "--tensor-split"
        raise UsageError(
            f"{option}: llama.cpp sees no graphics card here (is its driver loaded, and was "
            "llama-cpp-python built for it?); --gpu-layers auto takes what there is"
        )
    if shares and len(shares) != found:
        raise UsageError(f"--tensor-split names {len(shares)} cards, but there are {found}")


def _is_worth_a_look(path: Path, wanted: Wanted) -> bool:
    """A guess that costs nothing: whether the file may be too large, or have large experts."""
    try:
        size = sum(file.stat().st_size for file in split_parts(path))
    except OSError:  # said better where it is opened
        return False
    if size > _SMALL_FILE:
        return True
    from l4cli.engine.llamacpp.devices import devices

    free = min(free_memory_bytes(), *(device.free for device in devices()), 1 << 62)
    n_ctx = 0 if wanted.n_ctx == "auto" else wanted.n_ctx
    return n_ctx > _HARMLESS_CTX or size > free // _LARGEST_SHARE
