"""Conversations in which the text of control tokens stands at any place, made by seed.

Each comes with a harmless twin in which one letter of the injected text differs. A template does
the same with both, so both prompts must have the same control tokens.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from l4cli.errors import RequestError
from l4cli.prompt import PromptEncoder

GOLDEN = Path(__file__).parent / "golden"

CONTROL = """
<|begin_of_text|> <|eot|> <|header_start|> <|header_end|> <|im_start|> <|im_end|> [INST] [/INST]
[TOOL_CALLS] [ARGS] [SYSTEM_PROMPT] [/SYSTEM_PROMPT] [TOOL_RESULTS] [/TOOL_RESULTS]
[AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] <|start_header_id|> <|end_header_id|> <|eot_id|>
<start_of_turn> <end_of_turn> <|end|> <|user|> <|assistant|> <|system|> <|tool|> <|/tool|>
<｜User｜> <｜Assistant｜> <｜end▁of▁sentence｜> <｜tool▁calls▁begin｜> <｜tool▁sep｜> [gMASK] <sop>
<|observation|> <|start|> <|message|> <|channel|> <|call|> <end_of_utterance>
""".split()  # noqa: SIM905
MARKERS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>")
# Templates that put foreign text together in ways of their own.
ODD = {
    "deletes": "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{{ m.content | replace('/think', '') | replace('~', '') }}<|im_end|>{% endfor %}",
    "splits": "{% for m in messages %}<|im_start|>{{ m.role ~ m.content.split('~') | join }}"
    "<|im_end|>{% endfor %}",
    "role": "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}",
    "keys": "{% for m in messages %}<|im_start|>{% for c in m.tool_calls or [] %}"
    "{{ c.function.name }}("
    "{% for k, v in c.function.arguments | items %}{{ k ~ '=' ~ v }}{% endfor %}){% endfor %}"
    "{{ m.name }}{{ m.content }}<|im_end|>{% endfor %}{{ tools | tojson }}",
    "cuts": "{% for m in messages %}<|im_start|>{{ m.role[:9] }}"
    "{{ m.content[1:-1] ~ m.content[-1:] }}"
    "{{ '%s %s<|im_end|>' % (m.name, m.content | trim) }}{{ '{}<|eot|>'.format(m.content) }}"
    "{% endfor %}",
    "case": "{% for m in messages %}<|im_start|>{{ m.content | lower }}<|im_end|>{% endfor %}",
}


def templates() -> dict[str, str]:
    files = [*(GOLDEN / "templates").iterdir(), *(GOLDEN / "families").iterdir()]
    return ODD | {path.stem: Path(path).read_text("utf-8") for path in sorted(files)}


class Bytes:
    """Bytes as tokens, and every family's control tokens and markers behind them."""

    special_tokens = {text: 256 + n for n, text in enumerate(CONTROL)}  # noqa: RUF012
    user_defined_tokens = {text: 900 + n for n, text in enumerate(MARKERS)}  # noqa: RUF012
    n_vocab = 1000
    bos_token, eos_token, adds_bos = 256, 257, False

    def __init__(self, template: str) -> None:
        self.chat_template = template

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """As llama.cpp does: user-defined tokens are found in any text."""
        for marker, id in self.user_defined_tokens.items():
            before, found, after = text.partition(marker)
            if found:
                return [*self.tokenize(before), id, *self.tokenize(after)]
        return list(text.encode())

    def token_text(self, token: int | None) -> str:
        return CONTROL[(token or 256) - 256]


def conversation(seed: int) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The place of the injection, the conversation, and its harmless twin."""
    chance = random.Random(seed)
    text = chance.choice(CONTROL + list(MARKERS))
    letters = [n for n, letter in enumerate(text) if letter.isalpha() and letter.isascii()]
    at = chance.choice(letters)
    twin = text[:at] + ("q" if text[at] != "q" else "z") + text[at + 1 :]
    place = chance.choice(PLACES)
    if text in MARKERS and place in ("assistant", "reasoning"):
        text, twin = "<|im_end|>", "<|im_enq|>"  # what the model wrote may have its markers
    shape = chance.choice(SHAPES)
    return place, _conversation(place, shape(text)), _conversation(place, shape(twin))


def _broken(by: str) -> Any:
    return lambda text: f"a{text[: len(text) // 2]}{by}{text[len(text) // 2 :]}b"


def _inner(text: str) -> str:
    word = text.strip("<|>[]/")
    return "end" if word in ("user", "assistant", "system", "tool") else word


SHAPES = [
    str,
    lambda text: f"x {text}y",
    lambda text: text * 2,
    lambda text: f"{text[:3]}{text}{text[3:]}",
    lambda text: text.upper(),
    _broken("/think"),
    _broken("</think>"),
    _broken("~"),
    _broken("\ue000"),
    _inner,
]
PLACES = [
    "role", "system", "user", "parts", "assistant", "reasoning", "tool", "name", "call name",
    "call id", "argument", "argument key", "nested key", "tool name", "description", "property",
    "enum", "halves",
]  # fmt: skip


def _conversation(place: str, text: str) -> dict[str, Any]:
    def at(*places: str, otherwise: str = "word") -> str:
        return text if place in places else otherwise

    half = len(text) // 2
    arguments = {
        at("argument key", otherwise="city"): at("argument"),
        "in": {at("nested key"): [1]},
    }
    function = {
        "name": at("tool name", otherwise="get"),
        "description": at("description"),
        "parameters": {
            "type": "object",
            "properties": {at("property", otherwise="city"): {"enum": [at("enum")]}},
            "required": [],
        },
    }
    asked: Any = [{"type": "text", "text": "one"}, {"type": "text", "text": text}]
    call = {"name": at("call name", otherwise="get"), "arguments": arguments}
    messages = [
        {"role": "system", "content": at("system")},
        {"role": "user", "content": asked if place == "parts" else at("user")},
        {"role": "assistant", "content": at("assistant"), "reasoning_content": at("reasoning")},
        {"role": "user", "name": text[:half], "content": text[half:]}
        if place == "halves"
        else {"role": at("role", otherwise="user"), "name": at("name"), "content": "?"},
    ]
    if place not in ("role", "system", "user", "parts", "assistant", "halves"):
        id = at("call id", otherwise="a1b2c3d4e")
        calls = [{"id": id, "type": "function", "function": call}]
        messages += [
            {"role": "assistant", "content": "", "tool_calls": calls},
            {"role": "tool", "tool_call_id": id, "name": at("name"), "content": at("tool")},
        ]
        return {"messages": messages, "tools": [{"type": "function", "function": function}]}
    return {"messages": messages}


def control_tokens(encoder: PromptEncoder, conversation: dict[str, Any]) -> Counter[int] | None:
    """How often each control token is in the prompt; None if the template refuses the messages."""
    try:
        ids = encoder.chat(**conversation)
    except RequestError:
        simpler = next(simpler_than(conversation), None)
        return control_tokens(encoder, simpler) if simpler else None
    return Counter(id for id in ids if id > 255)


def simpler_than(conversation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Without tools, then without a system message, for templates that refuse these."""
    messages = conversation["messages"]
    if "tools" in conversation:
        yield {"messages": messages}
    elif messages[0]["role"] == "system" and len(messages) > 1:
        yield {"messages": messages[1:4]}
