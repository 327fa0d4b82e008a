"""Compare `l4 run` with llama-server and llama-batched-bench: same file, tokens and threads.

    python -m benchmarks.run MODEL.gguf --peer FOLDER [--slots 4,8,16,32,48] [--rows 48]

FOLDER holds llama-server and llama-batched-bench of the llama.cpp that l4 runs on; `python -m
benchmarks.build_peer llama-server llama-batched-bench` builds them. Neither side is charged for
loading the model and making the context, which the server does when it starts.

There are two workloads: distinct prompts, and prompts that share a system prompt. Both are greedy,
and every answer has exactly --max-tokens tokens. llama-batched-bench needs prompts of one length;
to compare with it, the distinct prompts are also padded to one length.

The server is first tried with every number of slots, and its best number counts; l4 chooses for
itself unless --parallel is given. The server gets token ids, so only l4 has the work of rendering
the chat template and tokenizing; with --messages the server gets messages, as l4 does. Prints one
line per round, then one JSON line of medians.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.shared import Stopwatch, make_parser, medians, output_of
from l4cli import load
from l4cli.batch.outputs import to_line
from l4cli.batch.requests import BatchOptions
from l4cli.batch.rows import read_rows
from l4cli.batch.runner import run_rows
from l4cli.batch.stats import BatchStats
from l4cli.engine.llamacpp import LlamaBackend, LlamaModel
from l4cli.loading.llm import LLM

WORDS = (
    *("valve", "pump", "gauge", "filter", "harbour", "engine", "copper", "winter", "ledger"),
    *("signal", "garden", "mirror", "ticket", "river", "market", "lantern", "compass", "orchard"),
    *("bridge", "letter", "window", "captain", "basket", "thunder"),
)


@dataclass(frozen=True)
class Workload:
    """Conversations to answer, each a list of messages."""

    name: str
    messages: list[list[dict[str, str]]]

    def lines(self) -> list[bytes]:
        """Return the workload as rows of JSON."""
        return [json.dumps({"messages": messages}).encode() for messages in self.messages]


def workloads(rows: int) -> list[Workload]:
    """Return both workloads, each with `rows` conversations of random words."""
    rng = Random(4)

    def text(n_words: int) -> str:
        return " ".join(rng.choice(WORDS) for _ in range(n_words))

    system = {"role": "system", "content": text(420)}
    questions = [{"role": "user", "content": f"{n}: {text(30)}?"} for n in range(rows)]
    return [
        Workload("distinct", [[question] for question in questions]),
        Workload("shared", [[system, question] for question in questions]),
    ]


def of_one_length(llm: LLM, workload: Workload) -> tuple[Workload, int]:
    """Pad all prompts to the length of the longest; return them and that length in tokens."""
    lengths = [len(llm.request(messages).prompt) for messages in workload.messages]
    n_prompt = max(lengths)
    filled = [
        [{**last, "content": last["content"] + " a" * (n_prompt - length)}]
        for (last,), length in zip(workload.messages, lengths, strict=True)
    ]
    assert {len(llm.request(messages).prompt) for messages in filled} == {n_prompt}
    return Workload(workload.name, filled), n_prompt


@dataclass(frozen=True)
class Prompt:
    """A conversation, and the token ids of the prompt that l4 makes of it."""

    messages: list[dict[str, str]]
    ids: list[int]


@dataclass(frozen=True)
class Result:
    """What one run of a workload took.

    tokens_per_second: generated tokens per second of wall time.
    overhead: the share of that time outside llama_decode.
    context_seconds: seconds for making the context, which are not part of that time.
    """

    tokens_per_second: float
    overhead: float = 0.0
    context_seconds: float = 0.0


class Ours:
    """l4 in this process: rows of JSON in, lines of JSON out."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options

    def run(self, workload: Workload) -> Result:
        options, lines = self.options, workload.lines()
        sampling = {"temperature": 0.0, "ignore_eos": True, "max_tokens": options.max_tokens}
        stats, decoding, making = BatchStats(), Stopwatch(), Stopwatch()
        loading = Stopwatch()  # l4 may load the weights again, without repacking, for prompts
        with load(
            options.model, ctx="auto", parallel=options.parallel, threads=options.threads,
            elastic=True,
        ) as llm, decoding.around(LlamaBackend, "decode"), making.around(
            LlamaBackend, "__init__"
        ), loading.around(LlamaModel, "__init__"):  # fmt: skip
            began = time.perf_counter()
            for _, answer in run_rows(
                llm, read_rows(lines), BatchOptions(sampling=sampling), stats
            ):
                to_line(answer)
            seconds = time.perf_counter() - began - making.seconds - loading.seconds
        # One context for answers, one for prompts. Time for making any more must not be subtracted.
        assert making.calls <= 2
        assert stats.num_completion_tokens == len(lines) * options.max_tokens
        return Result(
            stats.num_completion_tokens / seconds, 1 - decoding.seconds / seconds, making.seconds
        )


class Server:
    """llama-server with `slots` slots, which gets requests over as many connections."""

    def __init__(self, options: argparse.Namespace, slots: int) -> None:
        self.options, self.slots = options, slots
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def __enter__(self) -> Server:
        options = self.options
        command = [
            options.peer / "llama-server", "-m", options.model, "--port", self.port,
            "-c", options.ctx, "-np", self.slots, "-t", options.threads, "--no-webui",
        ]  # fmt: skip
        if options.server_unified:
            command.append("--kv-unified")
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=their_environment(),
        )
        while not self._is_ready():
            if self.process.poll() is not None:
                raise SystemExit(f"llama-server ended with {self.process.returncode}")
            time.sleep(0.2)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()

    def _is_ready(self) -> bool:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port)
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False

    def run(self, prompts: list[Prompt]) -> Result:
        """Complete all prompts, `slots` at a time."""
        began = time.perf_counter()
        with ThreadPoolExecutor(self.slots) as pool:
            counts = list(pool.map(self._complete, prompts))
        return Result(sum(counts) / (time.perf_counter() - began))

    def _complete(self, prompt: Prompt) -> int:
        limit = self.options.max_tokens
        if self.options.messages:
            asked = {"messages": prompt.messages, "max_tokens": limit}
            answer = self._post("/v1/chat/completions", asked)
            assert answer["usage"]["prompt_tokens"] == len(prompt.ids)
            return int(answer["usage"]["completion_tokens"])
        answer = self._post("/completion", {"prompt": prompt.ids, "n_predict": limit})
        return int(answer["tokens_predicted"])

    def _post(self, path: str, asked: dict[str, Any]) -> dict[str, Any]:
        asked |= {"temperature": 0, "ignore_eos": True, "cache_prompt": True}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=3600)
        connection.request("POST", path, json.dumps(asked))
        answer: dict[str, Any] = json.load(connection.getresponse())
        connection.close()
        return answer


def their_environment() -> dict[str, str]:
    """Return our environment without the variable that l4 sets for OpenMP in its own process."""
    return {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}


def batched_bench(options: argparse.Namespace, n_prompt: int) -> float:
    """Return the generated tokens per second of llama-batched-bench, with `options.rows` prompts.

    n_prompt: the length of every prompt in tokens.
    """
    command = [
        options.peer / "llama-batched-bench", "-m", options.model, "-c", options.ctx,
        "-t", options.threads, "-npp", n_prompt, "-ntg", options.max_tokens, "-npl", options.rows,
        "--output-format", "jsonl",
    ]  # fmt: skip
    out = output_of(command, env=their_environment())
    line = next(line for line in out.splitlines() if line.startswith("{"))
    return int(options.rows) * int(options.max_tokens) / float(json.loads(line)["t"])


def compare(options: argparse.Namespace, workload: Workload) -> dict[str, float]:
    """Run one workload on all programs; return the medians of all rounds.

    In each round the programs take turns because a machine's speed drifts.
    """
    with load(options.model, elastic=True) as llm:
        prompts = [Prompt(m, list(llm.request(m).prompt)) for m in workload.messages]
        if is_distinct := workload.name == "distinct":
            level, n_level = of_one_length(llm, workload)
    n_prompt = round(sum(len(prompt.ids) for prompt in prompts) / len(prompts))
    print(f"{workload.name}: {len(prompts)} prompts of {n_prompt} tokens", flush=True)
    slots = best_slots(options, prompts)
    rounds = []
    for _ in range(options.repeat):
        ours = Ours(options).run(workload)
        found = {
            "l4": ours.tokens_per_second,
            "overhead": ours.overhead,
            "context seconds": ours.context_seconds,
        }
        with Server(options, slots) as server:
            found["server"] = server.run(prompts).tokens_per_second
        found["ratio to server"] = found["l4"] / found["server"]
        if is_distinct:
            found["batched-bench"] = batched_bench(options, n_level)
            found["l4, one length"] = Ours(options).run(level).tokens_per_second
            found["ratio to batched-bench"] = found["l4, one length"] / found["batched-bench"]
        rounds.append(found)
        print("  " + ", ".join(f"{name} {value:.3g}" for name, value in found.items()), flush=True)
    return {**medians(rounds), "server slots": slots}


def best_slots(options: argparse.Namespace, prompts: list[Prompt]) -> int:
    """Return the number of slots with which the server is fastest."""
    if len(options.slots) == 1:
        return int(options.slots[0])
    speeds: dict[int, float] = {}
    for slots in options.slots:
        with Server(options, slots) as server:
            speeds[slots] = server.run(prompts).tokens_per_second
        print(f"  llama-server, {slots} slots: {speeds[slots]:.1f} tokens/s", flush=True)
    return max(speeds, key=lambda slots: speeds[slots])


def _parallel(value: str) -> int | str:
    return value if value == "auto" else int(value)


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument(
        "--peer", type=Path, required=True, help="the folder with llama.cpp's programs"
    )
    parser.add_argument("--rows", type=int, default=48, help="of each workload (%(default)s)")
    parser.add_argument(
        "--max-tokens", type=int, default=64, help="tokens of each answer (%(default)s)"
    )
    parser.add_argument(
        "--slots",
        type=lambda text: [int(n) for n in text.split(",") if n],
        default=[4, 8, 16, 32, 48],
        help="numbers of slots to try the server with",
    )
    parser.add_argument(
        "--messages", action="store_true", help="send messages to the server, not token ids"
    )
    parser.add_argument(
        "--server-unified",
        action="store_true",
        help="let the server's slots share all KV cells (its --kv-unified)",
    )
    parser.add_argument(
        "--parallel", type=_parallel, default="auto", help="sequences of l4 (%(default)s)"
    )
    parser.add_argument(
        "--ctx", type=int, default=49152, help="context of llama.cpp's programs (%(default)s)"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3, help="rounds (%(default)s)")
    parser.add_argument("--only", choices=["distinct", "shared"], help="run one workload only")
    return parser.parse_args()


def main() -> None:
    options = parse()
    chosen = [w for w in workloads(options.rows) if options.only in (None, w.name)]
    found = {workload.name: compare(options, workload) for workload in chosen}
    print(json.dumps({"model": options.model.name, "rows": options.rows, **found}))


if __name__ == "__main__":
    main()
