"""Reads the request bodies of /v1/chat/completions and /v1/completions.

A body has OpenAI's fields, and may also have top_k, min_p, repetition_penalty, ignore_eos, grammar
and regex. A field that would change the answer, and is not supported, is an error. The functions
raise InputError, with a message that begins with the field's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from l4cli.engine.types import NUM_SEEDS
from l4cli.errors import InputError
from l4cli.openai import fields, wishes

Kind = Literal["chat", "completions"]
Prompt = str | tuple[int, ...]

MOST_PROMPTS = 2048  # of one body, as OpenAI has it
# These fields do not change an answer: they concern OpenAI's accounting, caches and servers.
_PASSED_OVER = {
    "model",
    "prediction",
    "prompt_cache_retention",
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
}
_SHARED = fields.SAMPLING | {"n", "max_completion_tokens", "stream", "stream_options"}
# Each of these is accepted only with a value that asks for nothing.
_ONLY: Mapping[str, tuple[Any, ...]] = {
    "suffix": ("",),
    "best_of": (1,),
    "modalities": (["text"],),
    "audio": (),
    "web_search_options": (),
}
_FIELDS = {
    "chat": frozenset(_SHARED | _PASSED_OVER)
    | {"messages", "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"}
    | {"modalities", "audio", "web_search_options", "reasoning_effort", "verbosity"},
    "completions": frozenset(_SHARED | _PASSED_OVER)
    | {"prompt", "echo", "suffix", "best_of", "parallel_tool_calls"},
}

_ELSEWHERE: Mapping[Kind, Mapping[str, str]] = {
    "chat": {"prompt": "give messages, or ask /v1/completions"},
    "completions": {"messages": "give a prompt, or ask /v1/chat/completions"},
}


@dataclass(frozen=True, slots=True)
class Body:
    """What a request body asks for.

    messages: a conversation to answer; None in a body of /v1/completions.
    prompts: texts, or token ids, to continue; empty in a body of /v1/chat/completions.
    tools: the functions that the model may call; None for none.
    must_call: the names of those one of which it must call; empty if it need not.
    most_calls: how many calls an answer may have; None for no limit.
    n: how many answers to generate for each prompt or conversation.
    sampling: the fields of SamplingParams that the body sets.
    echo: whether each answer begins with its prompt.
    is_empty: whether nothing is to be generated (max_tokens: 0), as when a prompt is only scored.
    stream: whether the answer is to come in pieces.
    includes_usage: whether the last piece of a stream counts the tokens.
    thinks: whether the model is to think first, or how hard; None leaves that to its chat template.
    verbosity: how much it is to say; None for the usual.
    begun: the beginning of the answer, which the model continues.
    """

    messages: tuple[Mapping[str, Any], ...] | None = None
    prompts: tuple[Prompt, ...] = ()
    tools: tuple[Mapping[str, Any], ...] | None = None
    must_call: tuple[str, ...] = ()
    most_calls: int | None = None
    n: int = 1
    sampling: Mapping[str, Any] = field(default_factory=dict)
    echo: bool = False
    is_empty: bool = False
    stream: bool = False
    includes_usage: bool = False
    thinks: bool | str | None = None
    verbosity: str | None = None
    begun: str = ""


def read(kind: Kind, body: Mapping[str, Any], *, lenient: bool = False) -> Body:
    """Return what a body asks for.

    kind: the endpoint that the body is for.
    lenient: ignore unknown fields.
    """
    if not lenient:
        fields.refuse_unknown(body, _FIELDS[kind], _ELSEWHERE[kind])
    body = _renamed(body)
    most = fields.flag("parallel_tool_calls", body, True)
    shared: dict[str, Any] = {
        "n": fields.choices(body),
        "stream": fields.flag("stream", body, False),
        "includes_usage": _includes_usage(body),
    }
    if kind == "chat":
        return Body(
            messages=fields.messages(body.get("messages")),
            tools=fields.tools(body),
            must_call=fields.must_call(body),
            most_calls=None if most else 1,
            thinks=wishes.effort("reasoning_effort", body.get("reasoning_effort")),
            verbosity=wishes.verbosity("verbosity", body.get("verbosity")),
            sampling=fields.sampling(body),
            **shared,
        )
    echo = fields.flag("echo", body, False)
    is_empty = echo and body.get("max_tokens") == 0
    if is_empty:
        body["max_tokens"] = 1
    sampling = fields.sampling(body)
    if echo and "logprobs" in sampling and sampling.get("max_tokens") == 1 and not is_empty:
        # Who scores a prompt so takes the last logprob for that of the token behind the prompt, and
        # drops it (lm-evaluation-harness does). So there is one, even if the model ends there.
        sampling["ignore_eos"] = True
    return Body(
        prompts=_prompts(body.get("prompt")),
        echo=echo,
        is_empty=is_empty,
        sampling=sampling,
        **shared,
    )


def _renamed(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body with l4's names and ranges for what OpenAI writes in several ways."""
    for name, harmless in _ONLY.items():
        if body.get(name) not in (None, *harmless):
            raise InputError(f"{name} is not supported")
    renamed = {name: _integer(value) for name, value in body.items()}
    if isinstance(seed := renamed.get("seed"), int) and not isinstance(seed, bool):
        renamed["seed"] = seed % NUM_SEEDS  # OpenAI's seeds have 64 bits and a sign
    if renamed.get("stop") == "":
        del renamed["stop"]
    if not renamed.get("logprobs") and renamed.get("top_logprobs") == 0:
        del renamed["top_logprobs"]
    if (functions := renamed.pop("functions", None)) and "tools" not in renamed:
        renamed["tools"] = functions
    if (choice := renamed.pop("function_call", None)) is not None:
        renamed.setdefault("tool_choice", choice)
    newer = renamed.pop("max_completion_tokens", None)
    if newer is not None:
        if renamed.get("max_tokens") not in (None, newer):
            raise InputError("max_tokens and max_completion_tokens differ")
        fields.sampling({"max_tokens": newer})
        renamed["max_tokens"] = newer
    return renamed


def _integer(value: Any) -> Any:
    """Return a whole number written with a decimal point, such as 5.0, as an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _includes_usage(body: Mapping[str, Any]) -> bool:
    options = body.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, Mapping):
        raise InputError(f"stream_options must be an object, not {fields.json_type(options)}")
    return fields.flag("include_usage", options, False)


def _prompts(given: Any) -> tuple[Prompt, ...]:
    """Return the prompts of a completions body: a text, token ids, or a list of such."""
    if isinstance(given, str):
        return (given,)
    if not isinstance(given, list):
        raise InputError(f"prompt must be a string, not {fields.json_type(given)}")
    if not given:
        raise InputError("prompt is empty")
    if all(_is_token(item) for item in given):
        return (tuple(given),)
    if len(given) > MOST_PROMPTS:
        raise InputError(f"prompt has {len(given):,} texts, and may have {MOST_PROMPTS:,}")
    return tuple(_prompt(index, item) for index, item in enumerate(given))


def _prompt(index: int, item: Any) -> Prompt:
    if isinstance(item, str):
        return item
    if isinstance(item, list) and item and all(map(_is_token, item)):
        return tuple(item)
    raise InputError(f"prompt[{index}] must be a text or a list of token ids")


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
