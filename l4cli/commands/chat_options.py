"""The options that only `l4 chat` has and that take more than a line: words and tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

TOOLS_PANEL = "Tools"
Tools = Annotated[
    Path | None,
    typer.Option(
        "--tools",
        metavar="FILE.py",
        help="Let the model call the functions of this Python file; their type hints and "
        "docstrings tell it how.",
        rich_help_panel=TOOLS_PANEL,
    ),
]
Yes = Annotated[
    bool,
    typer.Option(
        "--yes",
        "-y",
        help="Run tool calls without asking, and fetch a model that is not on this machine.",
        rich_help_panel=TOOLS_PANEL,
    ),
]
MaxRounds = Annotated[
    int,
    typer.Option(
        "--max-rounds",
        min=1,
        metavar="N",
        help="Largest number of rounds of tool calls in one turn.",
        rich_help_panel=TOOLS_PANEL,
    ),
]
ToolTimeout = Annotated[
    float,
    typer.Option(
        "--tool-timeout",
        min=0.1,
        metavar="SECONDS",
        help="Longest time for one tool call, in seconds.",
        rich_help_panel=TOOLS_PANEL,
    ),
]


Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MODEL] [PROMPT]",
        help="As -m and -p: a first word that names a model or a GGUF file is the model; anything "
        "else is the prompt.",
        show_default=False,
    ),
]
