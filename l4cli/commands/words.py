"""Words that people type for commands, out of habit from other tools, and what they mean. Pure.

A word with one harmless meaning does what is meant. For any other, an error names the command.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

ROOT = "l4"
_ONE_ANSWER = "for one answer, use `l4 chat -p PROMPT`; for a file of prompts, `l4 run FILE`"
_DEFAULT = ("`l4 config set model {}` chooses the default model", "NAME")
_PULL = ("`l4 pull {}` fetches a model", "NAME")
_RM = ("`l4 rm {}` removes a model from the caches", "NAME")
_INFO = ("`l4 info {}` describes a model", "NAME")
_ALIAS = ("`l4 models alias {}` gives a model a name", "NAME MODEL")
_FIND = "https://huggingface.co/models?library=gguf lists models, `l4 pull hf.co/ORG/NAME` gets one"
# By group, or for any group under "": a word, and the commands that it may mean.
_MEANT: dict[str, dict[str, tuple[str, ...]]] = {
    "": {
        "ls": ("models", "list", "show"),
        "list": ("models", "show"),
        "show": ("info", "text"),
        "cat": ("show", "text"),
        "view": ("show", "text"),
        "info": ("show",),
        "get": ("show",),
        "find": ("search",),
        "download": ("pull",),
        "remove": ("rm", "unset"),
        "delete": ("rm", "unset"),
        "del": ("rm", "unset"),
        "rm": ("unset",),
    },
    ROOT: {
        "doc": ("docs",),
        "model": ("models",),
        "session": ("sessions",),
        "settings": ("config",),
        "template": ("templates",),
        "uninstall": ("rm",),
        "install": ("pull",),
    },
    "templates": {"add": ("edit",), "create": ("edit",), "new": ("edit",)},
}
# The same for words that are answered by a line: what it says, with the arguments for {}, and what
# stands for them if there are none.
_NAMED: dict[str, dict[str, str | tuple[str, str]]] = {
    "": {
        "create": "`l4 convert` makes a GGUF file from a checkpoint",
        "export": "`l4 sessions export SESSION` writes a session to a file",
        "generate": _ONE_ANSWER,
        "login": "l4 takes the token that `hf auth login` stores, or $HF_TOKEN",
        "prompt": _ONE_ANSWER,
        "ps": "no model stays loaded after a command; `l4 models` lists those on disk",
        "stop": "no model stays loaded after a command",
        "version": "`l4 --version` shows the version",
    },
    ROOT: {
        "alias": _ALIAS,
        "default": _DEFAULT,
        "edit": "`l4 config edit` opens the settings",
        "get": ("`l4 config get {}` prints a setting", "KEY"),
        "init": "no setting is needed; `l4 config edit` opens them",
        "search": _FIND,
        "server": "`l4 serve` answers other programs",
        "set": ("`l4 config set {}` sets a default", "KEY VALUE"),
        "unset": ("`l4 config unset {}` removes a default", "KEY"),
        "use": _DEFAULT,
    },
    "config": {
        "add": ("`l4 config set {}` sets a default", "KEY VALUE"),
        "default": _DEFAULT,
        "init": "`l4 config edit` begins config.toml",
        "reset": ("`l4 config unset {}` removes a default", "KEY"),
        "use": _DEFAULT,
    },
    "docs": {
        "ask": ("`l4 ask {}` answers questions about documents", "DOC QUESTION"),
        "clean": "`l4 docs prune` frees space: give --limit SIZE, or --all",
        "clear": "`l4 docs prune --all` removes everything",
        "path": "`l4 doctor` shows the cache folder, which has them",
        "search": ("`l4 ask DOC {}` answers questions about documents", "QUESTION"),
    },
    "models": {
        "add": _ALIAS,
        "default": _DEFAULT,
        "del": _RM,
        "delete": _RM,
        "download": _PULL,
        "find": _FIND,
        "get": _PULL,
        "info": _INFO,
        "install": _PULL,
        "path": "`l4 models --json` has the files of each model",
        "pull": _PULL,
        "remove": _RM,
        "rename": _ALIAS,
        "rm": _RM,
        "search": _FIND,
        "set": _DEFAULT,
        "set-default": _DEFAULT,
        "show": _INFO,
        "use": _DEFAULT,
    },
    "sessions": {
        "clear": ("`l4 sessions rm {}` removes sessions", "NAME..."),
        "continue": ("`l4 chat --session {}` continues a session", "NAME"),
        "load": ("`l4 chat --session {}` continues a session", "NAME"),
        "new": ("`l4 chat --session {}` begins a session", "NAME"),
        "open": ("`l4 chat --session {}` continues a session", "NAME"),
        "path": "`l4 doctor` shows the state folder, which has them in its folder `sessions`",
        "rename": "/save NAME in the chat names its session: `l4 chat --session OLD` opens it",
        "resume": ("`l4 chat --session {}` continues a session", "NAME"),
    },
    "templates": {
        "copy": "a template is the file NAME.toml in the folder that `l4 templates path` prints",
        "rename": "a template is the file NAME.toml in the folder that `l4 templates path` prints",
        "run": ("`l4 chat -t {}` asks with a template", "NAME"),
        "set": ("`l4 templates edit {}` opens a template", "NAME"),
        "use": ("`l4 chat -t {}` asks with a template", "NAME"),
    },
}


def meant(group: str, word: str) -> Sequence[str]:
    """The commands that a word may mean in a group; the first one that the group has is meant."""
    if word in _NAMED.get(group, ()):
        return ()
    return _MEANT.get(group, {}).get(word) or _MEANT[""].get(word, ())


def advice(group: str, word: str, rest: Sequence[str]) -> str:
    """The line that names what to type instead of a word and its arguments; "" if none does."""
    said = _NAMED.get(group, {}).get(word) or _NAMED[""].get(word, "")
    if isinstance(said, str):
        return said
    text, without = said
    return text.format(shlex.join(rest) or without)
