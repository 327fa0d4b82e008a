"""Run a million rows through the code of `l4 run`, and measure its memory without a model.

    python -m benchmarks.million_rows [--rows 1000000]

A stand-in without weights answers, so the memory measured is l4's own: reading rows, the reorder
window, the journal, the register of ids, the engine's bookkeeping. Rows are written to a file with
its journal; then the finished file is opened again as with --resume. Resident memory is read before
the first row, after the first thousand rows, and at the end. Prints one JSON line last.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.shared import make_parser, memory
from l4cli.batch.ids import IdRegister
from l4cli.batch.journal import JournaledOutput
from l4cli.batch.outputs import has_failed, to_line
from l4cli.batch.requests import BatchOptions
from l4cli.batch.rows import read_rows
from l4cli.batch.runner import run_rows
from l4cli.batch.stats import BatchStats
from l4cli.engine.types import BatchItem, Sampled, SamplingParams, TokenLogprob
from l4cli.loading.llm import LLM

LIMIT_MB = 300
BOS, EOT = 256, 257


class OneTokenBackend:
    """A backend that answers every prompt with one token, and counts the cells of each sequence."""

    n_ctx = n_ctx_seq = 65536
    n_batch = n_ubatch = 4096
    n_seq_max, unified = 64, True
    min_prefill = None
    states = None
    routes = None
    channels = None

    def __init__(self) -> None:
        self._lengths = [0] * self.n_seq_max
        self._is_prompt: list[bool] = []  # for each of the kept logits

    def decode(self, items: Sequence[BatchItem]) -> None:
        self._is_prompt = [len(item.tokens) > 1 for item in items if item.wants_logits]
        for item in items:
            self._lengths[item.seq_id] = item.pos + len(item.tokens)

    def sampler(self, params: SamplingParams, prompt: Sequence[int]) -> OneTokenBackend._Sampler:
        return self._Sampler(self)

    class _Sampler:
        def __init__(self, backend: OneTokenBackend) -> None:
            self._backend = backend

        def sample(self, output: int) -> Sampled:
            return Sampled(65 if self._backend._is_prompt[output] else EOT)

        def close(self) -> None:
            pass

    def logprob(self, output: int, token: int, num_top: int) -> TokenLogprob:
        return TokenLogprob(token, bytes([token]), 0.0)

    def piece(self, token: int) -> bytes:
        return bytes([token])

    def is_eog(self, token: int) -> bool:
        return token == EOT

    def num_computed(self, seq_id: int) -> int:
        return self._lengths[seq_id]

    def exact_prefix(self, seq_id: int, length: int) -> int:
        return length

    def fork(self, src: int, dst: int, length: int) -> None:
        self._lengths[dst] = length

    def truncate(self, seq_id: int, length: int) -> None:
        self._lengths[seq_id] = length

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        pass


class ByteVocabulary:
    """A vocabulary with one token per byte, and a minimal chat template."""

    n_vocab = 258
    special_tokens = {"<|bos|>": BOS, "<|eot|>": EOT}  # noqa: RUF012
    bos_token = BOS
    eos_token = EOT
    adds_bos = True
    chat_template = "{% for m in messages %}{{ m.content }}\n{% endfor %}"

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        return list(text.encode())

    def token_text(self, token: int | None) -> str:
        return ""


def lines(count: int) -> Iterator[bytes]:
    """Yield `count` rows of JSON."""
    for number in range(count):
        yield b'{"id": "row-%d", "prompt": "%d: a question of some length"}\n' % (number, number)


def resident_mb() -> float:
    """Return this process's resident memory in MB."""
    return memory()["VmRSS"] / 1e6


def write_all(out: Path, count: int, *, resume: bool) -> tuple[float, float, IdRegister]:
    """Answer `count` rows into `out`.

    Return the resident memory after 1000 rows and at the end, in MB, and the register of ids.
    """
    ids, stats = IdRegister(), BatchStats()
    early = 0.0
    options = BatchOptions(sampling={"max_tokens": 4, "temperature": 0})
    with (
        LLM("stand-in", ByteVocabulary(), OneTokenBackend()) as llm,
        JournaledOutput(out, {"model": "stand-in"}, resume=resume) as output,
    ):
        rows = output.skip_done(ids.watch(read_rows(lines(count))))
        for row, answer in run_rows(llm, rows, options, stats):
            output.write(to_line(answer), row.digest, failed=has_failed(answer))
            if stats.num_rows == 1000:
                early = resident_mb()
        assert stats.num_errors == 0
        assert output.num_done + stats.num_rows == count
        return early, resident_mb(), ids


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    count = parser.parse_args().rows
    before = resident_mb()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.jsonl"
        started = time.perf_counter()
        early, end, ids = write_all(out, count, resume=False)
        seconds = time.perf_counter() - started
        shared = ids.shared()
        _, resumed, _ = write_all(out, count, resume=True)
        written = sum(1 for _ in out.open("rb"))
    assert shared == (0, 0)
    assert written == count
    print(f"{count} rows in {seconds:.0f} s")
    print(
        f"resident memory: {before:.0f} MB before, {early:.0f} MB after 1000 rows, "
        f"{end:.0f} MB at the end, {resumed:.0f} MB after reading the journal again"
    )
    result = {
        "rows": count,
        "seconds": round(seconds, 1),
        "rss_mb": {
            "before": round(before),
            "after_1000": round(early),
            "end": round(end),
            "resumed": round(resumed),
        },
        "limit_mb": LIMIT_MB,
        "flat": max(end, resumed) < LIMIT_MB,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
