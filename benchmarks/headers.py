"""What it costs to look into a GGUF, beside gguf-py's own reader and llama.cpp's vocabulary.

    python benchmarks/headers.py MODEL.gguf [--rounds 5]

Four things take turns, each in a process of its own: our reader, the vetting that stands before
every load, gguf.GGUFReader, and llama.cpp loading the vocabulary alone, which is what the vetting
comes on top of. The best of the rounds counts. The last line is JSON: seconds of CPU, bytes of
memory, how many times our reader's time gguf-py takes, and which part of llama.cpp's the vetting.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

WORK = {
    "read": "from convert.gguf.model import read_model as work",
    "vet": "from convert.gguf.vetting import vet as work",
    "gguf-py": "from gguf import GGUFReader as work",
    "llama.cpp": """
import llama_cpp
params = llama_cpp.llama_model_default_params()
params.vocab_only = True
llama_cpp.llama_log_set(llama_cpp.llama_log_callback(lambda *_: None), None)
llama_cpp.llama_backend_init()
def work(path):
    llama_cpp.llama_model_free(llama_cpp.llama_model_load_from_file(str(path).encode(), params))
""",
}

CHILD = """
import json, resource, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
{work}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = time.process_time()
work(Path({path!r}))
seconds = time.process_time() - started
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps([seconds, grown * 1024]))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    best: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for name, work in WORK.items():
            code = CHILD.format(root=str(ROOT), work=work, path=str(options.model.resolve()))
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
            found = json.loads(done.stdout)
            best[name] = min(best.get(name, found), found)
    for name, (seconds, grown) in best.items():
        print(f"{name:10} {1000 * seconds:8.1f} ms {grown / 1e6:8.1f} MB", flush=True)
    ours = best["read"][0]
    print(
        json.dumps(
            {
                "cpu_seconds": {name: round(each[0], 4) for name, each in best.items()},
                "memory_bytes": {name: int(each[1]) for name, each in best.items()},
                "gguf_py_to_read": round(best["gguf-py"][0] / ours, 1),
                "vet_to_llama_cpp": round(best["vet"][0] / best["llama.cpp"][0], 3),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
