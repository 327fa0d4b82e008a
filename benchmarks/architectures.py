"""Every architecture's tiny checkpoint by our converter and by llama.cpp's: the same file?

    python benchmarks/architectures.py --llama-cpp LLAMA_CPP --python PYTHON [KIND ...]

LLAMA_CPP is llama.cpp's source, with its tools built in LLAMA_CPP/build (or --build DIR); PYTHON
has torch and transformers. For each kind and ftype the two steps (convert_hf_to_gguf to BF16, then
llama-quantize) are run on the same checkpoint, and tensors compared by name, order, type and bytes,
metadata by key and value. Differences are listed; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from decoders import KINDS, write_decoder  # noqa: E402

import convert  # noqa: E402
from convert.gguf.file import GGUFTensor, read_gguf  # noqa: E402

# Rows of 256 and more layers than the tests have, so that the recipe of every type shows.
SHAPES: dict[str, Any] = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 8}
OWN_SHAPES = {"mixtral": {"num_local_experts": 8}, "qwen3moe": {"moe_intermediate_size": 256}}

# The peer knows a tokenizer by a hash of what it does; those of made-up checkpoints it cannot.
PEER_CONVERTER = """
import os, sys
sys.path.insert(0, sys.argv.pop(1))
from conversion.base import TextModel
TextModel.get_vocab_base_pre = lambda self, tokenizer: os.environ["PRE"]
import convert_hf_to_gguf
convert_hf_to_gguf.main()
"""


def main() -> int:
    options = parse()
    different: dict[str, list[str]] = {}
    for kind in options.kinds or KINDS:
        with tempfile.TemporaryDirectory() as scratch:
            checkpoint = Path(scratch) / "Tiny"
            write_decoder(checkpoint, kind, **SHAPES, **OWN_SHAPES.get(kind, {}))
            types = options.types or types_without_imatrix(checkpoint)
            found = sorted(set(compare(checkpoint, kind, types, options)))
        print(f"{kind}: {len(types)} types, {len(found) or 'no'} differences", flush=True)
        for difference in found:
            print(f"  {difference}", flush=True)
        different[kind] = found
    n_tensors = sum("tensor" in line for found in different.values() for line in found)
    print(json.dumps({"types": len(types), "tensors": n_tensors, "differences": different}))
    return int(n_tensors > 0)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--llama-cpp", type=Path, required=True)
    parser.add_argument("--build", type=Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--types", type=lambda text: text.split(","))
    options = parser.parse_args()
    options.build = options.build or options.llama_cpp / "build"
    return options


def compare(
    checkpoint: Path, kind: str, types: list[str], options: argparse.Namespace
) -> Iterator[str]:
    """What differs between our file and the peer's, of every type."""
    bf16, theirs, ours = (checkpoint.with_name(f"{name}.gguf") for name in ("bf16", "q", "ours"))
    run(
        [options.python, "-c", PEER_CONVERTER, options.llama_cpp, checkpoint,
         "--outtype", "bf16", "--outfile", bf16],
        env={**os.environ, "PRE": KINDS[kind][0] or ""},
    )  # fmt: skip
    for ftype in types:
        convert.convert(convert.plan(checkpoint, ftype), ours, overwrite=True)
        run([options.build / "bin" / "llama-quantize", bf16, theirs, ftype, "2"])
        yield from differences(ftype, ours, theirs)


def types_without_imatrix(checkpoint: Path) -> list[str]:
    return [size.ftype for size in convert.sizes(checkpoint) if not size.lacks_imatrix]


def differences(ftype: str, our_path: Path, their_path: Path) -> Iterator[str]:
    ours, theirs = read_gguf(our_path), read_gguf(their_path)
    for key in sorted(ours.fields.keys() | theirs.fields.keys()):
        one, other = ours.fields.get(key), theirs.fields.get(key)
        if one != other and key != "l4.version":
            yield f"{key}: {unlike(one, other)}"
    if list(ours.tensors) != list(theirs.tensors):
        yield f"{ftype}: tensors or their order"
    for name in ours.tensors.keys() & theirs.tensors.keys():
        one, other = ours.tensors[name], theirs.tensors[name]
        if one.qtype != other.qtype:
            yield f"{ftype}: tensor {name} is {one.qtype}, not {other.qtype}"
        elif data(our_path, one) != data(their_path, other):
            yield f"{ftype}: tensor {name} has other bytes"


def data(path: Path, tensor: GGUFTensor) -> bytes:
    with path.open("rb") as file:
        file.seek(tensor.offset)
        return file.read(tensor.n_bytes)


def unlike(ours: Any, theirs: Any) -> str:
    """Two values that differ, in a line; of lists the first entries that do."""
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        places = [i for i, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]]
        first = places[0]
        return f"{len(places)} entries, the first {ours[first]!r}, theirs {theirs[first]!r}"
    return ", theirs ".join("absent" if v is None else repr(v)[:60] for v in (ours, theirs))


def run(command: list[Any], **options: Any) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stderr[-2000:]}")


if __name__ == "__main__":
    sys.exit(main())
