"""Makes the requests of one API call, and turns their outputs into what its answers say."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from l4cli.engine.completion import Collector, without_thought
from l4cli.engine.thoughts import Thoughts
from l4cli.engine.types import Completion, Request, StepOutput, TokenLogprob
from l4cli.loading.llm import LLM
from l4cli.openai.bodies import Body, Prompt
from l4cli.openai.fields import tool_name
from l4cli.openai.said import Said, said_in
from l4cli.openai.wishes import granted
from l4cli.prompt.call_tags import TAGS
from l4cli.serve.splitting import Piece, Splitter


class Delta(NamedTuple):
    """New text of an answer, and the logprobs of the tokens that came with it.

    choice: the answer's number among those of the call, from 0.
    """

    choice: int
    text: str = ""
    reasoning: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()


class Ended(NamedTuple):
    """The end of an answer.

    rest: what of its text and reasoning no Delta had.
    num_thought_tokens: about how many of its tokens were thought, with the tags around that.
    """

    choice: int
    completion: Completion
    said: Said
    rest: Delta
    num_thought_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """The requests of one API call.

    id: the call's own id, without a prefix.
    requests: one for each answer, in the order of the answers' indices.
    tools: the functions that answers may call; None for none.
    most_calls: how many calls an answer may have; None for no limit.
    is_raw: whether prompts are continued as they stand, so that answers are texts and no more.
    thinks: what the model was told about thinking first: to, not to, or how hard; None for nothing.
    """

    id: str
    requests: tuple[Request, ...]
    tools: tuple[Mapping[str, Any], ...] | None = None
    most_calls: int | None = None
    is_raw: bool = False
    thinks: bool | str | None = None


def call_for(
    llm: LLM, body: Body, default_max_tokens: int, *, thinking: str = "", lenient: bool = False
) -> Call:
    """Encode what a body asks for. Raises L4Error if that is not possible.

    default_max_tokens: the most tokens of an answer if the body has no limit; cut to what is left
        of the context.
    thinking: the field that says whether the model is to think first, or how hard.
    lenient: let the model think as it likes if it cannot do as that field says.
    """
    thinks = granted(llm, body.thinks, body.verbosity, thinking, lenient=lenient)
    call_id = secrets.token_hex(12)
    prompts: Sequence[Prompt | Sequence[Mapping[str, Any]]] = body.prompts
    if body.messages is not None:
        prompts = [body.messages]
    requests: list[Request] = []
    for prompt in prompts:
        first = llm.request(
            prompt,
            tools=body.tools,
            must_call=body.must_call,
            raw=body.messages is None,
            default_max_tokens=default_max_tokens,
            thinks=thinks,
            begun=body.begun,
            **body.sampling,
        )
        llm.check(first.params)  # compiles its constraint
        for number in range(body.n):
            request_id = f"{call_id}/{len(requests)}"
            requests.append(replace(first, id=request_id, params=first.params.varied(number)))
    return Call(
        call_id,
        tuple(requests),
        tools=body.tools,
        most_calls=body.most_calls,
        is_raw=body.messages is None,
        thinks=thinks,
    )


class Generation:
    """The answers of one call, while they are generated."""

    def __init__(self, llm: LLM, call: Call) -> None:
        self._llm, self._call = llm, call
        self._collector = Collector()
        self._index = {request.id: index for index, request in enumerate(call.requests)}
        self._params = {request.id: request.params for request in call.requests}
        special = llm.vocabulary.special_tokens
        names = [name for tool in call.tools or () if (name := tool_name(tool))]
        self._call_tags = {special[tag] for tag in TAGS if tag in special} if names else set()
        encoder = llm.encoder_for(call.thinks)
        self._thoughts = None if call.is_raw else encoder.thoughts
        in_channels = not call.is_raw and encoder.thinking == "channels"
        self._splitters = [
            Splitter(self._thoughts, in_channels=in_channels, functions=names)
            for _ in call.requests
        ]
        self._reasoning = [""] * len(call.requests)
        self._num_thought = [0] * len(call.requests)  # tokens
        for request in call.requests:
            self._collector.begin(request)

    def feed(self, output: StepOutput) -> list[Delta | Ended]:
        """Return what an output adds to its answer: nothing, a Delta, or both and the end."""
        index = self._index[output.request_id]
        events: list[Delta | Ended] = []
        piece = self._piece(index, output)
        if piece.text or piece.reasoning or output.logprobs:
            self._reasoning[index] += piece.reasoning
            events.append(Delta(index, piece.text, piece.reasoning, output.logprobs))
        for completion in self._collector.feed([output]):
            events.append(self._ended(index, completion))
        return events

    def _piece(self, index: int, output: StepOutput) -> Piece:
        if self._call.is_raw:
            return Piece(output.text)
        has_tag = bool(self._call_tags) and not self._call_tags.isdisjoint(output.token_ids)
        splitter = self._splitters[index]
        was_thinking = splitter.is_thinking
        piece = splitter.feed(output.text, has_call_tag=has_tag)
        if was_thinking or splitter.is_thinking:
            self._num_thought[index] += len(output.token_ids)
        return piece

    def _ended(self, index: int, completion: Completion) -> Ended:
        if self._call.is_raw:
            return Ended(index, completion, Said(completion.text), Delta(index))
        constraint = self._params[completion.request_id].constraint
        completion = without_thought(completion, constraint)
        if self._thoughts:
            completion = _apart(completion, self._thoughts)
        call = self._call
        said = said_in(completion, call.tools, self._llm.tagged_text, call.most_calls)
        rest = self._splitters[index].finish(said.text, self._reasoning[index], said.reasoning)
        last = Delta(index, rest.text, rest.reasoning)
        return Ended(index, completion, said, last, self._num_thought[index])


def _apart(completion: Completion, thoughts: Thoughts) -> Completion:
    """The completion with its thought apart from its text."""
    if completion.reasoning or completion.said:
        return completion
    if found := thoughts.split(completion.text):
        return replace(completion, reasoning=found[0], text=found[1])
    if thoughts.is_open(completion.text):
        thought, said = thoughts.parts(completion.text)
        return replace(completion, reasoning=thought or said.strip(), text="")
    return completion
