"""The tags that models put around their calls, and what stands in them.

<tool_call>{"name": …, "arguments": …}</tool_call>            Hermes, Qwen
<tool_call><function=f><parameter=x>…</function></tool_call>  Qwen Coder
<tool_call>f <arg_key>x</arg_key><arg_value>…</tool_call>     GLM
[TOOL_CALLS][{…}, {…}]    [TOOL_CALLS]f[ARGS]{…}              Mistral, before and since v11
<function=f>{…}</function>                                    Llama 3.1
<|python_tag|>{…}    <|python_start|>[f(x=1)]<|python_end|>   Llama 3 and 4
<｜tool▁call▁begin｜>…<｜tool▁sep｜>f …                         DeepSeek
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from l4cli.engine.thoughts import FAMILIES

# In a vocabulary some of these are control tokens, which have no text in an answer.
TAGS = (
    "<|python_start|>", "<|python_end|>", "<|python_tag|>", "<tool_call>", "</tool_call>",
    "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<|tool_call|>", "<|/tool_call|>", "<think>", "</think>",
    "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁sep｜>",
    "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>",
    "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>",
)  # fmt: skip
BEGIN = re.compile(
    r"(?P<llama4><\|python_start\|>)"
    r"|(?P<llama3><\|python_tag\|>)"
    r"|(?P<hermes><tool_call>)"
    r"|(?P<phi><\|tool_call\|>)"
    r"|<function=(?P<name>[\w.-]+)(?P<function>>)"
    r"|(?P<mistral>\[TOOL_CALLS\])"
    r"|(?P<deepseek>(?:<｜tool▁calls▁begin｜>)?<｜tool▁call▁begin｜>)"
)
ENDS: Mapping[str, re.Pattern[str] | None] = {
    "llama4": re.compile(r"<\|python_end\|>"),
    "llama3": None,  # the end of the answer
    "hermes": re.compile(r"</tool_call>"),
    "phi": re.compile(r"<\|/tool_call\|>"),
    "function": re.compile(r"</function>"),
    "mistral": re.compile(r"(?=\[TOOL_CALLS\])"),
    "deepseek": re.compile(r"<｜tool▁call▁end｜>\s*(?:<｜tool▁calls▁end｜>)?"),
}
_ANY = re.compile("")
_CALL = re.compile(
    r"\s*(?:[\[{]|<function=|[\w.-]+\s*(?:\(|<arg_key>|</tool_call>|<\|/tool_call\|>|$))"
)
LIKE_A_CALL: Mapping[str, re.Pattern[str]] = {  # what stands behind the tag
    "llama4": _CALL,
    "llama3": _CALL,
    "hermes": _CALL,
    "phi": _CALL,
    "function": _ANY,
    "mistral": re.compile(r"\s*(?:[\[{]|[\w.-]+\s*(?:\[CALL_ID\]|\[ARGS\]|\{))"),
    "deepseek": _ANY,
}
_BEGINS, _ENDS = ("|".join(map(re.escape, tags)) for tags in zip(*FAMILIES, strict=True))
OPEN_THOUGHT = re.compile(rf"\s*(?:{_BEGINS})")
THOUGHT_ENDS = re.compile(rf"(?:{_ENDS})\s*")
THOUGHT = re.compile(rf"\s*(?:{_BEGINS}).*?(?:{_ENDS})\s*", re.DOTALL)


def tagged_text(
    token_ids: Sequence[int], piece: Callable[[int], bytes], special_tokens: Mapping[str, int]
) -> str:
    """An answer's text with the tags around its calls, which as control tokens have no text."""
    tags = {special_tokens[tag]: tag.encode() for tag in TAGS if tag in special_tokens}
    text = b"".join(tags.get(token) or piece(token) for token in token_ids)
    return text.decode("utf-8", errors="replace")
