"""Build llama.cpp's own programs from the source that the installed llama-cpp-python contains.

    python -m benchmarks.build_peer llama-bench llama-server llama-batched-bench

They are the peer that l4 is compared with: the same version of llama.cpp that l4 runs on. The first
call fetches the source, and building takes minutes; needs cmake and a C++ compiler. Prints the
folder of the programs, which other benchmarks take as --peer.

All files lie in build/peer, or in the folder that $L4_PEER names: `llama.cpp` is the source, or a
link to it, and `build` the build directory.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from benchmarks import ROOT
from benchmarks.shared import Cost, make_parser, measure, note

# llama.cpp's converter identifies a tokenizer by a hash of its output. It cannot know those of the
# checkpoints that we make up, so this code tells it the pre-tokenizer's name.
_CONVERT = """
import sys
source, pre = sys.argv[1:3]
del sys.argv[1:3]
sys.path.insert(0, source)
from conversion.base import TextModel
TextModel.get_vocab_base_pre = lambda self, tokenizer: pre
import convert_hf_to_gguf
convert_hf_to_gguf.main()
"""
_CMAKE_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release", "-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF", "-DBUILD_SHARED_LIBS=ON",
)  # fmt: skip


@dataclass(frozen=True)
class Peer:
    """llama.cpp's source and build directories, and a Python that can run its converter.

    python: an interpreter with torch and transformers.
    """

    source: Path
    build: Path
    python: Path

    def convert_to_bf16(self, checkpoint: Path, out: Path, *, pre: str = "llama4") -> Cost:
        """Run convert_hf_to_gguf.py, the first of llama.cpp's two steps.

        pre: the name of the checkpoint's pre-tokenizer in llama.cpp.
        """
        options = (checkpoint, "--outfile", out, "--outtype", "bf16")
        return measure([self.python, "-c", _CONVERT, self.source, pre, *options], out.parent)

    def quantize(self, gguf: Path, out: Path, ftype: str, *, threads: int) -> Cost:
        """Run llama-quantize, the second of llama.cpp's two steps."""
        return measure([self.program("llama-quantize"), gguf, out, ftype, threads], out.parent)

    def program(self, name: str) -> Path:
        """Return the path of one of llama.cpp's programs; build it if it is missing."""
        path = self.build / "bin" / name
        if not path.exists():
            note(f"building {name} in {self.build}; this takes minutes the first time")
            if not (self.build / "CMakeCache.txt").exists():
                _call(["cmake", "-S", self.source, "-B", self.build, *_CMAKE_OPTIONS])
            _call(
                [
                    "cmake",
                    "--build",
                    self.build,
                    "--target",
                    name,
                    "--parallel",
                    str(os.cpu_count()),
                ]
            )
        return path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --llama-cpp, --build and --python, which `find_peer` reads."""
    home = "$L4_PEER, or in build/peer"
    parser.add_argument("--llama-cpp", type=Path, help=f"llama.cpp's source, if not in {home}")
    parser.add_argument("--build", type=Path, help=f"its build directory, if not in {home}")
    parser.add_argument(
        "--python",
        type=Path,
        default=Path(sys.executable),
        help="a Python with torch and transformers, for llama.cpp's converter",
    )


def find_peer(options: argparse.Namespace) -> Peer:
    """Return the peer that the options or $L4_PEER name; fetch its source if it is missing."""
    home = Path(os.environ.get("L4_PEER", ROOT / "build" / "peer"))
    source = options.llama_cpp or home / "llama.cpp"
    if not (source / "CMakeLists.txt").exists():
        _fetch(source)
    return Peer(source, options.build or home / "build", options.python)


def _fetch(source: Path) -> None:
    """Fetch the source of the installed llama-cpp-python; link `source` to its llama.cpp."""
    home = source.parent
    home.mkdir(parents=True, exist_ok=True)
    version = metadata.version("llama-cpp-python")
    note(f"fetching the source of llama-cpp-python {version}")
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:"]
    _call([*pip, "-d", home, f"llama-cpp-python=={version}"])
    archive = next(home.glob("llama_cpp_python-*.tar.gz"))
    with tarfile.open(archive) as packed:
        packed.extractall(home, filter="data")
    unpacked = home / archive.name.removesuffix(".tar.gz")
    source.symlink_to((unpacked / "vendor" / "llama.cpp").resolve())


def _call(command: Sequence[object]) -> None:
    subprocess.run([str(word) for word in command], check=True, stdout=sys.stderr)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("programs", nargs="+", metavar="PROGRAM", help="such as llama-bench")
    add_options(parser)
    args = parser.parse_args()
    peer = find_peer(args)
    for name in args.programs:
        peer.program(name)
    print(peer.build / "bin")


if __name__ == "__main__":
    main()
