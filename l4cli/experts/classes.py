"""The class of a token, by its text. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Iterable

import numpy as np
import numpy.typing as npt

# In the order in which they are shown.
CLASSES = ("word", "number", "punctuation", "code", "space", "bytes", "control")
_CODE = frozenset("{}[]()<>=+*/\\|&^%$#@~`_;:")
_INDEX = {name: index for index, name in enumerate(CLASSES)}


def class_of(piece: bytes) -> str:
    """Return the class of a token that is no control token.

    piece: the bytes it stands for.

    word: has a letter, of any script. number: has a digit. code: a symbol that programs and data
    are full of. punctuation: any other sign. space: nothing else. bytes: a part of a character.
    """
    try:
        text = piece.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes"
    kinds = {unicodedata.category(char)[0] for char in text}
    if "L" in kinds:
        return "word"
    if "N" in kinds:
        return "number"
    signs = [char for char in text if not char.isspace()]
    if not signs:
        return "space"
    return "code" if any(char in _CODE for char in signs) else "punctuation"


class Classes:
    """The classes of a vocabulary's tokens, each found when it is first needed.

    piece: the bytes of a token. control: the control tokens.
    """

    def __init__(self, piece: Callable[[int], bytes], control: Collection[int]) -> None:
        self._piece, self._control = piece, frozenset(control)
        self._known: dict[int, int] = {}

    def of(self, tokens: Iterable[int]) -> npt.NDArray[np.intp]:
        """Return the index in CLASSES of each token."""
        return np.array([self._of(token) for token in tokens], np.intp)

    def _of(self, token: int) -> int:
        found = self._known.get(token)
        if found is None:
            piece = self._piece(token)
            is_control = token in self._control or not piece
            found = _INDEX["control" if is_control else class_of(piece)]
            self._known[token] = found
        return found
