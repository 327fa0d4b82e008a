"""`l4 run` against llama-server and llama-batched-bench: same file, tokens, threads, one run.

    python benchmarks/run.py MODEL.gguf --peer FOLDER [--slots 4,8,16,32,48] [--rows 48]

FOLDER holds llama-server and llama-batched-bench of the llama.cpp that l4 runs on (see
benchmarks/peer.py). Loading, and making the context, which the server does when it starts, is not counted
on either side. Two workloads, greedy, every answer of exactly --max-tokens tokens: distinct
prompts, and prompts that share a system prompt. For llama-batched-bench, whose prompts are of one
length, the distinct ones are filled up to one as well. The server is tried at every slot count
first and its best one counts; l4 chooses for itself unless --parallel is given. The server is given
token ids, so that templates and tokenizing are work that l4 alone does; with --messages it is asked
as l4 is. Prints a line a round, then one JSON line of medians.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # `convert` is the package

from l4cli import load  # noqa: E402
from l4cli.batch.outputs import to_line  # noqa: E402
from l4cli.batch.rows import read_rows  # noqa: E402
from l4cli.batch.runner import BatchOptions, run_rows  # noqa: E402
from l4cli.batch.stats import BatchStats  # noqa: E402
from l4cli.engine.llamacpp import LlamaBackend, LlamaModel  # noqa: E402
from l4cli.loading.llm import LLM  # noqa: E402

WORDS = (
    *("valve", "pump", "gauge", "filter", "harbour", "engine", "copper", "winter", "ledger"),
    *("signal", "garden", "mirror", "ticket", "river", "market", "lantern", "compass", "orchard"),
    *("bridge", "letter", "window", "captain", "basket", "thunder"),
)


@dataclass(frozen=True)
class Workload:
    name: str
    messages: list[list[dict[str, str]]]

    def lines(self) -> list[bytes]:
        return [json.dumps({"messages": messages}).encode() for messages in self.messages]


def workloads(rows: int) -> list[Workload]:
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
    """The same prompts, filled up to as many tokens as the longest has."""
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
    """A conversation, and the token ids that l4 makes of it."""

    messages: list[dict[str, str]]
    ids: list[int]


@dataclass(frozen=True)
class Result:
    """Tokens generated a second of wall time; the share of that time outside llama_decode, and
    the seconds before it that making the context took."""

    tokens_per_second: float
    overhead: float = 0.0
    context_seconds: float = 0.0


class Ours:
    """l4, in this process: lines of JSON in, lines of JSON out."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options

    def run(self, workload: Workload) -> Result:
        options, lines = self.options, workload.lines()
        sampling = {"temperature": 0.0, "ignore_eos": True, "max_tokens": options.max_tokens}
        stats, decoding, making = BatchStats(), Stopwatch(), Stopwatch()
        loading = Stopwatch()  # of the same weights, as they lie in the file
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
        assert making.calls <= 2  # for answers and for prompts: what is made anew would count
        assert stats.num_completion_tokens == len(lines) * options.max_tokens
        return Result(
            stats.num_completion_tokens / seconds, 1 - decoding.seconds / seconds, making.seconds
        )


class Stopwatch:
    """Seconds spent in one method of a class, and how often it was called."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.calls = 0

    @contextmanager
    def around(self, owner: type, name: str) -> Iterator[None]:
        method = getattr(owner, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            began = time.perf_counter()
            try:
                return method(*arguments, **options)
            finally:
                self.seconds += time.perf_counter() - began

        setattr(owner, name, timed)
        try:
            yield
        finally:
            setattr(owner, name, method)


class Server:
    """llama-server with a number of slots, asked over as many connections."""

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
    """Ours without what l4 sets for llama.cpp in its own process."""
    return {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}


def batched_bench(options: argparse.Namespace, n_prompt: int) -> float:
    """Tokens generated a second by llama-batched-bench at the distinct workload's shape."""
    command = [
        options.peer / "llama-batched-bench", "-m", options.model, "-c", options.ctx,
        "-t", options.threads, "-npp", n_prompt, "-ntg", options.max_tokens, "-npl", options.rows,
        "--output-format", "jsonl",
    ]  # fmt: skip
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=True,
        env=their_environment(),
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("{"))
    return options.rows * options.max_tokens / float(json.loads(line)["t"])


def compare(options: argparse.Namespace, workload: Workload) -> dict[str, float]:
    """Medians over rounds in which all take their turn, since a machine's speed drifts."""
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
    medians = {name: median(found[name] for found in rounds) for name in rounds[0]}
    return {**medians, "server slots": slots}


def best_slots(options: argparse.Namespace, prompts: list[Prompt]) -> int:
    """The number of slots at which the server is fastest."""
    if len(options.slots) == 1:
        return int(options.slots[0])
    speeds = {}
    for slots in options.slots:
        with Server(options, slots) as server:
            speeds[slots] = server.run(prompts).tokens_per_second
        print(f"  llama-server, {slots} slots: {speeds[slots]:.1f} tokens/s", flush=True)
    return max(speeds, key=lambda slots: speeds[slots])


def _parallel(value: str) -> int | str:
    return value if value == "auto" else int(value)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--peer", type=Path, required=True, help="where llama-server lies")
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--slots", type=lambda s: [int(n) for n in s.split(",") if n],
                        default=[4, 8, 16, 32, 48])  # fmt: skip
    parser.add_argument("--messages", action="store_true", help="ask the server by messages")
    parser.add_argument("--server-unified", action="store_true", help="one KV cache there, too")
    parser.add_argument("--parallel", type=_parallel, default="auto")
    parser.add_argument("--ctx", type=int, default=49152, help="the peers' context")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3, help="rounds")
    parser.add_argument("--only", choices=["distinct", "shared"])
    return parser.parse_args()


if __name__ == "__main__":
    options = parse()
    chosen = [w for w in workloads(options.rows) if options.only in (None, w.name)]
    found = {workload.name: compare(options, workload) for workload in chosen}
    print(json.dumps({"model": options.model.name, "rows": options.rows, **found}))
