"""Compare `l4 serve` with llama-server: same file, prompts, threads, connections and client.

    python -m benchmarks.serve MODEL.gguf [--peer FOLDER] [--connections 1,8,32,48] [--slots 4,8,32]

FOLDER holds llama-server of the llama.cpp that l4 runs on (`python -m benchmarks.build_peer
llama-server`). The client opens so many connections and asks one streamed chat completion after the
other on each; all are greedy and have exactly --max-tokens tokens. The two take turns, --rounds
times. In the first round, llama-server is tried with every number of slots, in a pool and in
regions; its two fastest go on, and the faster of them counts.

Also measured, with as many connections as answered most: whole answers, which compare with `l4 run`
on the same prompts as rows, and what streaming costs per token, server and client together.

Prints tokens per second, and the median and the 99th percentile of the time to the first token;
then one JSON line. --peer may be left out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median, quantiles
from typing import Any

from benchmarks.run import WORDS
from benchmarks.shared import L4, make_parser, note


@dataclass(frozen=True)
class Result:
    """What one load took: generated tokens per second, and times to the first token in seconds."""

    tps: float
    ttft_p50: float
    ttft_p99: float


def main() -> None:
    options = parse()
    prompts = make_prompts(options.requests, options.words)
    found: dict[str, Any] = {}
    streamed: dict[int, float] = {}
    for count in map(int, options.connections.split(",")):
        ours, theirs = rounds(options, prompts, count)
        l4 = middle(ours)
        streamed[count] = l4.tps
        note(f"{count} connections: l4 {shown(l4)}")
        found[str(count)] = {"l4_tps": round(l4.tps, 1)}
        if theirs:
            name, best = max(theirs.items(), key=lambda item: middle(item[1]).tps)
            peer = middle(best)
            note(f"  llama-server ({name}) {shown(peer)}")
            found[str(count)] |= {
                "server_tps": round(peer.tps, 1),
                "server_slots": name,
                "ratio": round(l4.tps / peer.tps, 3),
                "ttft_p50_ratio": round(l4.ttft_p50 / peer.ttft_p50, 3),
                "ttft_p99_ratio": round(l4.ttft_p99 / peer.ttft_p99, 3),
            }
    found |= against_run(options, prompts, max(streamed, key=lambda count: streamed[count]))
    print(json.dumps({"model": options.model.name, **found}))


def rounds(
    options: argparse.Namespace, prompts: Sequence[Any], count: int
) -> tuple[list[Result], dict[str, list[Result]]]:
    """Measure l4, and llama-server with all its slots and layouts, in turns."""
    ours: list[Result] = []
    theirs: dict[str, list[Result]] = {}
    if options.peer:
        theirs = {f"{number} {layout}": [] for number in options.slots.split(",")
                  for layout in ("--kv-unified", "--no-kv-unified")}  # fmt: skip
    for _ in range(options.rounds):
        with l4_serve(options) as port:
            ours.append(measure(port, prompts, count, options.max_tokens))
        for name, results in theirs.items():
            number, _, layout = name.partition(" ")
            with llama_server(options, int(number), layout) as port:
                results.append(measure(port, prompts, count, options.max_tokens))
        fastest = sorted(theirs, key=lambda name: -middle(theirs[name]).tps)[:2]
        theirs = {name: theirs[name] for name in fastest}
    return ours, theirs


def against_run(
    options: argparse.Namespace, prompts: Sequence[Any], count: int
) -> dict[str, float]:
    """Compare whole answers with `l4 run`, and with streamed ones, in turns."""
    whole: list[float] = []
    streamed: list[float] = []
    run: list[float] = []
    for _ in range(options.rounds):
        for stream, results in ((False, whole), (True, streamed)):
            with l4_serve(options) as port:
                answered = measure(port, prompts, count, options.max_tokens, stream=stream)
                results.append(answered.tps)
        run.append(l4_run(options, prompts))
    return {
        "connections": count,
        "whole_tps": round(median(whole), 1),
        "run_tps": round(median(run), 1),
        "serve_to_run": round(median(whole) / median(run), 3),
        "streaming_us_per_token": round(1e6 / median(streamed) - 1e6 / median(whole), 1),
    }


def shown(result: Result) -> str:
    return (
        f"{result.tps:.1f} tokens/s, first token after {result.ttft_p50:.2f} s "
        f"(p99 {result.ttft_p99:.2f} s)"
    )


def middle(results: Sequence[Result]) -> Result:
    """The median of each figure."""
    return Result(
        median(one.tps for one in results),
        median(one.ttft_p50 for one in results),
        median(one.ttft_p99 for one in results),
    )


def make_prompts(count: int, words: int) -> list[list[dict[str, str]]]:
    """Conversations of one message of random words."""
    rng = Random(4)
    return [
        [{"role": "user", "content": f"{n}: " + " ".join(rng.choice(WORDS) for _ in range(words))}]
        for n in range(count)
    ]


def measure(
    port: int, prompts: Sequence[Any], connections: int, max_tokens: int, *, stream: bool = True
) -> Result:
    """Ask all prompts over so many connections."""
    # The first request compiles the template. What it leaves in the cache is no prompt's beginning.
    asyncio.run(_load(port, [[{"role": "user", "content": "hi"}]], 1, 4, stream=stream))
    began = time.perf_counter()
    ttfts, tokens = asyncio.run(_load(port, prompts, connections, max_tokens, stream=stream))
    seconds = time.perf_counter() - began
    assert tokens == len(prompts) * max_tokens, (tokens, len(prompts), max_tokens)
    p99 = quantiles(ttfts, n=100)[-1] if len(ttfts) > 1 else ttfts[0]
    return Result(tokens / seconds, median(ttfts), p99)


async def _load(
    port: int, prompts: Sequence[Any], connections: int, max_tokens: int, *, stream: bool
) -> tuple[list[float], int]:
    waiting = list(reversed(prompts))
    ttfts: list[float] = []
    total = 0

    async def client() -> None:
        nonlocal total
        while waiting:
            ttft, tokens = await _ask(port, waiting.pop(), max_tokens, stream=stream)
            ttfts.append(ttft)
            total += tokens

    await asyncio.gather(*(client() for _ in range(connections)))
    return ttfts, total


async def _ask(port: int, messages: Any, max_tokens: int, *, stream: bool) -> tuple[float, int]:
    """Ask one completion; return the time to its first text, and its number of tokens."""
    asked = {
        "messages": messages,
        "max_tokens": max_tokens,
        "temperature": 0,
        "ignore_eos": True,
    }
    if stream:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    body = json.dumps(asked).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began = time.perf_counter()
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )
    first, tokens = 0.0, 0
    async for line in reader:
        if not first and b'"content":"' in line and b'"content":""' not in line:
            first = time.perf_counter() - began
        if b'"usage":{' in line:
            found = line[line.index(b'"usage":{') :]
            tokens = int(found.partition(b'"completion_tokens":')[2].split(b",")[0].rstrip(b"}"))
    writer.close()
    return first or time.perf_counter() - began, tokens


@contextmanager
def l4_serve(options: argparse.Namespace) -> Iterator[int]:
    """Run `l4 serve`; yield its port."""
    command = [
        *L4, "serve", "-m", options.model, "--threads", options.threads, "--ctx", options.ctx,
        "--parallel", options.parallel,
    ]  # fmt: skip
    with _running(command) as port:
        yield port


@contextmanager
def llama_server(options: argparse.Namespace, slots: int, layout: str) -> Iterator[int]:
    """Run llama-server; yield its port. Each slot has room for a request."""
    command = [
        options.peer / "llama-server", "-m", options.model, "-c", options.ctx * slots, "-np", slots,
        "-t", options.threads, "--no-webui", layout,
    ]  # fmt: skip
    with _running(command) as port:
        yield port


@contextmanager
def _running(command: Sequence[object]) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [*map(str, command), "--port", str(port)]
    env = {"GOMP_SPINCOUNT": "2000", **os.environ}
    process = subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not _is_ready(port):
            if process.poll() is not None:
                raise SystemExit(f"{words} ended with {process.returncode}")
            time.sleep(0.2)
        yield port
    finally:
        process.terminate()
        process.wait()


def _is_ready(port: int) -> bool:
    import http.client

    try:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False


def l4_run(options: argparse.Namespace, prompts: Sequence[Any]) -> float:
    """Tokens per second of `l4 run`, without loading, by its own report."""
    rows = "".join(
        json.dumps({"messages": messages, "ignore_eos": True}) + "\n" for messages in prompts
    )
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [
                *L4, "run", "-", "-o", f"{folder}/out.jsonl", "-m", str(options.model),
                "--temperature", "0", "-n", str(options.max_tokens),
                "--threads", str(options.threads),
            ],
            input=rows, capture_output=True, text=True, check=True,
        )  # fmt: skip
    report = re.search(r"([\d,]+) generated, (\d+)/s", done.stderr)
    assert report, done.stderr
    assert int(report[1].replace(",", "")) == len(prompts) * options.max_tokens, report[0]
    return float(report[2])


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--peer", type=Path, help="folder of llama-server")
    parser.add_argument("--connections", default="1,8,32,48")
    parser.add_argument("--slots", default="1,8,32,48", help="numbers of slots to try")
    parser.add_argument("--parallel", default="auto", help="l4's (%(default)s)")
    parser.add_argument("--requests", type=int, default=96, help="(%(default)s)")
    parser.add_argument("--words", type=int, default=60, help="of each prompt (%(default)s)")
    parser.add_argument("--max-tokens", type=int, default=64, help="(%(default)s)")
    parser.add_argument("--ctx", type=int, default=1024, help="tokens of a request (%(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="(%(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
