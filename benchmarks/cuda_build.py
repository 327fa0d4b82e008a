"""Build llama-cpp-python with CUDA where there may be no card, and try what l4 makes of it.

    python benchmarks/cuda_build.py WORK [--arch 90]

Takes nvcc, and an hour on two cores; the wheel is kept, so that a second run takes a minute. Where
the toolkit has no cuBLAS, NVIDIA's package of it is installed into WORK. Checks that the build
installs and loads without a driver, that models run on the CPU then, and that a line says so.
Prints one JSON line last; the exit code is 1 where something was not as it should be.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent.parent
_CUBLAS = "nvidia-cublas>=13.0,<13.1"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("work", type=Path, help="a folder for the environment")
    parser.add_argument("--arch", default="90", help="the compute capability to compile for")
    asked = parser.parse_args()
    work = asked.work.resolve()
    python = work / "venv" / "bin" / "python"
    if not python.exists():
        _run(sys.executable, "-m", "venv", str(work / "venv"))
    started = time.monotonic()
    env = {**os.environ, "CMAKE_ARGS": _cmake_args(python, asked.arch)}
    _run(
        str(python), "-m", "l4cli.native.wheel", "--lock", str(_HERE / "requirements.lock"), env=env
    )
    build_seconds = time.monotonic() - started
    lock = str(_HERE / "requirements.lock")
    _run(str(python), "-m", "pip", "install", "--quiet", "-c", lock, "-e", str(_HERE))
    found = _checks(python.parent / "l4")
    print(json.dumps({"build_seconds": round(build_seconds), "arch": asked.arch, **found}))
    sys.exit(0 if all(found["checks"].values()) else 1)


def _cmake_args(python: Path, arch: str) -> str:
    """CUDA for one architecture; without the driver's library, which may not be here."""
    args = ["-DGGML_CUDA=on", f"-DCMAKE_CUDA_ARCHITECTURES={arch}"]
    args += ["-DGGML_CUDA_NO_VMM=on", "-DGGML_CUDA_NCCL=off"]
    toolkit = Path("/usr/local/cuda")
    if not (toolkit / "include" / "cublas_v2.h").exists():
        _run(str(python), "-m", "pip", "install", "--quiet", _CUBLAS)
        (folder,) = python.parent.parent.glob("lib/python*/site-packages/nvidia/cu13")
        args += [
            f"-DCUDA_{name}_LIBRARY={folder}/lib/lib{name}.so.13" for name in ("cublas", "cublasLt")
        ]
        args += [f"-DCMAKE_CUDA_FLAGS=-I{folder}/include", f"-DCMAKE_CXX_FLAGS=-I{folder}/include"]
        args += [f"-DCMAKE_SHARED_LINKER_FLAGS=-Wl,-rpath,{folder}/lib"]
    return " ".join(args)


def _checks(l4: Path) -> dict[str, Any]:
    """What the build does here, by what a user would see."""
    answer = _tell(l4, "chat", "-p", "What is GGUF?")
    doctor = json.loads(_tell(l4, "doctor", "--json").stdout)
    plan = _tell(l4, "plan", "demo")
    info = _tell(l4, "info", "demo")
    has_card = bool(doctor["llama_cpp"]["gpus"])
    return {
        "has_card": has_card,
        "said": answer.stderr.strip(),
        "problems": [problem["text"] for problem in doctor["problems"]],
        "checks": {
            "answers": answer.returncode == 0 and "GGUF" in answer.stdout,
            "built with GPU support": doctor["llama_cpp"]["gpu_support"],
            "a line says that the CPU computes": has_card or "CPU" in answer.stderr,
            "doctor names the missing card": has_card or bool(doctor["problems"]),
            "plan": plan.returncode == 0,
            "info": info.returncode == 0,
        },
    }


def _tell(l4: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([l4, *arguments], capture_output=True, text=True, check=False)


def _run(*command: str, env: dict[str, str] | None = None) -> None:
    subprocess.run(command, env=env, cwd=_HERE, check=True)


if __name__ == "__main__":
    main()
