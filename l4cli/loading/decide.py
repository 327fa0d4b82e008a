"""Decides how a model is loaded: as the options say or, if memory may be short, to fit the machine.

The modules that read the GGUF's header and compute memory are imported only when they are needed.
"""

from __future__ import annotations

from dataclasses import replace

from l4cli.amounts import tokens
from l4cli.engine.llamacpp.devices import devices, has_gpu_support
from l4cli.errors import UsageError
from l4cli.loading.contexts import most_sequences
from l4cli.loading.decision import Decision, as_told
from l4cli.loading.file import ModelFile
from l4cli.loading.options import LoadOptions
from l4cli.native.memory import free_memory_bytes
from l4cli.native.selftest import outcome

_HARMLESS_CTX = 65536  # tokens; up to here, only the weights can be too large
# A file is loaded without reading its header if it is smaller than _SMALL_FILE bytes (too small for
# large experts) and takes less than 1/_LARGEST_SHARE of the free memory.
_LARGEST_SHARE = 2
_SMALL_FILE = 1 << 30


def decide(file: ModelFile, options: LoadOptions) -> Decision:
    """Return how to load this file on this machine. Its header is read only if that can matter.

    Raises ModelLoadError if the model cannot fit (the message says what is missing and what to do),
    and UsageError for missing graphics cards or a context longer than the model was trained for.
    """
    check_cards(options)
    context_line = None
    if isinstance(options.ctx, int):
        n_seq_max = most_sequences(options)
        context_line = check_context(file.name, options.ctx, file.n_ctx_train, n_seq_max)
    if options.room or options.leaves_something or _is_worth_a_look(file, options):
        from l4cli.fit.hardware import probe
        from l4cli.loading.choose import choose

        decision = choose(file.shape, options, options.room.hardware if options.room else probe())
    else:
        decision = as_told(options)
    return replace(_trusted(decision), context_line=context_line)


def line_without_cards(options: LoadOptions) -> str | None:
    """Return a warning if llama.cpp has code for graphics cards, should use one, and finds none."""
    if options.gpu_layers == 0 or devices() or not has_gpu_support():
        return None
    return (
        "llama.cpp was built for graphics cards and finds none, so the model runs on the CPU: "
        "`l4 doctor` says why; --gpu-layers 0 is silent"
    )


def check_context(name: str, n_ctx: int, n_ctx_train: int, n_seq_max: int = 1) -> str | None:
    """Check a requested context: no sequence can hold more tokens than the model was trained for.

    n_ctx: tokens for all `n_seq_max` sequences together.
    n_ctx_train: tokens that the model was trained for; 0 if unknown.

    Returns a warning if one sequence alone cannot use all of `n_ctx`, otherwise None. Raises
    UsageError if all sequences together cannot.
    """
    if not n_ctx_train or n_ctx <= n_ctx_train:
        return None
    if n_ctx <= n_ctx_train * n_seq_max:
        return (
            f"one sequence can use only {tokens(n_ctx_train)} of the {tokens(n_ctx)} tokens of "
            f"context: {name} was not trained for more"
        )
    whole = f"the {tokens(n_ctx_train)} tokens that {name} was trained for"
    if n_seq_max > 1:
        whole = f"{n_seq_max} sequences times {whole}"
    raise UsageError(f"--ctx {tokens(n_ctx)} is more than {whole}")


def _trusted(decision: Decision) -> Decision:
    """Return the decision without the features that failed llama.cpp's self-test."""
    found = outcome()
    if not found.extra_buffers:
        decision = replace(
            decision, repack=False, prefill_on="same" if decision.prefill_on else None
        )
    return decision if found.moving else replace(decision, prefill_on=None)


def check_cards(options: LoadOptions) -> None:
    """Raise UsageError if the options need graphics cards that are not there."""
    asks = isinstance(options.gpu_layers, int) and options.gpu_layers > 0
    shares = options.split or ()
    if not asks and not shares:
        return
    found = len(devices())
    if found == 0:
        option = f"--gpu-layers {options.gpu_layers}" if asks else "--tensor-split"
        raise UsageError(
            f"{option}: llama.cpp sees no graphics card here (is its driver loaded, and was "
            "llama-cpp-python built for it?); --gpu-layers auto also works without one"
        )
    if shares and len(shares) != found:
        raise UsageError(f"--tensor-split names {len(shares)} cards, but there are {found}")


def _is_worth_a_look(file: ModelFile, options: LoadOptions) -> bool:
    """Whether the file may be too large or have large experts: a guess from its size alone."""
    try:
        size = file.n_bytes
    except OSError:  # opening the file reports this better
        return False
    if size > _SMALL_FILE:
        return True
    free = min(free_memory_bytes(), *(device.free for device in devices()), 1 << 62)
    n_ctx = 0 if options.n_ctx == "auto" else options.n_ctx
    return n_ctx > _HARMLESS_CTX or size > free // _LARGEST_SHARE
