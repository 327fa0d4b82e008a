"""Paths as users type them in a chat: with blanks, in quotes, or with backslashes as in a shell."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass

from l4cli.errors import UsageError
from l4cli.paths import expanded

_WORD = re.compile(r"""(?:"(?:\\.|[^"\\])*"?|'[^']*'?|\\.?|[^\s"'\\])+""")
_HAS_ESCAPES = os.name != "nt"  # a backslash divides folders on Windows


def typed_path(text: str) -> str:
    """Return the path in a line; without quotes it may have blanks.

    A file whose name is just the line is meant before anything else.
    """
    if os.path.lexists(expanded(text)):
        return text
    try:
        words = _words(text)
    except ValueError:
        if text.startswith(('"', "'")):
            raise UsageError("a quotation mark is not closed") from None
        return text
    return words[0] if len(words) == 1 else text


def typed_paths(text: str) -> list[str]:
    """Return the paths and patterns in a line; a line may also be one path with blanks."""
    if os.path.lexists(expanded(text)):
        return [text]
    try:
        return _words(text)
    except ValueError:
        raise UsageError("a quotation mark is not closed") from None


@dataclass(frozen=True, slots=True)
class OpenPath:
    """A path that is being typed.

    typed: the text, from its quotation mark on.
    quote: the quotation mark, a backslash if blanks are escaped, or "".
    is_one_of_many: whether blanks end it, unless they are quoted.
    """

    typed: str
    quote: str
    is_one_of_many: bool = False

    @property
    def path(self) -> str:
        """The path so far, without quotes and backslashes."""
        if self.quote == "\\":
            return re.sub(r"\\(.?)", r"\1", self.typed)
        if self.quote == '"':
            return re.sub(r'\\(["\\])', r"\1", self.typed[1:])
        return self.typed[len(self.quote) :]

    def typed_as(self, path: str, *, is_folder: bool) -> str:
        """Return the text to put in place of what is typed, for `path` to be meant.

        After a folder the quotation stays open, so that a file in it can follow.
        """
        if self.quote == "\\":
            return re.sub(r"""([\s"'\\])""", r"\\\1", path)
        is_odd = self.is_one_of_many and re.search(r"""[\s"'\\]""", path)
        quote = '"' if is_odd or "'" == self.quote in path else self.quote
        inner = re.sub(r'(["\\])', r"\\\1", path) if quote == '"' and _HAS_ESCAPES else path
        return f"{quote}{inner}{'' if is_folder else quote}"


def open_path(text: str) -> OpenPath:
    """Return the path that is being typed in a line that is all one path."""
    return _open(text, is_one_of_many=False)


def last_open_path(text: str) -> OpenPath:
    """Return the path that is being typed in a line that may have others before it."""
    words = list(_WORD.finditer(text))
    is_open = words and words[-1].end() == len(text)
    return _open(words[-1][0] if is_open else "", is_one_of_many=True)


def _open(text: str, *, is_one_of_many: bool) -> OpenPath:
    if text.startswith(('"', "'")):
        return OpenPath(text, text[0], is_one_of_many)
    return OpenPath(text, "\\" if _HAS_ESCAPES and "\\" in text else "", is_one_of_many)


def _words(text: str) -> list[str]:
    words = shlex.shlex(text, posix=True)
    words.whitespace_split, words.commenters = True, ""
    words.escape = words.escape if _HAS_ESCAPES else ""
    return list(words)
