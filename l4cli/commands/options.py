"""The options that several commands share, and the parsers of their values."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from l4cli.commands import completion
from l4cli.errors import UsageError

if TYPE_CHECKING:
    from l4cli.loading.options import LoadOptions

MODEL_PANEL, HARDWARE_PANEL = "Model", "Hardware"
_ALL_LAYERS = 512  # llama.cpp's own limit
LEAST_CONTEXT = 256  # tokens
MOST_SEQUENCES = 256  # llama.cpp's LLAMA_MAX_SEQ
_MOST_BYTES = 1e18  # no disk and no memory has more
_MOST_THREADS = 512  # ggml's GGML_MAX_N_THREADS; some more, and it overflows its stack
_SUFFIX = {"": 1, "k": 1024, "m": 1024**2}


class NoUnitError(typer.BadParameter):
    """A size without a unit: people mean gigabytes, and a program would take bytes."""


def parse_tokens(value: str | int) -> int:
    """A number of tokens: 4096, 128k or 1M (k is 1024, M is 1024**2)."""
    match = re.fullmatch(r"(\d{1,15})([kKmM]?)", str(value).strip())
    if match and int(match[1]) < 1:
        raise typer.BadParameter(f"{value} is too few; try 4096, 128k or 1M")
    if not match:
        raise typer.BadParameter(f"{value!r} is not a number of tokens; try 4096, 128k or 1M")
    return int(match[1]) * _SUFFIX[match[2].lower()]


def parse_context(value: str | int) -> int:
    """A size of a context in tokens; llama.cpp makes none that is smaller than LEAST_CONTEXT."""
    number = parse_tokens(value)
    if number < LEAST_CONTEXT:
        raise typer.BadParameter(f"{value} is too few tokens; the least is {LEAST_CONTEXT}")
    return number


def parse_file(value: str) -> Path:
    """The name of a file to write: not empty, and no directory."""
    if not value:
        raise typer.BadParameter("it is empty: give the name of a file")
    path = Path(value)
    if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises OSError for some names
        raise typer.BadParameter(f"{value} is a directory: give the name of a file")
    return path


def parse_counts(
    value: str | None, name: str, *, of: str = "tokens", least: int = 1, most: int | None = None
) -> tuple[int, ...] | None:
    """Numbers separated by commas (0,4k,16k), sorted and without duplicates.

    value: the option's value; None gives None.
    name: the option's name, for error messages.
    of: what is counted, for error messages.
    least, most: bounds of each number; `most` None means no upper bound.
    """
    if value is None:
        return None
    counts = set()
    for part in value.split(","):
        try:
            counts.add(0 if part.strip() == "0" else parse_tokens(part))
        except typer.BadParameter:
            example = ("0,4k,16k" if least == 0 else "1k,4k,16k") if of == "tokens" else "1,4,16"
            raise UsageError(f"{name}: {part!r} is not a number of {of}; try {example}") from None
    if min(counts) < least:
        raise UsageError(f"{name} must be at least {least}")
    if most is not None and max(counts) > most:
        raise UsageError(f"{name} must be at most {most}")
    return tuple(sorted(counts))


def parse_size(value: str | int) -> int:
    """A size of memory or of files in bytes, with units of 1024: 512M, 2G, 2GB and 2GiB."""
    value = str(value)
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(?:([kKmMgGtT])(?:i?B)?|(B))?", value.strip())
    if not match or not 0 < float(match[1]) < _MOST_BYTES:
        raise typer.BadParameter(f"{value!r} is not a size; try 512M or 2G")
    number, prefix, is_bytes = match.groups()
    if not prefix and not is_bytes:
        raise NoUnitError(f"{value!r} has no unit: write {number}G for GiB, {number}B for bytes")
    return int(float(number) * 1024 ** " kmgt".index((prefix or " ").lower()))


def parse_layers(value: str | int) -> int | str:
    """A number of layers, -1 for all, or "auto"."""
    return _number_or(value, ("auto",), least=-1)


def parse_moe(value: str | int) -> int | str:
    """A number of layers, or "auto"; "all" gives llama.cpp's largest number of layers."""
    number = _number_or(value, ("auto", "all"), least=0)
    return _ALL_LAYERS if number == "all" else number


def parse_kv_type(value: str) -> str:
    """A type of the KV cache, in any case."""
    from l4cli.engine.kv import element_bytes

    try:
        element_bytes(value.lower())
    except UsageError as error:
        raise typer.BadParameter(str(error)) from None
    return value.lower()


def parse_kv_type_or_auto(value: str) -> str:
    """A type of the KV cache, or "auto"."""
    return value if value == "auto" else parse_kv_type(value)


def parse_split(value: str | Sequence[float]) -> tuple[float, ...] | str:
    """Shares separated by commas, or "auto"."""
    if not isinstance(value, str):
        return tuple(value)
    if value == "auto":
        return value
    try:
        shares = tuple(float(share) for share in value.split(","))
    except ValueError:
        shares = ()
    if not shares or min(shares) < 0 or not 0 < sum(shares) < math.inf:
        raise typer.BadParameter(f"{value!r} is not a list of shares; try 3,1 or auto")
    return shares


def parse_chat_ctx(value: str | int) -> int | str:
    """A number of tokens; "auto" gives "largest": as many as fit in memory."""
    return "largest" if value in ("auto", "largest") else parse_context(value)


def read_text_option(value: str | None) -> str | None:
    """The value of an option; @FILE gives the content of that file."""
    if value is None or not value.startswith("@"):
        return value
    from l4cli.documents.text import read_text

    return read_text(Path(value[1:]))


def _number_or(value: str | int, words: tuple[str, ...], *, least: int) -> int | str:
    text = str(value).strip()
    if text in words:
        return text
    if not re.fullmatch(r"-?\d{1,9}", text) or int(text) < least:
        known = " or ".join(words)
        raise typer.BadParameter(
            f"{value!r} is not valid: give {known}, or a number of at least {least}"
        )
    return int(text)


def loading(
    threads: int | None,
    gpu_layers: Any,  # these three are parsed already, by parse_layers, parse_moe and parse_split
    cpu_moe: Any,
    tensor_split: Any,
    kv_type: str,
    force: bool,
    store_limit: int | None = None,
    *,
    experts: int | None = None,
) -> LoadOptions:
    """LoadOptions made from the options of the hardware panel."""
    from l4cli.loading.options import LoadOptions

    return LoadOptions(
        threads=threads,
        gpu_layers=gpu_layers,
        cpu_moe=cpu_moe,
        tensor_split=tensor_split,
        kv_type=kv_type,
        experts=experts,
        force=force,
        store_limit=store_limit,
    )


Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        envvar="L4_MODEL",
        metavar="NAME|FILE",
        autocompletion=completion.models,
        help="A GGUF file, or a name from `l4 models`, with a quantization if you like: "
        "scout:Q4_K_M (default: the model that `l4 models` marks with *).",
        rich_help_panel=MODEL_PANEL,
    ),
]
Yes = Annotated[
    bool,
    typer.Option(
        "--yes",
        "-y",
        help="Fetch the model without asking if it is not on this machine.",
        rich_help_panel=MODEL_PANEL,
    ),
]
Ctx = Annotated[
    str | None,
    typer.Option(
        "--ctx",
        envvar="L4_CTX",
        metavar="N|auto",
        parser=parse_chat_ctx,
        help="Context size in tokens, e.g. 32k; auto takes as much as fits in memory (default: "
        "16384, or less if the model was trained for less).",
        rich_help_panel=HARDWARE_PANEL,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        "-t",
        envvar="L4_THREADS",
        min=1,
        max=_MOST_THREADS,
        metavar="N",
        help="Number of CPU threads (default: one per physical core).",
        rich_help_panel=HARDWARE_PANEL,
    ),
]
# Where -t is --template. `TemplatedCommand` still takes -t with a number.
ThreadsByName = Annotated[
    int | None,
    typer.Option(
        "--threads",
        envvar="L4_THREADS",
        min=1,
        max=_MOST_THREADS,
        metavar="N",
        help="Number of CPU threads (default: one per physical core); -t N works, too.",
        rich_help_panel=HARDWARE_PANEL,
    ),
]
GpuLayers = Annotated[
    str,
    typer.Option(
        "--gpu-layers",
        envvar="L4_GPU_LAYERS",
        parser=parse_layers,
        metavar="N|auto",
        help="Number of layers to keep on the GPU; -1 keeps all, auto as many as fit. Needs a "
        "llama.cpp built with GPU support.",
        rich_help_panel=HARDWARE_PANEL,
    ),
]
CpuMoe = Annotated[
    str | None,
    typer.Option(
        "--cpu-moe",
        envvar="L4_CPU_MOE",
        parser=parse_moe,
        metavar="N|all|auto",
        help="Keep the routed experts of the first N layers in RAM; auto picks N (default: 0, or "
        "auto with --gpu-layers auto).",
        rich_help_panel=HARDWARE_PANEL,
    ),
]
TensorSplit = Annotated[
    str | None,
    typer.Option(
        "--tensor-split",
        envvar="L4_TENSOR_SPLIT",
        parser=parse_split,
        metavar="N,N…|auto",
        help="Share of the layers for each of several GPUs, e.g. 3,1; auto picks the shares.",
        rich_help_panel=HARDWARE_PANEL,
    ),
]
Experts = Annotated[
    int | None,
    typer.Option(
        "--experts",
        envvar="L4_EXPERTS",
        metavar="N",
        help="Number of experts that each token passes, in a mixture of experts (default: as many "
        "as the model was trained with).",
        rich_help_panel=MODEL_PANEL,
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Load the model even if it does not seem to fit in memory.",
        rich_help_panel=HARDWARE_PANEL,
    ),
]
KvType = Annotated[
    str,
    typer.Option(
        "--kv-type",
        envvar="L4_KV_TYPE",
        metavar="TYPE",
        parser=parse_kv_type_or_auto,
        help="Type of the KV cache: f16, or q8_0 or q4_0 to save memory; auto picks the best one "
        "that fits.",
        rich_help_panel=HARDWARE_PANEL,
    ),
]
NoGitignore = Annotated[
    bool,
    typer.Option(
        "--no-gitignore", help="Read the files in folders that a .gitignore names, as well."
    ),
]
StoreLimit = Annotated[
    int | None,
    typer.Option(
        "--store-limit",
        envvar="L4_STORE_LIMIT",
        parser=parse_size,
        metavar="SIZE",
        help="Largest size on disk of the reading cache, which keeps documents and chats ready to "
        "use, e.g. 20G (default: a fifth of the disk).",
        rich_help_panel=HARDWARE_PANEL,
    ),
]
System = Annotated[
    str | None,
    typer.Option(
        "--system",
        metavar="TEXT|@FILE",
        help="System message; @FILE reads it from a file.",
        rich_help_panel=MODEL_PANEL,
    ),
]
