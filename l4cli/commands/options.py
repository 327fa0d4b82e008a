"""Options that several commands share, each defined once."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from l4cli.errors import UsageError

if TYPE_CHECKING:
    from l4cli.loading.options import LoadOptions

MODEL_PANEL, SAMPLING_PANEL, HARDWARE_PANEL = "Model", "Sampling", "Hardware"
_ALL_LAYERS = 512  # llama.cpp's own limit
MOST_SEQUENCES = 256  # llama.cpp's LLAMA_MAX_SEQ
_SUFFIX = {"": 1, "k": 1024, "m": 1024**2}


def parse_tokens(value: str | int) -> int:
    """A number of tokens: 4096, 128k or 1M (of 1024)."""
    match = re.fullmatch(r"(\d+)([kKmM]?)", str(value).strip())
    if not match or int(match[1]) < 1:
        raise typer.BadParameter(f"{value!r} is no number of tokens; try 4096, 128k or 1M")
    return int(match[1]) * _SUFFIX[match[2].lower()]


def parse_counts(
    value: str | None, name: str, *, of: str = "tokens", least: int = 1, most: int | None = None
) -> tuple[int, ...] | None:
    """Numbers of tokens or sequences between commas, each once, in rising order: 0,4k,16k."""
    if value is None:
        return None
    counts = set()
    for part in value.split(","):
        try:
            counts.add(0 if part.strip() == "0" else parse_tokens(part))
        except typer.BadParameter:
            example = "0,4k,16k" if of == "tokens" else "1,4,16"
            raise UsageError(f"{name}: {part!r} is no number of {of}; try {example}") from None
    if min(counts) < least:
        raise UsageError(f"{name} must be at least {least}")
    if most is not None and max(counts) > most:
        raise UsageError(f"{name} must be at most {most}")
    return tuple(sorted(counts))


def parse_size(value: str | int) -> int:
    """A size in bytes in units of 1000, as files are counted: 500M, 48G."""
    return _parse_bytes(str(value), 1000)


def parse_memory(value: str | int) -> int:
    """A size in bytes in units of 1024, as memory is counted: 512M, 2G."""
    return _parse_bytes(str(value), 1024)


def _parse_bytes(value: str, unit: int) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMgGtT]?)B?", value.strip())
    if not match or float(match[1]) <= 0:
        raise typer.BadParameter(f"{value!r} is no size; try 512M or 2G")
    return int(float(match[1]) * unit ** " kmgt".index(match[2].lower() or " "))


def parse_layers(value: str | int) -> int | str:
    """A number of layers, -1 for all, or "auto"."""
    return _number_or(value, ("auto",), least=-1)


def parse_moe(value: str | int) -> int | str:
    """A number of layers, "all" or "auto"."""
    number = _number_or(value, ("auto", "all"), least=0)
    return _ALL_LAYERS if number == "all" else number


def parse_split(value: str | Sequence[float]) -> tuple[float, ...] | str:
    """Shares, separated by commas, or "auto"."""
    if not isinstance(value, str):
        return tuple(value)
    if value == "auto":
        return value
    try:
        shares = tuple(float(share) for share in value.split(","))
    except ValueError:
        shares = ()
    if not shares or min(shares) < 0 or not 0 < sum(shares) < math.inf:
        raise typer.BadParameter(f"{value!r} is no list of shares; try 3,1 or auto")
    return shares


def parse_chat_ctx(value: str | int) -> int | str:
    """A number of tokens, or "auto" for as many as fit."""
    return "largest" if value in ("auto", "largest") else parse_tokens(value)


def _number_or(value: str | int, words: tuple[str, ...], *, least: int) -> int | str:
    text = str(value).strip()
    if text in words:
        return text
    if not re.fullmatch(r"-?\d{1,9}", text) or int(text) < least:
        known = " or ".join(words)
        raise typer.BadParameter(f"{value!r} is neither a number from {least} on nor {known}")
    return int(text)


def loading(
    threads: int | None,
    gpu_layers: Any,  # parsed by parse_layers, as cpu_moe and tensor_split by their parsers
    cpu_moe: Any,
    tensor_split: Any,
    kv_type: str,
    force: bool,
    store_limit: int | None = None,
) -> LoadOptions:
    """The options of the hardware panel."""
    from l4cli.loading.options import LoadOptions

    return LoadOptions(
        threads=threads,
        gpu_layers=gpu_layers,
        cpu_moe=cpu_moe,
        tensor_split=tensor_split,
        kv_type=kv_type,
        force=force,
        store_limit=store_limit,
    )


def sampling(
    max_tokens: int | None,
    temperature: float | None,
    top_p: float | None,
    top_k: int | None,
    min_p: float | None,
    seed: int | None,
) -> dict[str, Any]:
    """The options of the sampling panel as `LLM.params` takes them; None is not given."""
    return {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "min_p": min_p,
        "seed": seed,
    }


Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        envvar="L4_MODEL",
        metavar="NAME|FILE",
        help="A GGUF file, or a name from `l4 models` (NAME:QUANT picks a quantization).",
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
        help="Context in tokens, 16384 unless given; auto takes as much as fits.",
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
        metavar="N",
        help="CPU threads; as many as there are physical cores unless given.",
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
        help="Layers to keep on the GPU, in a build with GPU support; -1 is all.",
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
        help="Keep the routed experts of the first N layers in RAM.",
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
        help="Shares of the layers for several GPUs, as 3,1.",
        rich_help_panel=HARDWARE_PANEL,
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Load what does not seem to fit all the same.",
        rich_help_panel=HARDWARE_PANEL,
    ),
]
KvType = Annotated[
    str,
    typer.Option(
        "--kv-type",
        envvar="L4_KV_TYPE",
        metavar="TYPE",
        help="Type of the KV cache: f16, or q8_0 and q4_0 for less memory; auto chooses.",
        rich_help_panel=HARDWARE_PANEL,
    ),
]
StoreLimit = Annotated[
    int | None,
    typer.Option(
        "--store-limit",
        envvar="L4_STORE_LIMIT",
        parser=parse_size,
        metavar="SIZE",
        help="What all kept prefixes may take on disk, as 20G; else a fifth of it.",
        rich_help_panel=HARDWARE_PANEL,
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        "--temperature",
        metavar="T",
        help="0 picks the most likely token; higher is more varied.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
TopP = Annotated[
    float | None,
    typer.Option(
        "--top-p",
        metavar="P",
        help="Draw from the likeliest tokens that make up P together.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
TopK = Annotated[
    int | None,
    typer.Option(
        "--top-k",
        metavar="K",
        help="Draw from the K likeliest tokens; 0 is off.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
MinP = Annotated[
    float | None,
    typer.Option(
        "--min-p",
        metavar="P",
        help="Leave out tokens less likely than P times the likeliest.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed", metavar="N", help="Makes the draw repeatable.", rich_help_panel=SAMPLING_PANEL
    ),
]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        "--max-tokens",
        "-n",
        metavar="N",
        help="Longest answer in tokens.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
System = Annotated[
    str | None,
    typer.Option(
        "--system",
        metavar="TEXT|@FILE",
        help="A system message to begin with; @FILE reads it from a file.",
        rich_help_panel=MODEL_PANEL,
    ),
]
