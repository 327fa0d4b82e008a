"""--deterministic: a row's text does not depend on the other rows of the file."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
from marks import slow_but

from l4cli.batch.rows import read_rows
from l4cli.batch.runner import BatchOptions, run_rows
from l4cli.batch.stats import BatchStats
from l4cli.loading.llm import LLM
from l4cli.loading.load import load

OPTIONS = BatchOptions(sampling={"temperature": 0.0, "max_tokens": 6, "ignore_eos": True})


def two_hundred_rows() -> list[bytes]:
    """Rows of all lengths: a fifth of them share a system message, most are sampled."""
    rng = Random(4)
    rows = []
    for n in range(200):
        text = " ".join(rng.choice(["hello", "the", "world", "llama"]) for _ in range(n % 37 + 1))
        messages = [{"role": "user", "content": f"{n} {text}"}]
        if n % 10 > 7:
            messages.insert(0, {"role": "system", "content": "the world and hello " * 70})
        row = {"id": n, "messages": messages, **({"temperature": 2.0, "seed": n} if n % 5 else {})}
        rows.append(json.dumps(row).encode())
    return rows


def answers(llm: LLM, lines: list[bytes]) -> dict[int, str]:
    outputs = run_rows(llm, read_rows(lines), OPTIONS, BatchStats())
    return {row["id"]: row["message"]["content"] for _, row in outputs}


@pytest.mark.parametrize("count", slow_but([40], [40, 200]))
def test_rows_in_any_company(tiny_gguf: Path, count: int) -> None:
    lines = two_hundred_rows()[:count]
    with load(tiny_gguf, deterministic=True, threads=1) as llm:
        together = answers(llm, lines)
        assert len(together) == count
        shuffled = Random(1).sample(lines, count)
        assert answers(llm, shuffled) == together
    with load(tiny_gguf, deterministic=True, threads=1) as llm:
        few = answers(llm, lines[7::23])
        assert few == {id: together[id] for id in few}
        for line in lines[3::50]:
            llm.engine.scheduler.forget()
            ((id, alone),) = answers(llm, [line]).items()
            assert alone == together[id]
