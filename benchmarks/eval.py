"""Compare `l4 eval` with llama-perplexity: every figure, processor time, memory.

    python -m benchmarks.eval MODEL.gguf BASE.gguf [--text FILE] [--ctx 512] [--chunks 8]

llama-perplexity is of the llama.cpp that l4 runs on; it is built if it is missing. It runs twice:
for the reference, whose logits it writes to a file, and for the model. `l4 eval --against` does
both at once. Without --text, both get l4's built-in text.

The number of chunks should be a multiple of 4: three chunks that are left for a last batch are
computed in pieces with a few tokens of each, where llama.cpp's attention rounds differently.

Prints each figure of both, where they differ in the digits that llama-perplexity prints. The last
line is JSON: the number of figures that are equal, the ratio of processor times (theirs / ours: 1.1
means that ours takes 10% less; it counts what a busy machine does not change much), and the peaks
of memory that is no page of a file.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.build_peer import add_options, find_peer
from benchmarks.shared import L4, make_parser, memory

# A line such as "Mean PPL(Q)/PPL(base)         :   1.124496 ±   0.035194", or "99.0%   Δp: 15.4%".
_FIGURE = re.compile(
    r"^ *(?P<name>\S.*?) *: +(?P<value>-?[\d.]+|-?nan|-?inf)(?: *%)?(?: +± +(?P<error>[\d.]+))?",
    re.MULTILINE,
)
_FINAL = re.compile(r"Final estimate: PPL = ([\d.]+) \+/- ([\d.]+)")


@dataclass(frozen=True)
class Run:
    """What a program wrote, the processor time it took, and its peak of memory in bytes."""

    output: str
    cpu: float
    anonymous: int


def run(command: Sequence[object]) -> Run:
    """Run a command to its end and measure it; end the script if it fails."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        words = [str(word) for word in command]
        env = {"GOMP_SPINCOUNT": "2000", **os.environ}  # as l4 sets it on machines with few cores
        process = subprocess.Popen(words, stdout=out, stderr=err, env=env)
        peak = 0
        while True:
            peak = max(peak, memory(process.pid).get("RssAnon", 0))
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            time.sleep(0.02)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        text, complaint = out.read().decode(), err.read().decode(errors="replace")
        if process.returncode:
            raise SystemExit(f"{words} ended with {process.returncode}:\n{complaint[-2000:]}")
        return Run(text + complaint, usage.ru_utime + usage.ru_stime, peak)


def figures_of(output: str) -> dict[str, str]:
    """Return the figures that llama-perplexity printed, with the digits it printed."""
    if final := _FINAL.search(output):
        return {"Final PPL": final[1], "Final PPL ±": final[2]}
    _, _, statistics = output.partition("====== Perplexity statistics ======")
    found = {}
    for match in _FIGURE.finditer(statistics):
        name = re.sub(r"\s+", " ", match["name"])
        if not any(word in name for word in ("PPL", "KLD", "Δp", "Same top")):
            continue
        found[name] = match["value"]
        if match["error"]:
            found[f"{name} ±"] = match["error"]
    return found


def ours_like(theirs: Mapping[str, str], value: Mapping[str, Any]) -> dict[str, str]:
    """Return our figures by llama-perplexity's names, with as many digits as it printed."""
    means = {
        "Mean PPL(Q)": ("ppl", 1),
        "Mean PPL(base)": ("base_ppl", 1),
        "Mean ln(PPL(Q)/PPL(base))": ("ln_ppl_ratio", 1),
        "Mean PPL(Q)/PPL(base)": ("ppl_ratio", 1),
        "Mean PPL(Q)-PPL(base)": ("ppl_difference", 1),
        "Mean KLD": ("kld", 1),
        "Mean Δp": ("delta_p", 100),
        "RMS Δp": ("rms_delta_p", 100),
        "Same top p": ("same_top", 100),
        "Final PPL": ("ppl", 1),
    }
    numbers: dict[str, float] = {}
    for name, (key, factor) in means.items():
        if key in value:
            numbers[name] = factor * value[key]["mean"]
            numbers[f"{name} ±"] = factor * value[key]["error"]
    if "correlation" in value:
        numbers["Cor(ln(PPL(Q)), ln(PPL(base)))"] = 100 * value["correlation"]
        for key, unit, factor in (("kld", "KLD", 1), ("delta_p", "Δp", 100)):
            spread = value[key]
            for name in ("maximum", "median", "minimum"):
                numbers[f"{name.capitalize()} {unit}"] = factor * spread[name]
            for percent, number in spread["percentiles"].items():
                numbers[f"{float(percent):.1f}% {unit}"] = factor * number
    return {
        name: f"{numbers[name]:.{len(text.partition('.')[2])}f}"
        for name, text in theirs.items()
        if name in numbers
    }


def perplexity(program: Path, model: Path, *options: object) -> Run:
    """Run llama-perplexity."""
    return run([program, "-m", model, *options])


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--ctx", type=int, default=512)
    parser.add_argument("--chunks", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    add_options(parser)
    return parser.parse_args()


def main() -> None:
    options = parse()
    program = find_peer(options).program("llama-perplexity")
    with tempfile.TemporaryDirectory() as scratch:
        text = options.text
        if text is None:
            from l4cli.eval.texts import built_in_text

            text = Path(scratch) / "text.txt"
            text.write_text(built_in_text().content)
        logits = Path(scratch) / "logits"
        common = ("-f", text, "-c", options.ctx, "--chunks", options.chunks, "-t", options.threads)
        first = perplexity(program, options.base, *common, "--kl-divergence-base", logits)
        second = perplexity(
            program, options.model, *common, "--kl-divergence-base", logits, "--kl-divergence"
        )
        logits_bytes = logits.stat().st_size
        mine = run(
            [
                *L4, "eval", options.model, "--against", options.base, "--text", text, "--json",
                "--ctx", options.ctx, "--chunks", options.chunks, "--threads", options.threads,
            ]
        )  # fmt: skip
    theirs = figures_of(second.output)
    value = json.JSONDecoder().raw_decode(mine.output)[0]["models"][0]
    ours = ours_like(theirs, value)
    different = {name for name in theirs if theirs[name] != ours.get(name)}
    for name, text_of in theirs.items():
        mark = "  <-" if name in different else ""
        print(f"{name:34} {ours.get(name, '–'):>16} {text_of:>16}{mark}", flush=True)
    found = {
        "model": options.model.name,
        "figures": len(theirs),
        "equal": len(theirs) - len(different),
        "cpu seconds, ours": round(mine.cpu, 2),
        "cpu seconds, theirs": round(first.cpu + second.cpu, 2),
        "cpu ratio": round((first.cpu + second.cpu) / mine.cpu, 3),
        "anonymous MiB, ours, both models": mine.anonymous >> 20,
        "anonymous MiB, theirs, one model": max(first.anonymous, second.anonymous) >> 20,
        "logits file MiB, theirs": logits_bytes >> 20,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
