"""Build llama-cpp-python with CUDA, also on a machine without a graphics card, and try l4 with it.

    python -m benchmarks.cuda_build WORK [--arch 90]

Needs nvcc, and an hour on two cores. The wheel is kept, so a second run takes a minute. If the CUDA
toolkit lacks cuBLAS, NVIDIA's package of cuBLAS is installed into WORK. Checks that the build
installs and loads without a driver, that models then run on the CPU, and that l4 says so in a line.
Prints one JSON line last; the exit code is 1 if a check failed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from benchmarks.shared import make_parser

_CUBLAS = "nvidia-cublas>=13.0,<13.1"


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("work", type=Path, help="a folder for the virtual environment")
    parser.add_argument(
        "--arch", default="90", help="the compute capability to compile for (%(default)s)"
    )
    args = parser.parse_args()
    work = args.work.resolve()
    python = work / "venv" / "bin" / "python"
    if not python.exists():
        _run(sys.executable, "-m", "venv", str(work / "venv"))
    started = time.monotonic()
    env = {**os.environ, "CMAKE_ARGS": _cmake_args(python, args.arch)}
    lock = str(ROOT / "requirements.lock")
    _run(str(python), "-m", "l4cli.native.wheel", "--lock", lock, env=env)
    build_seconds = time.monotonic() - started
    _run(str(python), "-m", "pip", "install", "--quiet", "-c", lock, "-e", str(ROOT))
    found = _checks(python.parent / "l4")
    print(json.dumps({"build_seconds": round(build_seconds), "arch": args.arch, **found}))
    sys.exit(0 if all(found["checks"].values()) else 1)


def _cmake_args(python: Path, arch: str) -> str:
    """Return the options for CUDA on one architecture, without the driver's library.

    That library is part of the driver, which this machine may not have.
    """
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
    """Run l4's commands with this build; return what a user would see, and the checks' results."""
    answer = _run_l4(l4, "chat", "-p", "What is GGUF?")
    doctor = json.loads(_run_l4(l4, "doctor", "--json").stdout)
    plan = _run_l4(l4, "plan", "demo")
    info = _run_l4(l4, "info", "demo")
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


def _run_l4(l4: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([l4, *arguments], capture_output=True, text=True, check=False)


def _run(*command: str, env: dict[str, str] | None = None) -> None:
    subprocess.run(command, env=env, cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
