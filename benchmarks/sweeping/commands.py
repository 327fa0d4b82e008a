"""Command lines with odd values of options, each in a fork of this process."""

from __future__ import annotations

from pathlib import Path

import flags as made
from checkpoints import write_checkpoint

import convert
from benchmarks.sweeping.trial import FINE, REFUSED, Ended, Trial

MOST_SECONDS = made.SECONDS + 10  # `flags` ends commands itself, and says which took too long


def flags(scratch: Path) -> Trial:
    """Every option and argument of every command."""
    made.import_everything()
    checkpoint = write_checkpoint(scratch / "tiny")
    model = convert.convert(convert.plan(checkpoint, "F32"), scratch / "tiny.gguf").path
    makers = made.Makers(str(model), str(checkpoint))

    def trial(seed: int) -> Ended:
        outcome = made.run(makers.make(seed), scratch)
        if outcome.fault:
            line = " ".join(ascii(word)[1:-1][:60] for word in outcome.arguments)
            return Ended(finding=f"{line}: {outcome.seconds:.1f} s: {outcome.fault}")
        return REFUSED if outcome.status else FINE

    return trial
