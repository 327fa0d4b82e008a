"""Names a source that is no Hugging Face checkpoint: a single file, or a directory of others."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from convert.errors import ConvertError
from convert.foreign import recognize
from convert.gguf.fields import MAGIC
from convert.reading import is_there, read_start

_MERGE = "merge it into its model (peft: merge_and_unload), save that, and convert it"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def refuse_other_sources(src: Path) -> None:
    """Raise ConvertError, which says what `src` is, if it is known to be no checkpoint."""
    if not src.exists():
        raise ConvertError(f"{src}: no such directory; name that of a Hugging Face checkpoint")
    if not src.is_dir():
        raise ConvertError(f"{src} {_file(src)}")
    if not is_there(src / "config.json") and (found := _directory(src)):
        raise ConvertError(f"{src} {found}")


def without_safetensors(src: Path) -> str | None:
    """What the checkpoint `src` has in place of safetensors files; None if nothing is known."""
    if pickled := _first(src, _PICKLES):
        return (
            f"holds weights pickled by PyTorch ({pickled}), which l4 does not read, since reading "
            "may run code in them: fetch the checkpoint's .safetensors files"
        )
    if other := _first(src, ("*.gguf",)):
        return f"holds a GGUF ({other}) already: give that file to -m, or to `l4 quantize`"
    return None


def _file(path: Path) -> str:
    start = read_start(path)
    if start.startswith(MAGIC):
        return (
            "is already a GGUF: run it with -m; for another type, `l4 quantize` it, or better "
            "convert the checkpoint it was made from"
        )
    if is_there(path.parent / "config.json"):
        return f"is a file of a checkpoint; give its directory, {path.parent}"
    found = recognize(start)
    if found is not None:
        what = f"is {found.what}, not the directory of a Hugging Face checkpoint"
        return f"{what}; {found.way_to_convert}"
    return "is not a directory; name the directory of a Hugging Face checkpoint"


def _directory(src: Path) -> str | None:
    if is_there(src / "adapter_config.json"):
        return f"is an adapter (PEFT), which changes the weights of another model; {_MERGE}"
    if is_there(src / "model_index.json"):
        return "is a pipeline of diffusers, which makes pictures; l4 runs language models"
    if snapshots := sorted(src.glob("snapshots/*/config.json")):
        return f"is a repository in the Hub's cache; give {snapshots[0].parent}"
    if is_there(src / "params.json"):
        return (
            "is a checkpoint in its author's own format (params.json); fetch the one for "
            "transformers, with a config.json and .safetensors files"
        )
    if found := without_safetensors(src):
        return found
    if (inside := sorted(src.glob("*/config.json"))) and len(inside) == 1:
        return f"has no config.json; do you mean {inside[0].parent}?"
    if not _first(src, ("*.safetensors", "tokenizer*", "*.gguf")):
        return (
            "holds neither a checkpoint, with config.json and .safetensors files, nor a GGUF file"
        )
    return None


def _first(src: Path, patterns: Iterable[str]) -> str | None:
    names = (path.name for pattern in patterns for path in sorted(src.glob(pattern)))
    return next(names, None)
