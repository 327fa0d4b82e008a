"""What `l4 ask` says when Ctrl-C or another signal has stopped it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from l4cli.ask.answering import QuestionAnswer
    from l4cli.ask.split_run import Progress
    from l4cli.documents.reading import Reading


def while_reading(reading: Reading) -> str:
    """Say how much of the documents was read, and whether that is kept."""
    if not reading.num_read_tokens:
        return "stopped before reading began"
    far = f"stopped: {reading.num_read_tokens:,} of {reading.num_tokens:,} tokens were read"
    if reading.num_bytes_saved or reading.num_restored_tokens:
        return f"{far} and are kept; the same command reads only the rest"
    return f"{far}; they are not kept"


def while_taking_notes(progress: Progress, num_questions: int) -> str:
    """Say how many notes on the parts of the documents there are: one for each question."""
    done, everything = progress.num_done, progress.num_all
    if not done:
        return "stopped before the first part was read; nothing is kept"
    if done == everything:
        return "stopped when all parts were read; the same command begins with the notes on them"
    if num_questions == 1:
        far = f"{done:,} of {everything:,} parts were read, and the notes on them are kept"
    else:
        far = f"{done:,} of {everything:,} notes on the parts were taken and are kept"
    return f"stopped: {far}; the same command goes on from there"


def while_answering(done: Sequence[QuestionAnswer], num_questions: int) -> str | None:
    """Say what of the answers is missing; None if they were not stopped."""
    if not any(one.exit_code for one in done):
        return None
    num_whole = sum(one.is_whole for one in done)
    if num_whole == num_questions:
        said = "stopped before the quotations were found"
    elif num_questions > 1:
        said = f"stopped: {num_whole} of {num_questions} questions were answered"
    elif done[0].text:
        said = "stopped: the answer is not whole"
    else:
        said = "stopped before the answer began"
    if done[0].coverage:
        return f"{said}; the notes are kept: the same command answers without reading again"
    return said
