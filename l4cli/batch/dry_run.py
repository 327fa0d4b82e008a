"""--dry-run: measures the tokens that a file of rows needs; only the vocabulary is loaded."""

from __future__ import annotations

import statistics
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from l4cli.batch.requests import BatchOptions, RowRequests
from l4cli.batch.rows import BadRow, Row
from l4cli.engine.sequence import common_prefix
from l4cli.engine.sizing import Demand
from l4cli.errors import ContextOverflowError, L4Error
from l4cli.loading.llm import LLM
from l4cli.speeds import Speeds


@dataclass(slots=True)
class Report:
    """The token counts of all rows. A row counts as one prompt for each question or answer."""

    n_ctx: int
    num_rows: int = 0
    num_prompts: int = 0
    bad_lines: list[int] = field(default_factory=list)
    too_long_lines: list[int] = field(default_factory=list)
    num_shared_tokens: int = 0  # prompt tokens that are also a prefix of the previous prompt
    num_answer_tokens: int = 0  # the most that all answers together may have
    longest: int = 0  # the most tokens of one prompt with its answer
    reads_ahead: bool = False  # whether any document is restored or prefilled before its questions
    num_cells: int = 0  # tokens of all prompts and answers, without those shared
    most_cells: int = 0  # the largest share of one prompt and answer in num_cells
    lengths: array[int] = field(default_factory=lambda: array("Q"))  # of each prompt, in tokens

    @property
    def demand(self) -> Demand:
        """The rows' demand on a context, as in `sizing.demand_of`.

        If documents are read ahead, the largest request is left out of the average: its prefix is
        in the pool once, and is counted with the longest request.
        """
        is_more = self.reads_ahead and self.num_prompts > 1
        num_cells = self.num_cells - self.most_cells if is_more else self.num_cells
        own = -(-num_cells // max(1, self.num_prompts - is_more))
        return Demand(self.longest, own, self.num_prompts, pool=self.reads_ahead)

    def seconds(self, speeds: Speeds) -> float:
        """Return how long the run takes at those rates if every answer has its full length."""
        num_prefill_tokens = sum(self.lengths) - self.num_shared_tokens
        return speeds.seconds(num_prefill_tokens, self.num_answer_tokens)

    def as_json(self) -> dict[str, Any]:
        """Return the report for --json."""
        lengths: Sequence[int] = self.lengths or [0]
        return {
            "rows": self.num_rows,
            "prompts": self.num_prompts,
            "prompt_tokens": {
                "min": min(lengths),
                "median": statistics.median(lengths),
                "max": max(lengths),
                "total": sum(lengths),
                "shared_with_the_one_before": self.num_shared_tokens,
            },
            "answer_tokens_at_most": self.num_answer_tokens,
            "longest_prompt_and_answer": self.longest,
            "n_ctx": self.n_ctx,
            "bad_lines": self.bad_lines,
            "too_long_lines": self.too_long_lines,
        }


def measure(llm: LLM, rows: Iterable[Row | BadRow], options: BatchOptions) -> Report:
    """Encode every row and let the scheduler check whether it fits; nothing is decoded."""
    report = Report(llm.n_ctx)
    before: list[int] = []
    for row in rows:
        report.num_rows += 1
        if isinstance(row, BadRow):
            report.bad_lines.append(row.line)
            continue
        requests = RowRequests(llm, row, options)
        for index in range(row.num_answers):
            try:
                request = requests.request(index)
                llm.engine.add_request(request)
                llm.engine.abort(request.id)
            except ContextOverflowError:
                report.too_long_lines.append(row.line)
                break
            except L4Error:
                report.bad_lines.append(row.line)
                break
            if index == 0 and requests.asked:
                report.reads_ahead |= requests.asked.should_prefill
            prompt = list(request.prompt)
            max_tokens = request.params.max_tokens or llm.n_ctx - len(prompt)
            report.num_prompts += 1
            report.lengths.append(len(prompt))
            shared = common_prefix(before, prompt)
            report.num_shared_tokens += shared
            num_cells = len(prompt) + max_tokens - shared
            report.num_cells += num_cells
            report.most_cells = max(report.most_cells, num_cells)
            report.num_answer_tokens += max_tokens
            report.longest = max(report.longest, len(prompt) + max_tokens)
            before = prompt
    return report
