"""Loading a model on behalf of a command: what the person sees meanwhile."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from l4cli import console
from l4cli.documents.text import read_text
from l4cli.engine.sizing import SizingLimits
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
            on_note=lambda text: console.note(f"l4: {text}"),
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
    model: str | None, *, ctx: int | str, parallel: int | str, kv_type: str
) -> tuple[LLM, SizingLimits, str]:
    """A model without its weights, what contexts it could have, and the type of their cache.

    It encodes prompts and knows what would fit, no more.
    """
    from l4cli.batch.dry_run import VocabularyBackend
    from l4cli.engine.llamacpp import LlamaModel
    from l4cli.fit.wanted import ROOM_FOR_CONTEXT, Wanted, check_context, decide
    from l4cli.locate import locate

    located = locate(model, on_convert=note_conversion)
    vocabulary = LlamaModel(located.path, vocab_only=True)
    if kv_type == "auto":
        room = ctx if isinstance(ctx, int) else ROOM_FOR_CONTEXT
        kv_type = decide(located.path, Wanted(room, kv_type=kv_type, force=True)).kv_type
    limits = sizing_limits(vocabulary, ctx, parallel, kv_type)
    if isinstance(ctx, int):
        trained = vocabulary.n_ctx_train
        if line := check_context(located.name, ctx, trained, limits.n_seq_max):
            console.note(f"l4: {line}")
    llm = LLM(
        located.name,
        vocabulary,
        VocabularyBackend(limits.longest),
        sampling=located.sampling(vocabulary.metadata),
        path=located.path,
        on_close=vocabulary.close,
    )
    return llm, limits, kv_type


def conditions(
    llm: LLM, *, kv_type: str, threads: int | None, gpu_layers: int | str, **_others: object
) -> Conditions:
    """What the speeds of a model hold for, loaded with these options or as was decided for them."""
    from l4cli.engine.llamacpp import has_gpu_support, num_physical_cores

    decision = llm.decision
    if decision is not None:
        kv_type, gpu_layers = decision.kv_type, decision.gpu_layers
    if gpu_layers == "auto":  # not decided yet: all there is room for
        gpu_layers = -1
    has_gpu = has_gpu_support()
    return Conditions(
        model=llm.fingerprint,
        kv_type=kv_type,
        n_threads=threads or num_physical_cores(),
        n_gpu_layers=int(gpu_layers) if has_gpu else 0,
        n_cpu_moe=decision.cpu_moe if decision and has_gpu else 0,
        repack=decision.repack if decision else True,
    )


def read_text_option(value: str | None) -> str | None:
    """An option's text, or with @FILE the content of that file."""
    if value is None or not value.startswith("@"):
        return value
    return read_text(Path(value[1:]))


def note_conversion(path: Path) -> None:
    """Say that the demo model is converted first."""
    console.note(f"converting the demo model, once, to {path}")
