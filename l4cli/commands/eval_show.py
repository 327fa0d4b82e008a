"""What `l4 eval` writes as text."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

from l4cli import console

if TYPE_CHECKING:
    from l4cli.eval.report import Result


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
