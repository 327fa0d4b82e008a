"""The options that `l4 run` alone has, in the panels that its help shows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from l4cli.commands.options import HARDWARE_PANEL, MOST_SEQUENCES, SAMPLING_PANEL, parse_tokens

INPUT_PANEL, OUTPUT_PANEL, CHECK_PANEL = "Rows in", "Answers out", "Before and after"


def parse_parallel(value: str) -> int | str:
    """A number of sequences, or auto."""
    if value == "auto":
        return value
    if not value.isdigit() or int(value) < 1:
        raise typer.BadParameter(f"{value!r} is neither a number from 1 on nor auto")
    if int(value) > MOST_SEQUENCES:
        raise typer.BadParameter(f"llama.cpp runs {MOST_SEQUENCES} sequences at once at most")
    return int(value)


def parse_ctx(value: str) -> int | str:
    """A number of tokens, or auto."""
    return value if value == "auto" else parse_tokens(value)


Input = Annotated[
    str, typer.Argument(metavar="INPUT", help="Prompts as JSON Lines; - reads stdin.")
]
Text = Annotated[
    bool,
    typer.Option("--text", help="Each line is a prompt as it stands.", rich_help_panel=INPUT_PANEL),
]
Csv = Annotated[
    bool,
    typer.Option(
        "--csv",
        help="Read CSV with a header: a prompt column, or --template-row.",
        rich_help_panel=INPUT_PANEL,
    ),
]
TemplateRow = Annotated[
    str | None,
    typer.Option(
        "--template-row",
        metavar="JINJA|@FILE",
        help="Make each prompt from columns or fields: 'Translate: {{ text }}'.",
        rich_help_panel=INPUT_PANEL,
    ),
]
Raw = Annotated[
    bool,
    typer.Option(
        "--raw",
        help="Continue each prompt as it stands, with no chat template.",
        rich_help_panel=INPUT_PANEL,
    ),
]
Lenient = Annotated[
    bool,
    typer.Option(
        "--lenient",
        help="Ignore unknown fields instead of failing the row.",
        rich_help_panel=INPUT_PANEL,
    ),
]
NoCache = Annotated[
    bool,
    typer.Option(
        "--no-cache",
        help="Neither use nor keep what was read of documents (nor does --deterministic).",
        rich_help_panel=INPUT_PANEL,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help="Write answers here, with a journal to resume by.",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on with an --out file that was interrupted.",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
RetryErrors = Annotated[
    bool,
    typer.Option(
        "--retry-errors",
        help="--resume, and ask the error rows of --out again.",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
Unordered = Annotated[
    bool,
    typer.Option(
        "--unordered",
        help="Write rows as they finish, not in input order.",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
Timings = Annotated[
    bool,
    typer.Option(
        "--timings/--no-timings",
        help="With or without times in the rows; without, equal runs give equal bytes.",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
RowTimeout = Annotated[
    float | None,
    typer.Option(
        "--row-timeout",
        metavar="S",
        help="Give a row up S seconds after it began to run.",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
Schema = Annotated[
    Path | None,
    typer.Option(
        "--schema",
        metavar="FILE",
        help="A JSON schema that every answer must match.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
Grammar = Annotated[
    Path | None,
    typer.Option(
        "--grammar",
        metavar="FILE",
        help="A GBNF grammar that every answer must match.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
IgnoreEos = Annotated[
    bool,
    typer.Option(
        "--ignore-eos",
        help="Go on to --max-tokens whatever the model says.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Count tokens and see what fits; load no weights.",
        rich_help_panel=CHECK_PANEL,
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="--dry-run's report as JSON.", rich_help_panel=CHECK_PANEL),
]
Verify = Annotated[
    int,
    typer.Option(
        "--verify",
        metavar="N",
        min=0,
        help="Ask N of the rows again, alone, and compare.",
        rich_help_panel=CHECK_PANEL,
    ),
]
PricePerHour = Annotated[
    float | None,
    typer.Option(
        "--price-per-hour",
        metavar="X",
        min=0,
        help="What the machine costs: sums up the cost of the run.",
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
        help="Rows answered at the same time; auto finds out what is fastest.",
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
        help="Tokens of context, for all rows at once; auto makes it fit them.",
        rich_help_panel=HARDWARE_PANEL,
    ),
]
Deterministic = Annotated[
    bool,
    typer.Option(
        "--deterministic",
        help="One row at a time: the same text whatever stands beside it.",
        rich_help_panel=HARDWARE_PANEL,
    ),
]
