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

# In a vocabulary some of these are control tokens, which have no text in an answer.
TAGS = (
    "<|python_start|>", "<|python_end|>", "<|python_tag|>", "<tool_call>", "</tool_call>",
    "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<|tool_call|>", "<|/tool_call|>", "<think>", "</think>",
    "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁sep｜>",
    "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>",
    "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>",
)  # fmt: skip
BLOCKS = re.compile(
    r"<\|python_start\|>(?P<llama4>.*?)(?:<\|python_end\|>|$)"
    r"|<\|python_tag\|>(?P<llama3>.*)$"
    r"|<tool_call>(?P<hermes>.*?)(?:</tool_call>|$)"
    r"|<\|tool_call\|>(?P<phi>.*?)(?:<\|/tool_call\|>|$)"
    r"|<function=(?P<name>[\w.-]+)>(?P<function>(?:(?!<function=).)*?)</function>"
    r"|\[TOOL_CALLS\](?P<mistral>.*?)(?=\[TOOL_CALLS\]|$)"
    r"|(?:<｜tool▁calls▁begin｜>)?<｜tool▁call▁begin｜>(?P<deepseek>.*?)"
    r"(?:<｜tool▁call▁end｜>\s*(?:<｜tool▁calls▁end｜>)?|$)",
    re.DOTALL,
)
FENCES = re.compile(
    r"```(?:json|tool_call|tool_calls|tool_code|python)?[ \t]*\n(.*?)\n?```", re.DOTALL
)
THOUGHT = re.compile(r"\s*(?:<think>)?.*</think>\s*", re.DOTALL)
OPEN_THOUGHT = re.compile(r"\s*<think>")


def tagged_text(
    token_ids: Sequence[int], piece: Callable[[int], bytes], special_tokens: Mapping[str, int]
) -> str:
    """An answer's text with the tags around its calls, which as control tokens have no text."""
    tags = {special_tokens[tag]: tag.encode() for tag in TAGS if tag in special_tokens}
    text = b"".join(tags.get(token) or piece(token) for token in token_ids)
    return text.decode("utf-8", errors="replace")
