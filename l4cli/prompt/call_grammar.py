"""Grammars of answers that have to call a function, in the way the model's family does."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from l4cli.engine.channels import CHANNEL, CONSTRAIN, MESSAGE
from l4cli.engine.types import Constraint
from l4cli.errors import RequestError
from l4cli.prompt.call_arguments import (
    CODER,
    GLM,
    Around,
    as_json,
    as_python,
    fits_python,
    fits_tags,
    in_tags,
    parameters,
)
from l4cli.prompt.call_tags import TAGS

_ID = "{id}"
_BARE_NAME = re.compile(r"[\w.-]+", re.ASCII)


class _Format(NamedTuple):
    """What stands before, between and after calls, and around the arguments of one.

    In the head, {} is the function's name and {id} an id of nine letters and digits.

    between: None if an answer has one call only.
    is_list: whether all calls stand in one pair of tags, not each in its own.
    arguments: how they are written: as JSON, as Python's keywords, or each between tags.
    """

    begin: str
    head: str
    tail: str
    end: str
    between: str | None
    is_list: bool = False
    arguments: Around | str = "json"


def _json(key: str) -> tuple[str, str]:
    return f'{{"name": "{{}}", "{key}": ', "}"


_HERMES = _Format("<tool_call>\n", *_json("arguments"), "\n</tool_call>", "\n")
_CODER = _Format(
    "<tool_call>\n", "<function={}>\n", "</function>", "\n</tool_call>", "\n", arguments=CODER
)
_GLM = _Format("<tool_call>", "{}\n", "", "</tool_call>", "\n", arguments=GLM)
_MISTRAL = _Format("[TOOL_CALLS][", *_json("arguments"), "]", ", ", is_list=True)
_MISTRAL_11 = _Format("[TOOL_CALLS]", "{}[ARGS]", "", "", "")
_MISTRAL_IDS = _MISTRAL_11._replace(head="{}[CALL_ID]{id}[ARGS]")
_DEEPSEEK = _Format(
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>function<｜tool▁sep｜>{}\n```json\n",
    "\n```<｜tool▁call▁end｜>",
    "<｜tool▁calls▁end｜>",
    "\n",
    is_list=True,
)
_DEEPSEEK_31 = _DEEPSEEK._replace(
    head="<｜tool▁call▁begin｜>{}<｜tool▁sep｜>", tail="<｜tool▁call▁end｜>", between=""
)
_HARMONY = _Format(
    "", f"{CHANNEL}commentary to=functions.{{}} {CONSTRAIN}json{MESSAGE}", "", "", None
)
_LLAMA = _Format("", *_json("parameters"), "", None)
_PYTHON = _Format("[", "{}(", ")", "]", ", ", is_list=True, arguments="python")  # Llama 4's
_INSTEAD = {
    _CODER: _HERMES,
    _GLM: _HERMES,
    _MISTRAL_11: _MISTRAL,
    _MISTRAL_IDS: _MISTRAL,
    _PYTHON: _LLAMA,
}


def call_constraint(
    tools: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    template: str,
    special_tokens: Mapping[str, int],
) -> Constraint:
    """Answers that call one or more of the functions with these names.

    template: the source of the chat template, by which the family's format is known.
    special_tokens: the vocabulary's control tokens: some of the tags may be among them.
    """
    functions = [tool.get("function", tool) for tool in tools]
    wanted = [function for function in functions if function.get("name") in names]
    if missing := set(names) - {function["name"] for function in wanted}:
        raise RequestError(f"tool_choice names {min(missing)!r}, which is not among the tools")
    format = _format_of(template)
    if not all(_can_write(format, function) for function in wanted):
        format = _INSTEAD.get(format, _LLAMA)

    def lark(text: str) -> str:
        return _lark(text, special_tokens)

    rules = []
    for number, function in enumerate(wanted):
        name = function["name"]
        head, tail = (lark(part.replace("{}", _inner_json(name))) for part in format[1:3])
        rule, schema = f"arguments_{number}", parameters(function)
        rules.append(f"call_{number}: {head} {rule} {tail}")
        if isinstance(format.arguments, Around):
            rules += in_tags(rule, schema, format.arguments, lark)
        else:
            rules += (as_python if format.arguments == "python" else as_json)(rule, schema)
    begin, end = lark(format.begin), lark(format.end)
    calls = " | ".join(f"call_{number}" for number in range(len(wanted)))
    start = f"{begin} call {end}"
    if format.between is not None:
        between = lark(format.between)
        more = f"({between} call)* {end}" if format.is_list else f"{end} ({between} {start})*"
        start = f"{begin} call {more}"
    return Constraint("calls", "\n".join([f"start: {start}", f"call: {calls}", *rules]))


def _format_of(template: str) -> _Format:
    if CHANNEL in template:
        return _HARMONY
    if "<｜tool▁call▁begin｜>" in template:
        return _DEEPSEEK if "```json" in template else _DEEPSEEK_31
    if "<arg_key>" in template:
        return _GLM
    if "<tool_call>" in template:
        return _CODER if "<parameter=" in template else _HERMES
    if "[TOOL_CALLS]" in template:
        if "[CALL_ID]" in template:
            return _MISTRAL_IDS
        return _MISTRAL_11 if "[ARGS]" in template else _MISTRAL
    return _PYTHON if re.search(r"\[\w+\(\w+=", template) else _LLAMA


def _can_write(format: _Format, function: Mapping[str, Any]) -> bool:
    """Whether a function's name and arguments can stand in this format."""
    if '"' not in format.head and not _BARE_NAME.fullmatch(function["name"]):
        return False
    if format.arguments == "python":
        return fits_python(function)
    return format.arguments == "json" or fits_tags(function)


def _lark(text: str, special_tokens: Mapping[str, int]) -> str:
    """A text in Lark; the tags in it that are control tokens stand there by their ids."""
    tags = [tag for tag in (*TAGS, CHANNEL, CONSTRAIN, MESSAGE) if tag in special_tokens]
    pieces = re.split("|".join(f"({re.escape(part)})" for part in (*tags, _ID)), text)
    return " ".join(_piece(piece, special_tokens) for piece in pieces if piece)


def _piece(text: str, special_tokens: Mapping[str, int]) -> str:
    if text in special_tokens:
        return f"<[{special_tokens[text]}]>"
    return "/[a-zA-Z0-9]{9}/" if text == _ID else json.dumps(text, ensure_ascii=False)


def _inner_json(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)[1:-1]
