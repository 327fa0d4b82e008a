"""The prompt at the beginning of an answer of /v1/completions (`echo`), with its logprobs.

lm-evaluation-harness scores multiple choice in this way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from l4cli.engine.types import Completion, Request, TokenLogprob
from l4cli.openai import answers
from l4cli.openai.bodies import Body
from l4cli.serve.served import Served


@dataclass(frozen=True, slots=True)
class Echo:
    """A prompt's text and tokens.

    first: the first token, which nothing precedes: it has no logprob.
    scored: the logprobs of the tokens after the first; None if the body asks for none.
    """

    text: str
    first: bytes
    scored: Sequence[TokenLogprob] | None

    def before(self, text: str) -> str:
        """The prompt's text, and then an answer's."""
        return self.text + text

    def logprobs(self, generated: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        """The lists for the prompt's tokens and those generated; None if none are known."""
        if self.scored is None:
            return None
        first = self.first.decode("utf-8", errors="replace")
        lists = answers.legacy_logprobs([*self.scored, *generated], start=len(first))
        beginning: Mapping[str, Any] = {
            "tokens": first,
            "token_logprobs": None,
            "top_logprobs": None,
            "text_offset": 0,
        }
        return {name: [beginning[name], *values] for name, values in lists.items()}


async def echoes(served: Served, body: Body, requests: Sequence[Request]) -> list[Echo]:
    """Return the echo of each request's prompt; several answers to one prompt share it.

    ApiError if a prompt does not fit.
    """
    found: list[Echo] = []
    for number, request in enumerate(requests):
        found.append(found[-1] if number % body.n else await _echo(served, request))
    return found


async def _echo(served: Served, request: Request) -> Echo:
    piece = served.llm.engine.backend.piece
    prompt = request.prompt
    text = b"".join(map(piece, prompt)).decode("utf-8", errors="replace")
    num_top, scored = request.params.logprobs, None
    if num_top is not None:
        scored = await served.asking.score(prompt, num_top)
    return Echo(text, piece(prompt[0]), scored)


def without_answer(completion: Completion) -> Completion:
    """The completion of a request for which nothing was to be generated."""
    return replace(
        completion,
        text="",
        token_ids=(),
        logprobs=(),
        num_completion_tokens=0,
        finish_reason="length",
    )
