"""How a model is loaded: as it was told, or where that can matter, as fits the machine.

What takes a look into the file, and the arithmetic of memory, is imported only where it is needed.
"""

from __future__ import annotations

from dataclasses import replace

from l4cli.engine.llamacpp.devices import devices
from l4cli.errors import UsageError
from l4cli.loading.contexts import most_sequences
from l4cli.loading.decision import Decision, as_told
from l4cli.loading.file import ModelFile
from l4cli.loading.options import LoadOptions
from l4cli.native.memory import free_memory_bytes
from l4cli.native.selftest import outcome

_HARMLESS_CTX = 65536  # tokens: below, only the weights can be too large
# Files of less than half the free memory, too small to hold large experts, are loaded without a
# look inside.
_LARGEST_SHARE = 2
_SMALL_FILE = 1 << 30


def decide(file: ModelFile, options: LoadOptions) -> Decision:
    """How to load that file on this machine; its header is read only where that can matter.

    Raises ModelLoadError, with what is lacking and the way out, for what cannot fit, and UsageError
    for cards that are not there or a context longer than the model was trained for.
    """
    check_cards(options)
    context_line = None
    if isinstance(options.ctx, int):
        n_seq_max = most_sequences(options)
        context_line = check_context(file.name, options.ctx, file.n_ctx_train, n_seq_max)
    if options.leaves_something or _is_worth_a_look(file, options):
        from l4cli.fit.hardware import probe
        from l4cli.loading.choose import choose

        decision = choose(file.shape, options, probe())
    else:
        decision = as_told(options)
    return replace(_trusted(decision), context_line=context_line)


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


def _trusted(decision: Decision) -> Decision:
    """Without what the self-test found the installed llama.cpp to do wrong."""
    found = outcome()
    if not found.extra_buffers:
        decision = replace(
            decision, repack=False, prefill_on="same" if decision.prefill_on else None
        )
    return decision if found.moving else replace(decision, prefill_on=None)


def check_cards(options: LoadOptions) -> None:
    """UsageError where something is asked of cards that are not there."""
    asks = isinstance(options.gpu_layers, int) and options.gpu_layers > 0
    shares = options.split or ()
    if not asks and not shares:
        return
    found = len(devices())
    if found == 0:
        option = f"--gpu-layers {options.gpu_layers}" if asks else "--tensor-split"
        raise UsageError(
            f"{option}: llama.cpp sees no graphics card here (is its driver loaded, and was "
            "llama-cpp-python built for it?); --gpu-layers auto takes what there is"
        )
    if shares and len(shares) != found:
        raise UsageError(f"--tensor-split names {len(shares)} cards, but there are {found}")


def _is_worth_a_look(file: ModelFile, options: LoadOptions) -> bool:
    """A guess that costs nothing: whether the file may be too large, or have large experts."""
    try:
        size = file.n_bytes
    except OSError:  # said better where it is opened
        return False
    if size > _SMALL_FILE:
        return True
    free = min(free_memory_bytes(), *(device.free for device in devices()), 1 << 62)
    n_ctx = 0 if options.n_ctx == "auto" else options.n_ctx
    return n_ctx > _HARMLESS_CTX or size > free // _LARGEST_SHARE
