"""Loading a model on behalf of a command: what the person sees meanwhile."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from l4cli import console
from l4cli.documents.text import read_text
from l4cli.engine.sizing import SizingLimits
from l4cli.fit.wanted import Wanted
from l4cli.llm import LLM
from l4cli.loader import load, sizing_limits
from l4cli.signals import catch_interrupts
from l4cli.speeds import Conditions


def load_for_command(model: str | None, **hardware: Any) -> LLM:
    """`load` with a status line on stderr, and a word when the demo model is converted first."""
    with console.status("loading the model") as update, catch_interrupts() as interrupts:

        def on_progress(done: float) -> None:
            update(f"loading the model: {done:.0%}")
            if interrupts:
                sys.exit(interrupts.exit_code)

        llm = load(
            model,
            on_progress=on_progress,
            on_convert=note_conversion,
            on_note=console.warn,
            **hardware,
        )
        if interrupts:
            llm.close()
            sys.exit(interrupts.exit_code)
        return llm


def convert_demo(model: str | None) -> None:
    """Convert the demo model now, if it is what `model` means and is not there yet."""
    from l4cli.locate import locate

    locate(model, on_convert=note_conversion)


def load_vocabulary(
    model: str | None,
    *,
    ctx: int | Literal["auto"],
    parallel: int | Literal["auto"],
    **hardware: Any,
) -> tuple[LLM, SizingLimits]:
    """A model without its weights, and what contexts it could have.

    It encodes prompts and knows what would fit, no more; `decision` is how `hardware`, the options
    of that panel, would have it loaded.
    """
    from l4cli.batch.dry_run import VocabularyBackend
    from l4cli.engine.llamacpp import LlamaModel
    from l4cli.fit.wanted import ROOM_FOR_CONTEXT, check_context, decide
    from l4cli.locate import locate

    located = locate(model, on_convert=note_conversion)
    vocabulary = LlamaModel(located.path, vocab_only=True)
    room = ctx if isinstance(ctx, int) else ROOM_FOR_CONTEXT
    decision = decide(located.path, wanted(room, **{**hardware, "force": True}))
    limits = sizing_limits(vocabulary, ctx, parallel, decision.kv_type)
    if isinstance(ctx, int):
        trained = vocabulary.n_ctx_train
        if line := check_context(located.name, ctx, trained, limits.n_seq_max):
            console.warn(line)
    llm = LLM(
        located.name,
        vocabulary,
        VocabularyBackend(limits.longest),
        sampling=located.sampling(vocabulary.metadata),
        path=located.path,
        on_close=vocabulary.close,
        decision=decision,
    )
    return llm, limits


def wanted(
    n_ctx: int,
    *,
    kv_type: str,
    gpu_layers: int | Literal["auto"] = -1,
    cpu_moe: int | Literal["auto"] | None = None,
    tensor_split: Sequence[float] | Literal["auto"] | None = None,
    force: bool = False,
    **_others: object,
) -> Wanted:
    """How options would have a model loaded, for one sequence of `n_ctx` tokens."""
    return Wanted(
        n_ctx,
        kv_type=kv_type,
        gpu_layers=gpu_layers,
        cpu_moe=cpu_moe,
        split=tensor_split,
        force=force,
    )


def conditions(llm: LLM, threads: int | None) -> Conditions:
    """What the speeds of a model hold for, loaded or to be loaded as was decided."""
    from l4cli.engine.llamacpp import LlamaModel
    from l4cli.engine.llamacpp.devices import devices
    from l4cli.native.cpu import num_physical_cores

    decision, model = llm.decision, llm.vocabulary
    loaded = Conditions(llm.fingerprint, n_threads=threads or num_physical_cores())
    if decision is None or not isinstance(model, LlamaModel):  # it was not loaded from a file
        return loaded
    return replace(loaded, kv_type=decision.kv_type).placed(
        [device.name for device in devices()],
        decision.gpu_layers,
        decision.cpu_moe,
        n_layers=model.n_layers,
        repack=decision.repack,
    )


def read_text_option(value: str | None) -> str | None:
    """An option's text, or with @FILE the content of that file."""
    if value is None or not value.startswith("@"):
        return value
    return read_text(Path(value[1:]))


def note_conversion(path: Path) -> None:
    """Say that the demo model is converted first."""
    console.note(f"converting the demo model, once, to {path}")
