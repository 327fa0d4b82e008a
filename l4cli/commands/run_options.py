"""The options that only `l4 run` has, in the order of the panels in its help."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from l4cli.commands.options import (
    HARDWARE_PANEL,
    MOST_SEQUENCES,
    parse_context,
    parse_file,
)
from l4cli.commands.sampling_options import SAMPLING_PANEL

INPUT_PANEL, OUTPUT_PANEL, CHECK_PANEL = "Input", "Output", "Checks and cost"


def parse_parallel(value: str) -> int | str:
    """A number of sequences, or "auto"."""
    if value == "auto":
        return value
    if not re.fullmatch(r"\d{1,9}", value) or int(value) < 1:
        raise typer.BadParameter(f"{value!r} is not valid: give auto, or a number of at least 1")
    if int(value) > MOST_SEQUENCES:
        raise typer.BadParameter(f"llama.cpp runs at most {MOST_SEQUENCES} sequences at once")
    return int(value)


def parse_ctx(value: str) -> int | str:
    """A number of tokens, or "auto"."""
    return value if value == "auto" else parse_context(value)


Input = Annotated[
    str,
    typer.Argument(metavar="INPUT", help="File of prompts in JSON Lines format; - reads stdin."),
]
Text = Annotated[
    bool,
    typer.Option(
        "--text",
        help="Read plain text: each line is one prompt (default for *.txt).",
        rich_help_panel=INPUT_PANEL,
    ),
]
Csv = Annotated[
    bool,
    typer.Option(
        "--csv",
        help="Read CSV with a header line; take the column prompt, or use --template-row (default "
        "for *.csv).",
        rich_help_panel=INPUT_PANEL,
    ),
]
TemplateRow = Annotated[
    str | None,
    typer.Option(
        "--template-row",
        metavar="JINJA|@FILE",
        help="Jinja template that makes each prompt from the row's columns or fields, e.g. "
        "'Translate: {{ text }}'; @FILE reads it from a file.",
        rich_help_panel=INPUT_PANEL,
    ),
]
Raw = Annotated[
    bool,
    typer.Option(
        "--raw",
        help="Let the model continue each prompt, without a chat template.",
        rich_help_panel=INPUT_PANEL,
    ),
]
Lenient = Annotated[
    bool,
    typer.Option(
        "--lenient",
        help="Ignore unknown fields in a row; otherwise they make it an error row.",
        rich_help_panel=INPUT_PANEL,
    ),
]
NoCache = Annotated[
    bool,
    typer.Option(
        "--no-cache",
        help="Do not restore documents from earlier runs, and do not save them for later "
        "(--deterministic implies this).",
        rich_help_panel=INPUT_PANEL,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        parser=parse_file,
        help="Write the answers to FILE, and a journal for --resume beside it (default: stdout).",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Continue an interrupted run: keep the answers in --out and add the missing ones.",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
RetryErrors = Annotated[
    bool,
    typer.Option(
        "--retry-errors",
        help="Like --resume, and also ask the error rows in --out again; takes another "
        "--max-tokens or --row-timeout.",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace the file of --out, if there is one.",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
Unordered = Annotated[
    bool,
    typer.Option(
        "--unordered",
        help="Write each row as soon as it is finished, not in the order of the input.",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
Timings = Annotated[
    bool,
    typer.Option(
        "--timings/--no-timings",
        help="Include times in the rows; without them, equal runs give byte-identical output.",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
ExpertCounts = Annotated[
    bool,
    typer.Option(
        "--expert-counts",
        help="Add to each answer how often each expert was chosen for its tokens, by layer.",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
RowTimeout = Annotated[
    float | None,
    typer.Option(
        "--row-timeout",
        metavar="S",
        help="Stop a row S seconds after it started, and make it an error row.",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
Grammar = Annotated[
    Path | None,
    typer.Option(
        "--grammar",
        metavar="FILE",
        help="GBNF grammar that every answer must match.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
IgnoreEos = Annotated[
    bool,
    typer.Option(
        "--ignore-eos",
        help="Do not stop at the model's end tokens: generate --max-tokens tokens.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Show token counts, memory and time without running; load no weights.",
        rich_help_panel=CHECK_PANEL,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json", help="Write the report of --dry-run as JSON.", rich_help_panel=CHECK_PANEL
    ),
]
Verify = Annotated[
    int,
    typer.Option(
        "--verify",
        metavar="N",
        min=0,
        help="After the run, ask N random answers again, each alone, and compare the texts.",
        rich_help_panel=CHECK_PANEL,
    ),
]
PricePerHour = Annotated[
    float | None,
    typer.Option(
        "--price-per-hour",
        metavar="X",
        help="Show the cost of the run on a machine that costs X per hour, in any currency.",
        rich_help_panel=CHECK_PANEL,
    ),
]
Parallel = Annotated[
    str,
    typer.Option(
        "--parallel",
        envvar="L4_PARALLEL",
        parser=parse_parallel,
        metavar="N|auto",
        help="Number of rows to answer at the same time; auto finds the fastest while it runs.",
        rich_help_panel=HARDWARE_PANEL,
    ),
]
Ctx = Annotated[
    str,
    typer.Option(
        "--ctx",
        envvar="L4_CTX",
        metavar="N|auto",
        parser=parse_ctx,
        help="Context size in tokens, shared by the rows that run at the same time; auto makes "
        "it fit them.",
        rich_help_panel=HARDWARE_PANEL,
    ),
]
Deterministic = Annotated[
    bool,
    typer.Option(
        "--deterministic",
        help="Run one row at a time: a row then gives the same text whatever other rows there are.",
        rich_help_panel=HARDWARE_PANEL,
    ),
]
