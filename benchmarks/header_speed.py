"""Measure the cost of reading a GGUF's header, against gguf-py and llama.cpp.

    python -m benchmarks.header_speed MODEL.gguf [--rounds 5]

Four readers take turns, each in its own process:

  read       our reader
  vet        the check of the header that precedes every load
  gguf-py    gguf.GGUFReader
  llama.cpp  llama.cpp loading only the vocabulary; "vet" is a cost on top of this

The best round of each counts. The last line is JSON: seconds of CPU time; growth of memory in
bytes; how many times as long as our reader gguf-py takes; and the time of "vet" as a share of
llama.cpp's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.shared import make_parser, output_of

READERS = {
    "read": "from convert.gguf.model import read_model as read",
    "vet": "from convert.gguf.vetting import vet as read",
    "gguf-py": "from gguf import GGUFReader as read",
    "llama.cpp": """
import llama_cpp
params = llama_cpp.llama_model_default_params()
params.vocab_only = True
llama_cpp.llama_log_set(llama_cpp.llama_log_callback(lambda *_: None), None)
llama_cpp.llama_backend_init()
def read(path):
    llama_cpp.llama_model_free(llama_cpp.llama_model_load_from_file(str(path).encode(), params))
""",
}

# Imports are not measured.
CHILD = """
import json, resource, sys, time
from pathlib import Path
{reader}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = time.process_time()
read(Path(sys.argv[1]))
seconds = time.process_time() - started
growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps([seconds, growth * 1024]))
"""


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    best: dict[str, list[float]] = {}
    for _ in range(args.rounds):
        for name, reader in READERS.items():
            code = CHILD.format(reader=reader)
            found = json.loads(output_of([sys.executable, "-c", code, args.model]))
            best[name] = min(best.get(name, found), found)
    for name, (seconds, growth) in best.items():
        print(f"{name:10} {1000 * seconds:8.1f} ms {growth / 1e6:8.1f} MB", flush=True)
    result = {
        "cpu_seconds": {name: round(seconds, 4) for name, (seconds, _) in best.items()},
        "memory_bytes": {name: int(growth) for name, (_, growth) in best.items()},
        "gguf_py_to_read": round(best["gguf-py"][0] / best["read"][0], 1),
        "vet_to_llama_cpp": round(best["vet"][0] / best["llama.cpp"][0], 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
