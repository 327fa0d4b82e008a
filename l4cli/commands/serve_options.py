"""The options that only `l4 serve` has."""

from __future__ import annotations

from typing import Annotated

import typer

from l4cli.commands import completion
from l4cli.commands.options import HARDWARE_PANEL, MODEL_PANEL, parse_context, parse_tokens

SERVER_PANEL, ACCESS_PANEL = "Server", "Access"
_POOLINGS = ("mean", "cls", "last")  # engine/embedding.py has them too, and loads numpy


def parse_parallel(value: str) -> int | str:
    """A number of requests, or "auto"."""
    if value == "auto":
        return value
    if value.isdecimal() and len(value) <= 3 and 1 <= int(value) <= 255:
        return int(value)
    raise typer.BadParameter(f"{value!r} is not valid: give auto, or a number from 1 to 255")


def parse_origin(value: str) -> str:
    """The origin of a page: https://example.org, or http://localhost:3000."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
        raise typer.BadParameter(f"{value!r} is not an origin; try http://localhost:3000")
    return f"{parts.scheme}://{parts.netloc}"


def parse_pooling(value: str) -> str:
    """How a text's vector is made of its tokens' vectors."""
    if value in _POOLINGS:
        return value
    raise typer.BadParameter(f"{value!r} is not valid: give one of {', '.join(_POOLINGS)}")


Named = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MODEL",
        autocompletion=completion.models,
        help="Models to serve: the same as --model.",
        show_default=False,
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        envvar="L4_MODEL",
        metavar="NAME|FILE",
        autocompletion=completion.models,
        help="A GGUF file, or a name from `l4 models`; give it more than once to serve several "
        "models (default: the model that `l4 models` marks with *).",
        rich_help_panel=MODEL_PANEL,
        show_default=False,
    ),
]
Embed = Annotated[
    list[str] | None,
    typer.Option(
        "--embed",
        metavar="NAME|FILE",
        autocompletion=completion.models,
        help="A model that makes embeddings, for /v1/embeddings; may be given more than once. "
        "Without -m in the same command, no other model is loaded.",
        rich_help_panel=MODEL_PANEL,
        show_default=False,
    ),
]
EmbedCtx = Annotated[
    int | None,
    typer.Option(
        "--embed-ctx",
        metavar="N",
        parser=parse_tokens,
        help="Tokens that one text to embed may have (default: what the model was trained for, at "
        "most 8k and what fits in memory).",
        rich_help_panel=HARDWARE_PANEL,
        show_default=False,
    ),
]
EmbedPooling = Annotated[
    str | None,
    typer.Option(
        "--embed-pooling",
        metavar="|".join(_POOLINGS),
        parser=parse_pooling,
        help="How a text's vector is made of its tokens' (default: as the GGUF states).",
        rich_help_panel=MODEL_PANEL,
        show_default=False,
    ),
]
Host = Annotated[
    str,
    typer.Option(
        "--host",
        metavar="ADDRESS",
        help="Address to listen on. 127.0.0.1 is for programs on this machine only; 0.0.0.0 is "
        "for all, and needs an --api-key.",
        rich_help_panel=SERVER_PANEL,
    ),
]
Port = Annotated[
    int,
    typer.Option(
        "--port",
        min=0,
        max=65_535,
        metavar="N",
        help="Port to listen on; 0 takes any free one.",
        rich_help_panel=SERVER_PANEL,
    ),
]
Queue = Annotated[
    int,
    typer.Option(
        "--queue",
        min=0,
        metavar="N",
        help="Largest number of requests that wait for a slot; further ones get status 503.",
        rich_help_panel=SERVER_PANEL,
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        min=0.1,
        metavar="SECONDS",
        help="Longest time that a request may take, waiting included (default: no limit).",
        rich_help_panel=SERVER_PANEL,
        show_default=False,
    ),
]
Lenient = Annotated[
    bool,
    typer.Option(
        "--lenient",
        help="Ignore unknown fields in requests, and efforts that the model cannot do, instead of "
        "answering with status 400.",
        rich_help_panel=SERVER_PANEL,
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        envvar="L4_API_KEY",
        metavar="KEY|@FILE",
        help="Key that clients must send; @FILE reads it from a file, which keeps it out of the "
        "list of processes.",
        rich_help_panel=ACCESS_PANEL,
        show_default=False,
    ),
]
AllowOrigin = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-origin",
        parser=parse_origin,
        metavar="URL",
        help="Let pages of this origin use the server, and answer to its name; may be given more "
        "than once.",
        rich_help_panel=ACCESS_PANEL,
        show_default=False,
    ),
]
Parallel = Annotated[
    str,
    typer.Option(
        "--parallel",
        envvar="L4_PARALLEL",
        parser=parse_parallel,
        metavar="N|auto",
        help="Number of requests to answer at the same time.",
        rich_help_panel=HARDWARE_PANEL,
    ),
]
Ctx = Annotated[
    int | None,
    typer.Option(
        "--ctx",
        envvar="L4_CTX",
        metavar="N",
        parser=parse_context,
        help="Tokens that one request may have, prompt and answer together (default: 16k, or "
        "what the model was trained for if that is less).",
        rich_help_panel=HARDWARE_PANEL,
        show_default=False,
    ),
]
Deterministic = Annotated[
    bool,
    typer.Option(
        "--deterministic",
        help="Answer one request at a time: a request then gives the same text whatever other "
        "requests there are.",
        rich_help_panel=HARDWARE_PANEL,
    ),
]
NoCache = Annotated[
    bool,
    typer.Option(
        "--no-cache",
        help="Keep no prompts on disk, and use none that are there. Files and batches are kept.",
        rich_help_panel=ACCESS_PANEL,
    ),
]
