"""Scripts that measure l4, most of them against another program ("the peer") in the same run.

Run one from the root of the repository, for example `python -m benchmarks.run MODEL.gguf --peer
FOLDER`. `--help` explains each script. All measuring scripts print one line of JSON last.

Speed against a peer
    run             `l4 run` against llama-server and llama-batched-bench
    chat            decode speed of `l4 chat` against llama-bench
    serve           `l4 serve` against llama-server: many connections, time to the first token
    ask             `l4 ask`: first and second question of a document; prefill against llama-bench
    bench           `l4 bench` against llama-bench
    eval            `l4 eval` against llama-perplexity: every figure, processor time, memory
    experts         what counting experts costs: with and without the callback
    imatrix         `l4 imatrix` against llama-imatrix: every sum, processor time, quantized bytes
    convert         `l4 convert` against llama.cpp's two steps and ggml's bare kernels
    quantize_gguf   `l4 quantize` against llama-quantize: time, memory, bytes
    header_speed    reading and checking a GGUF header against gguf-py and llama.cpp
    quote_speed     decoding restricted to quotations against unrestricted decoding
    repack_speed    repacked (or AMX) weights against weights as the file stores them
Survives being killed (SIGKILL at random moments)
    kill_run        `l4 run --resume` ends with the rows of an undisturbed run
    kill_chat       the session of a chat loses no message
    kill_convert    `l4 convert --resume`, or quantize, ends with the bytes of an undisturbed run
    kill_store      the reading cache never restores wrong logits
Memory
    plan            memory that `l4 plan` expects against memory measured
    chat_memory     memory of a chat stays flat over hundreds of turns
    million_rows    memory of `l4 run` stays flat over a million rows
Exactness
    convert_architectures   every architecture: the same file as from llama.cpp's converter?
    quantize_types          every type: the same file as from llama-quantize?
    decode_precision        what decoding loses against prefill, by KV type and threads
    regenerate              a greedy /regen gives the same answer, also after `l4 chat -c`?
    restored_logits         the same logits after a restore from disk, and after an edit?
    ask_accuracy            `l4 ask` finds facts at any depth of a document as well as `l4 run`?
Fuzzing, builds
    sweep           odd members of a kind by the hundred thousand: files, rows, options …
    round_trips     every number of a text survives DOCX, EPUB, HTML and PDF of other programs
    cuda_build      a build with CUDA on a machine that may have no graphics card
Looks
    screens         what every command shows on terminals of 40 to 120 columns, on one page
Tools for the scripts above
    build_peer      fetches and builds llama.cpp's own programs, for --peer FOLDER
    make_checkpoint makes a checkpoint of random weights in any size
    make_wide_gguf  makes a GGUF with layers as wide as Scout's
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Some scripts use helpers of the tests, such as `checkpoints`. tests/ is not a package: its modules
# import each other by their bare names, so the folder itself must be on the path.
sys.path.append(str(ROOT / "tests"))
