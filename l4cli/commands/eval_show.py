"""What `l4 eval` writes as text."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from l4cli import console
from l4cli.amounts import counted

if TYPE_CHECKING:
    from convert import Oddity
    from l4cli.eval.report import Result

_MOST_ODDITIES = 12  # lines for each model


def show(results: Sequence[Result], text: str, base: str | None) -> None:
    """Write the results: all figures of one model, or a table of several.

    text: the name of the text. base: the reference's name; None if there is none.
    """
    from l4cli.eval import report

    if not results:
        return
    if len(results) > 1:
        console.paragraph(report.text_line(results[0], text))
        if base:
            console.paragraph(f"compared with {base}")
        console.table(report.summary_columns(results), report.summary_rows(results))
        width = shutil.get_terminal_size().columns if console.stdout_is_terminal() else 80
        if lines := list(report.bars(results, width)):
            console.data("\n" + "\n".join(lines))
        return
    result = results[0]
    console.paragraph(f"{result.name}{f' against {base}' if base else ''}")
    console.paragraph(report.text_line(result, text))
    if result.comparison is None:
        console.paragraph(report.ppl_line(result))
    else:
        console.data("")
        console.table(report.FIGURE_COLUMNS, report.figure_rows(result.comparison))
        console.data("")
        console.table(report.SPREAD_COLUMNS, report.spread_rows(result.comparison))
    console.data("")
    console.table(report.depth_columns(result), report.depth_rows(result))
    if result.worst:
        console.data("\ntokens that differ most (probability by the reference and by the model):")
        console.table(report.WORST_COLUMNS, report.worst_rows(result))


def show_oddities(oddities: Mapping[str, Sequence[Oddity]], base: str) -> None:
    """Write what differs from the reference, of the models that were looked at."""
    for first, *rest in oddity_texts(oddities, base):
        console.data("")
        console.paragraph(first)
        for line in rest:
            console.paragraph(line, first="  ", rest="    ")


def oddity_texts(oddities: Mapping[str, Sequence[Oddity]], base: str) -> Iterator[list[str]]:
    """Yield lines on each model with differences, and at last on those that have none."""
    for name, found in oddities.items():
        if not found:
            continue
        lines = [f"{name} differs from {base} by more than its types explain:"]
        for one in found[:_MOST_ODDITIES]:
            where = "" if one.layer is None else f"layer {one.layer}: "
            lines.append(f"{where}{one.name} {one.what}")
        if (more := len(found) - _MOST_ODDITIES) > 0:
            lines.append(f"and {counted(more, 'more difference')} (--json)")
        yield lines
    if sound := [name for name, found in oddities.items() if not found]:
        yield [
            f"nothing in {', '.join(sound)} is broken that {base} shows: metadata are the same, "
            "and each tensor is as near as its type allows"
        ]
