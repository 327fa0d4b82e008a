"""Compare the files that l4 and llama.cpp make of a tiny checkpoint of every architecture.

    python -m benchmarks.convert_architectures --python PYTHON [KIND ...] [--types Q4_K_M,Q6_K]

For each kind and ftype, llama.cpp's two steps run on the same checkpoint as our converter:
convert_hf_to_gguf.py to BF16, then llama-quantize. Tensors are compared by name, order, type and
bytes, metadata by key and value. Differences are listed. The last line is JSON; the exit code is 1
if any tensor differs. PYTHON has torch and transformers.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from decoders import KINDS, write_decoder
from encoders import write_encoder

import convert
from benchmarks.build_peer import Peer, add_options, find_peer
from benchmarks.shared import make_parser
from convert.gguf.file import GGUFTensor, read_gguf

# Rows of 256 values, and more layers than the tests use, so that each ftype's recipe (which qtype
# for which tensor) takes effect.
SHAPES: dict[str, Any] = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 8}
SHAPES_OF_KIND: dict[str, dict[str, Any]] = {
    "mixtral": {"num_local_experts": 8},
    "qwen3moe": {"moe_intermediate_size": 256},
}
ENCODER = "bert"
ALL_KINDS = (*KINDS, ENCODER)


def main() -> int:
    options = parse()
    peer = find_peer(options)
    different: dict[str, list[str]] = {}
    for kind in options.kinds or ALL_KINDS:
        with tempfile.TemporaryDirectory() as scratch:
            checkpoint = Path(scratch) / "Tiny"
            write_checkpoint(checkpoint, kind)
            types = options.types or types_without_imatrix(checkpoint)
            found = sorted(set(compare(checkpoint, kind, types, peer)))
        print(f"{kind}: {len(types)} types, {len(found) or 'no'} differences", flush=True)
        for difference in found:
            print(f"  {difference}", flush=True)
        different[kind] = found
    n_tensors = sum("tensor" in line for found in different.values() for line in found)
    print(json.dumps({"types": len(types), "tensors": n_tensors, "differences": different}))
    return int(n_tensors > 0)


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        "kinds", nargs="*", metavar="KIND", help=f"all unless given: {', '.join(ALL_KINDS)}"
    )
    parser.add_argument(
        "--types",
        type=lambda text: text.split(","),
        help="ftypes, separated by commas; unless given, all that need no imatrix",
    )
    add_options(parser)
    return parser.parse_args()


def write_checkpoint(path: Path, kind: str) -> None:
    """Write a tiny checkpoint of the kind into the directory `path`."""
    if kind == ENCODER:
        write_encoder(path, dtype="BF16", **SHAPES)
    else:
        write_decoder(path, kind, **SHAPES, **SHAPES_OF_KIND.get(kind, {}))


def compare(checkpoint: Path, kind: str, types: list[str], peer: Peer) -> Iterator[str]:
    """Yield the differences between our file and the peer's, for every ftype in `types`."""
    bf16, theirs, ours = (checkpoint.with_name(f"{name}.gguf") for name in ("bf16", "q", "ours"))
    pre = "jina-v2-en" if kind == ENCODER else KINDS[kind][0] or ""
    peer.convert_to_bf16(checkpoint, bf16, pre=pre)
    for ftype in types:
        convert.convert(convert.plan(checkpoint, ftype), ours, overwrite=True)
        peer.quantize(bf16, theirs, ftype, threads=2)
        yield from differences(ftype, ours, theirs)


def types_without_imatrix(checkpoint: Path) -> list[str]:
    """Return the ftypes that can be made of the checkpoint without an imatrix."""
    return [size.ftype for size in convert.sizes(checkpoint) if not size.lacks_imatrix]


def differences(ftype: str, our_path: Path, their_path: Path) -> Iterator[str]:
    """Yield one line for each difference between two GGUF files of the type `ftype`."""
    ours, theirs = read_gguf(our_path), read_gguf(their_path)
    for key in sorted(ours.fields.keys() | theirs.fields.keys()):
        one, other = ours.fields.get(key), theirs.fields.get(key)
        if one != other and key != "l4.version":
            yield f"{key}: {describe_difference(one, other)}"
    if list(ours.tensors) != list(theirs.tensors):
        yield f"{ftype}: the names of the tensors, or their order"
    for name in ours.tensors.keys() & theirs.tensors.keys():
        mine, their = ours.tensors[name], theirs.tensors[name]
        if mine.qtype != their.qtype:
            yield f"{ftype}: tensor {name} is {mine.qtype}, theirs {their.qtype}"
        elif data(our_path, mine) != data(their_path, their):
            yield f"{ftype}: tensor {name} has different bytes"


def data(path: Path, tensor: GGUFTensor) -> bytes:
    """Return the bytes of a tensor in the file `path`."""
    with path.open("rb") as file:
        file.seek(tensor.offset)
        return file.read(tensor.n_bytes)


def describe_difference(ours: Any, theirs: Any) -> str:
    """Describe in one line how two values of a metadata key differ; None means absent.

    Of two lists, only the first entries that differ are shown.
    """
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        places = [i for i, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]]
        first = places[0]
        return (
            f"{len(places)} entries differ, the first is {ours[first]!r}, theirs {theirs[first]!r}"
        )
    return ", theirs ".join("absent" if v is None else repr(v)[:60] for v in (ours, theirs))


if __name__ == "__main__":
    sys.exit(main())
