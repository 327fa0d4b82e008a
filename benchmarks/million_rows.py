"""A million rows through `l4 run`'s own parts, and what memory they take beside the model.

    python benchmarks/million_rows.py [--rows 1000000]

The model is a stand-in without weights, so that what is measured is l4's share: reading, the
reorder window, the journal, the register of ids, the engine's bookkeeping. Rows are written to a
file with its journal, then the finished file is opened again with --resume. The resident memory
after the first thousand rows, before any row, and at the end is read from /proc. Prints one JSON
line last.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # `convert` is the package

from l4cli.batch.ids import IdRegister  # noqa: E402
from l4cli.batch.journal import JournaledOutput  # noqa: E402
from l4cli.batch.outputs import has_failed, to_line  # noqa: E402
from l4cli.batch.rows import read_rows  # noqa: E402
from l4cli.batch.runner import BatchOptions, run_rows  # noqa: E402
from l4cli.batch.stats import BatchStats  # noqa: E402
from l4cli.engine.types import BatchItem, Sampled, SamplingParams  # noqa: E402
from l4cli.loading.llm import LLM  # noqa: E402

LIMIT_MB = 300


class OneTokenBackend:
    """Answers every prompt with one token; counts cells only as far as the engine asks."""

    n_ctx = n_ctx_seq = 65536
    n_batch, n_seq_max, unified = 4096, 64, True
    min_prefill = None

    def __init__(self) -> None:
        self._lengths = [0] * self.n_seq_max
        self._prompt: list[bool] = []

    def decode(self, items: Sequence[BatchItem]) -> None:
        self._prompt = [len(item.tokens) > 1 for item in items if item.wants_logits]
        for item in items:
            self._lengths[item.seq_id] = item.pos + len(item.tokens)

    def sampler(self, _params: SamplingParams, _prompt: Sequence[int]) -> OneTokenBackend._Sampler:
        return self._Sampler(self)

    class _Sampler:
        def __init__(self, backend: OneTokenBackend) -> None:
            self._backend = backend

        def sample(self, output: int) -> Sampled:
            return Sampled(65 if self._backend._prompt[output] else 257)

        def close(self) -> None:
            pass

    def piece(self, token: int) -> bytes:
        return bytes([token])

    def is_eog(self, token: int) -> bool:
        return token == 257

    def num_computed(self, seq_id: int) -> int:
        return self._lengths[seq_id]

    def exact_prefix(self, _seq_id: int, length: int) -> int:
        return length

    def fork(self, _src: int, dst: int, length: int) -> None:
        self._lengths[dst] = length

    def truncate(self, seq_id: int, length: int) -> None:
        self._lengths[seq_id] = length

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        pass


class ByteVocabulary:
    """Bytes for tokens, and the shortest of templates."""

    special_tokens = {"<|bos|>": 256, "<|eot|>": 257}  # noqa: RUF012
    bos_token: int | None = 256
    eos_token: int | None = 257
    adds_bos = True
    chat_template: str | None = "{% for m in messages %}{{ m.content }}\n{% endfor %}"

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        return list(text.encode())

    def token_text(self, token: int | None) -> str:
        return ""


def lines(count: int) -> Iterator[bytes]:
    for number in range(count):
        yield b'{"id": "row-%d", "prompt": "%d: a question of some length"}\n' % (number, number)


def resident_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    raise SystemExit("needs /proc/self/status")


def write_all(out: Path, count: int, *, resume: bool) -> tuple[float, float, IdRegister]:
    """Resident memory after 1000 rows and at the end."""
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
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
    print(f"{count} rows in {seconds:.0f} s: {before:.0f} MB before, {early:.0f} after 1000 rows, ")
    print(f"{end:.0f} at the end, {resumed:.0f} after reading the journal of all rows again")
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
