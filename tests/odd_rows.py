"""Inputs of `l4 run` by seed: rows of every form, whole and broken, in every format of a file."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_TEXTS = (
    *("hello", "", " ", "Grüße 你好 🙂", "a\u2028b\u0085c", "\u202eabc", "\x1b[31mred", "\x00"),
    *('say "hi"', "a,b;c\td", "<|header_start|>system<|header_end|>", "{{ 1/0 }}", "=1+1", "\\n"),
    *("a\nb", "\r\n", "\ufeff", "[", "{", "null", "\ud83d", "%s %(a)s", "a\u0301" * 40, "x" * 3000),
)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 3.5, 2**31, 2**63, 2**64, 10**400, 1e300, "", "1", "x"),
    *([], {}, [None], [[]], {"a": {}}, [{"role": "user"}], {"type": "json_object"}),
)
_NAMES = (
    *("max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop", "n", "logprobs"),
    *("top_logprobs", "logit_bias", "tools", "tool_choice", "messages", "prompt", "document"),
    *("questions", "ignore_eos", "frequency_penalty", "stream", "unknown"),
)
_TOOL = {
    "type": "function",
    "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {}}}},
}


@dataclass(frozen=True)
class Input:
    """A file of rows.

    options: what `l4 run` needs to read it.
    ids: the id of each row's answer, as text; None where breaking the row may have changed it.
    """

    data: bytes
    options: tuple[str, ...]
    ids: list[str | None]


def make(seed: int, num_rows: int) -> Input:
    dice = random.Random(seed)
    form = dice.choice((_lines, _lines, _lines, _array, _csv, _text))
    return form(dice, num_rows)


def _lines(dice: random.Random, num_rows: int) -> Input:
    """JSON Lines. The first row is whole, so that the file is recognised as what it is."""
    lines = [b'{"prompt": "first"}']
    ids: list[str | None] = ["1"]
    for number in range(2, num_rows + 1):
        line, id = _row(dice, number)
        data = json.dumps(line, ensure_ascii=dice.random() < 0.5).encode("utf-8", "surrogatepass")
        is_broken = dice.random() < 0.3
        data = _broken(dice, data) if is_broken else data
        lines.append(data)
        ids.append(None if "custom_id" in line and (is_broken or not _is_utf8(data)) else id)
    return Input(dice.choice((b"\n", b"\r\n")).join(lines) + b"\n", (), ids)


def _array(dice: random.Random, num_rows: int) -> Input:
    made = [_row(dice, number) for number in range(1, num_rows + 1)]
    made[0] = ({"prompt": "first"}, "1")
    text = json.dumps([row for row, _ in made], indent=dice.choice((None, 1, 4)))
    encoding = dice.choice(("utf-8", "utf-8-sig", "utf-16", "utf-16-be"))
    return Input(text.encode(encoding), (), [id for _, id in made])


def _csv(dice: random.Random, num_rows: int) -> Input:
    file = io.StringIO(newline="")
    delimiter = dice.choice(",;\t")
    writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerow(["prompt", "max_tokens", "temperature"])
    ids: list[str | None] = []
    for _ in range(num_rows):
        ids.append(str(file.getvalue().count("\n") + 1))
        text = dice.choice(_TEXTS).replace("\r\n", "\n")
        cells = [text, dice.choice(("", "1", "2", "x", "[" * 2000)), dice.choice(("", "0", "1e9"))]
        writer.writerow(cells[: dice.choice((3, 3, 3, 2))])
    return Input(file.getvalue().encode("utf-8", "surrogatepass"), ("--csv",), ids)


def _text(dice: random.Random, num_rows: int) -> Input:
    lines = [b"first"]
    while len(lines) < num_rows:
        line = dice.choice(_TEXTS).encode("utf-8", "surrogatepass")
        line = (line if dice.random() < 0.7 else _broken(dice, line or b"x")).replace(b"\n", b" ")
        if line.strip():
            lines.append(line)
    ids: list[str | None] = [str(number) for number in range(1, len(lines) + 1)]
    return Input(b"\n".join(lines), ("--text",), ids)


def _row(dice: random.Random, number: int) -> tuple[dict[str, Any], str]:
    """A row that is often right, and the id of its answer."""
    form: Callable[[random.Random], dict[str, Any]] = dice.choice((_prompt, _messages, _document))
    row = form(dice)
    for _ in range(dice.choice((0, 0, 1, 2))):
        row[dice.choice(_NAMES)] = dice.choice(_VALUES)
    if "document" in row or dice.random() < 0.7:
        return row, str(number)
    row.setdefault("messages", [{"role": "user", "content": row.pop("prompt", "hi")}])
    url = dice.choice(("/v1/chat/completions", "/v1/chat/completions", "/v1/embeddings", 3))
    envelope = {"custom_id": f"c{number}", "method": "POST", "url": url, "body": row}
    return envelope, f"c{number}"


def _prompt(dice: random.Random) -> dict[str, Any]:
    return {"prompt": dice.choice(_TEXTS)}


def _messages(dice: random.Random) -> dict[str, Any]:
    roles = ("system", "user", "assistant", "tool", "developer", "wizard")
    texts = [dice.choice(_TEXTS) for _ in range(dice.randint(1, 4))]
    contents = [
        dice.choice((text, text, [{"type": "text", "text": text}], None, 3, [text]))
        for text in texts
    ]
    found = [{"role": dice.choice(roles), "content": content} for content in contents]
    return {"messages": found, **dice.choice(({}, {"tools": [_TOOL]}, {"tools": [{}]}))}


def _document(dice: random.Random) -> dict[str, Any]:
    names = ("notes.md", "notes.md", "missing.md", ".", "", "/dev/null", "a\x00b", "\ud83d")
    questions = (["What?"], ["a", "b"], [], "q", [1])
    return {"document": dice.choice(names), "questions": dice.choice(questions)}


def _is_utf8(data: bytes) -> bool:
    return data.decode("utf-8", "replace").encode() == data


def _broken(dice: random.Random, data: bytes) -> bytes:
    """`data` cut, or with bytes changed; neither blank nor over two lines."""
    changed = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        changed[dice.randrange(len(changed))] = dice.choice(b'\xff\x00\xc3"{}[],:\\x')
    kept = changed[: dice.randint(1, len(changed))] if dice.random() < 0.3 else changed
    return bytes(kept) if kept.strip() else b"x"
