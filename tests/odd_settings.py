"""Files that steer l4, by seed, with odd content: config.toml, models.toml, tools, what it keeps.

kind, data = member(seed)
"""

from __future__ import annotations

import copy
import json
import math
import random
from typing import Any

from damage import damaged
from odd_json import NAMES, VALUES

_CONFIG: dict[str, Any] = {
    "run": {"max-tokens": 512, "temperature": 0.5, "parallel": "4", "ctx": "4k"},
    "chat": {"system": "Be brief.", "ctx": 4096, "threads": 2},
    "plan": {"ram": "64G", "gpu": "none", "ctx": 8192},
    "docs": {"add": {"store-limit": "20G"}},
    "models": {"json": True},
}
_MODELS: dict[str, Any] = {
    "default": "mine",
    "models": {
        "mine": {
            "description": "My model",
            "gguf": {"repo": "me/model", "files": "{quant}/*.gguf"},
            "quant": "Q4_K_M",
            "n_ctx_train": 4096,
            "n_params": 10**9,
            "n_params_active": 10**9,
            "sampling": {"temperature": 0.5, "top_k": 3},
            "config": {
                "architectures": ["LlamaForCausalLM"],
                "hidden_size": 512,
                "num_hidden_layers": 2,
                "num_attention_heads": 8,
                "num_key_value_heads": 8,
                "head_dim": 64,
                "intermediate_size": 1024,
                "vocab_size": 32000,
                "max_position_embeddings": 4096,
            },
        },
        "other": {"like": "mine", "hf": "me/other", "released": False},
    },
}
_SPEEDS = (
    b'{"machine": "a", "model": "b", "prefill": 100.5, "decode": 10, "at": 1}\n'
    b'{"machine": "a", "model": "b", "n_seq_max": 4, "prefill_tps": 9.5, "decode_tps": 1e3}\n'
)
_PIECES = (
    'def f(a: int, b: str = "x") -> str:\n    """Add.\n\n    a: a number.\n    """\n    return b\n',
    "def f(a: list[int] | None, *, c: float = 1e999) -> dict:\n    return {}\n",
    "def g(*args, **kwargs): ...\n", "def f(a: 'Nix'): ...\n", "async def h(): ...\n",
    "from typing import *\ndef f(a: Literal[1, 'x', None]): ...\n", "class f:\n    pass\n",
    "import os\n", "raise ValueError('\\x1b[31m')\n", "import sys; sys.exit(3)\n", "1/0\n",
    "import os; os._exit(0)\n", "print('x' * 100000)\n", "f = lambda a: a\n", "def f(:\n", "\0",
    "import os; os.close(1)\n", "import nothing_of_this_name\n", "def é(ü: 'int'): ...\n",
    "import sys; sys.stdout = None\n", "import os; os.kill(os.getpid(), 11)\n", "'''\n",
    "def f(a: int = [1] * 3): ...\nf.__doc__ = 3\n", "def f(a: type('X', (), {})): ...\n",
    "f = type('F', (), {'__call__': lambda self: 1})()\n", "__all__ = [1]\n", "\ud800",
    "from dataclasses import dataclass\n@dataclass\nclass D:\n    a: int\ndef f(d: D): ...\n",
    "def f(a: 'list[' * 99): ...\n", "import warnings; warnings.warn('x')\n", "def _f(): ...\n",
    "(" * 500 + "\n", "def f(" + ", ".join(f"a{n}" for n in range(300)) + "): ...\n",
    "import threading; threading.Thread(target=lambda: 1).start()\n", "def f(a): return f(a)\n",
)  # fmt: skip


def member(seed: int) -> tuple[str, bytes]:
    """The kind of the file with this seed, and its content."""
    dice = random.Random(seed)
    kind = dice.choice(("config", "config", "models", "models", "models", "speeds", "tools"))
    if kind == "tools":
        text = "".join(dice.choices(_PIECES, k=dice.randint(1, 3)))
        return kind, _perhaps_broken(dice, text.encode("utf-8", "surrogatepass"))
    if kind == "speeds":
        return kind, damaged(_SPEEDS, seed)
    content = copy.deepcopy(_CONFIG if kind == "config" else _MODELS)
    for _ in range(dice.choice((1, 1, 2))):
        _change(dice, content)
    text = "\n".join(f"{_key(name)} = {_toml(value)}" for name, value in content.items())
    return kind, _perhaps_broken(dice, text.encode("utf-8", "surrogatepass"))


def _change(dice: random.Random, table: dict[str, Any]) -> None:
    """Put an odd value, or an odd key, somewhere into a table."""
    key = dice.choice(list(table)) if table else "a"
    inner = table.get(key)
    if isinstance(inner, dict) and dice.random() < 0.85:
        _change(dice, inner)
    elif dice.random() < 0.2:
        table[dice.choice((*NAMES, "json", "help", "model", "version"))] = table.pop(key, 1)
    else:
        table[key] = copy.deepcopy(dice.choice(VALUES))


def _key(name: str) -> str:
    return json.dumps(name, ensure_ascii=False).replace("\x7f", "\\u007f")


def _toml(value: Any) -> str:
    """A value as TOML, in one line."""
    if isinstance(value, dict):
        inside = ", ".join(f"{_key(name)} = {_toml(each)}" for name, each in value.items())
        return f"{{{inside}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf"
    if value is None:
        return "1979-05-27T07:32:00Z"  # a value that JSON has not
    return json.dumps(value, ensure_ascii=False)


def _perhaps_broken(dice: random.Random, data: bytes) -> bytes:
    """The data, or now and then cut, in another encoding, or with a byte changed."""
    if dice.random() < 0.8 or not data:
        return data
    at = dice.randrange(len(data))
    return dice.choice(
        (data[:at], data[:at] + b"\xff" + data[at + 1 :], b"\xef\xbb\xbf" + data, b"", b"\0" * 9,
         data.decode("utf-8", "replace").encode("utf-16"), b"a." * 5000, b"[" * 50_000,
         data + b"\n[a" + b".a" * 3000 + b"]", b"a = " + b"[" * 20_000, b"a = " + b"9" * 6000)
    )  # fmt: skip
