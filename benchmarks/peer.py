"""llama.cpp's own tools, built from the source that llama-cpp-python carries, as the peer.

    peer = find_peer()                      # in build/peer, fetched and built when missing
    peer.convert_to_bf16(checkpoint, out)   # convert_hf_to_gguf.py; needs torch and transformers
    peer.quantize(bf16, out, "Q4_K_M", threads=2)

$L4_PEER names another directory than build/peer. It holds `llama.cpp` (the source, or a link to
it) and `build`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Its converter knows tokenizers by a hash of what they do; those of made-up checkpoints it cannot.
_CONVERT = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from conversion.base import TextModel
TextModel.get_vocab_base_pre = lambda self, tokenizer: "llama4"
import convert_hf_to_gguf
convert_hf_to_gguf.main()
"""
_CMAKE_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release", "-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF", "-DBUILD_SHARED_LIBS=ON",
)  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """What a process took: seconds of wall and CPU, bytes of memory and of disk at their peak."""

    wall: float
    cpu: float
    rss: int
    disk: int

    def __add__(self, other: Cost) -> Cost:
        """One after the other, with the first one's output still there."""
        return Cost(
            self.wall + other.wall,
            self.cpu + other.cpu,
            max(self.rss, other.rss),
            max(self.disk, other.disk),
        )


@dataclass(frozen=True)
class Peer:
    """llama.cpp's source and build directories; `python` has torch and transformers."""

    source: Path
    build: Path
    python: Path = field(default=Path(sys.executable))

    def convert_to_bf16(self, checkpoint: Path, out: Path) -> Cost:
        """The first of the two steps."""
        options = (checkpoint, "--outfile", out, "--outtype", "bf16")
        return measure([self.python, "-c", _CONVERT, self.source, *options], out.parent)

    def quantize(
        self, gguf: Path, out: Path, ftype: str, *, threads: int, options: Sequence[str] = ()
    ) -> Cost:
        """The second of the two steps."""
        tool = self.tool("llama-quantize")
        return measure([tool, *options, gguf, out, ftype, threads], out.parent)

    def tool(self, name: str) -> Path:
        """One of llama.cpp's programs, built if need be."""
        path = self.build / "bin" / name
        if not path.exists():
            self._build(name)
        return path

    def _build(self, name: str) -> None:
        note(f"building {name} in {self.build}: minutes, the first time")
        if not (self.build / "CMakeCache.txt").exists():
            _call(["cmake", "-S", self.source, "-B", self.build, *_CMAKE_OPTIONS])
        _call(["cmake", "--build", self.build, "--target", name, "--parallel"])


def add_options(parser: argparse.ArgumentParser) -> None:
    """--llama-cpp, --build and --python, for `find_peer`."""
    parser.add_argument("--llama-cpp", type=Path, help="llama.cpp's source, unless in $L4_PEER")
    parser.add_argument("--build", type=Path, help="its build directory, unless in $L4_PEER")
    parser.add_argument(
        "--python", type=Path, default=Path(sys.executable), help="one with torch, for step one"
    )


def find_peer(args: argparse.Namespace | None = None) -> Peer:
    """The peer where the options or $L4_PEER say; its source is fetched if it is nowhere."""
    home = Path(os.environ.get("L4_PEER", ROOT / "build" / "peer"))
    source = (args and args.llama_cpp) or home / "llama.cpp"
    build = (args and args.build) or home / "build"
    if not (source / "CMakeLists.txt").exists():
        _fetch(source)
    return Peer(source, build, args.python if args else Path(sys.executable))


def _fetch(source: Path) -> None:
    """llama.cpp as the installed llama-cpp-python was built from, under the name `source`."""
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


def measure(command: Sequence[object], scratch: Path, **env: str) -> Cost:
    """Run `command` to its end and tell what it took, on disk within `scratch`."""
    started = time.monotonic()
    before = peak = _disk(scratch)
    with _running(command, {**os.environ, **env}) as process:
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            peak = max(peak, _disk(scratch))
            if pid:
                break
            time.sleep(0.02)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[0]} ended with {process.returncode}")
    return Cost(
        wall=time.monotonic() - started,
        cpu=usage.ru_utime + usage.ru_stime,
        rss=usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        disk=peak - before,
    )


@contextmanager
def _running(
    command: Sequence[object], env: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """The process; its words are shown only if it fails."""
    log = ROOT / "build" / "bench.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("wb") as file:
        process = subprocess.Popen(
            list(map(str, command)), stdout=file, stderr=subprocess.STDOUT, env=env
        )
        yield process
    if process.returncode:
        note(log.read_text(errors="replace")[-2000:])


def _disk(path: Path) -> int:
    """Bytes that the files in a directory take on disk."""
    total = 0
    for file in path.iterdir():
        try:
            total += file.stat().st_blocks * 512
        except FileNotFoundError:  # renamed meanwhile
            continue
    return total


def _call(command: Sequence[object]) -> None:
    subprocess.run(list(map(str, command)), check=True, stdout=sys.stderr)


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
