"""What `l4 experts` writes as text."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from l4cli import console

if TYPE_CHECKING:
    from l4cli.experts.report import Result


def show(result: Result) -> None:
    """Write the map of all experts, the figures of layers, classes and rows, and what is saved."""
    from l4cli.experts import report

    width = shutil.get_terminal_size().columns if console.stdout_is_terminal() else 80
    console.paragraph(f"{result.model}: {report.headline(result)}")
    _title("Each layer's experts, and how often they were chosen")
    console.data("")
    console.data("\n".join(report.heat_lines(result.text.counts, width)))
    console.paragraph(report.LEGEND)
    console.data("")
    console.paragraph(report.summary(result))
    console.data("")
    console.table(report.LAYER_COLUMNS, report.layer_rows(result))
    _title("By the class of tokens: how alike their use is to that of all, what they prefer")
    console.table(report.CLASS_COLUMNS, report.class_rows(result.text))
    if result.text.has_rows:
        _rows(result)
    if result.other:
        _title(f"Compared with {report.overlap_line(result)}")
        console.table(report.OVERLAP_COLUMNS, report.overlap_rows(result))
    where = (
        "on the GPU, the others in RAM" if result.fast == "GPU" else "in RAM, the others on disk"
    )
    _title(f"With the hottest experts {where} (estimated for one answer at a time)")
    console.table(report.KEPT_COLUMNS, report.kept_rows(result))


def _rows(result: Result) -> None:
    from l4cli.experts import report

    _title("By row: how alike its use is to that of all rows, and the experts it used")
    console.table(report.SECTION_COLUMNS, report.section_rows(result.text))
    more = len(result.text.counts.by_section) - report.NUM_ROWS
    if more > 0:
        console.paragraph(f"{more:,} more rows: --json has all of them")


def _title(text: str) -> None:
    console.data("")
    console.paragraph(f"{text}:")
