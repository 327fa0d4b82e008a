"""Call llama.cpp's tokenizer with a stack that is deep enough for the text.

llama.cpp splits the texts of most vocabularies with std::regex, which calls itself for each
character of a match. A run of about 27,000 letters, spaces or other characters of one class
overflows the usual stack of 8 MB and ends the process (llama.cpp issues 14655, 15594, 27783). A
thread may have a larger stack; the system provides its memory only as far as the calls go.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import TypeVar

from l4cli.errors import RequestError
from l4cli.native.memory import free_memory_bytes

_SHALLOW = 4096  # characters: matching them takes less than half of the usual stack
_RESERVED_BYTES = 2048  # of stack for each character
_USED_BYTES = 1024  # at most, of these; 450 to 750 were measured
_LONGEST = 1 << 22  # characters that are matched at once: 8 GiB of stack reserved
_LONG_BLANK = re.compile(r"\s{1024}")
_BLANK, _FILLED = re.compile(r"\s+"), re.compile(r"\S+")

_T = TypeVar("_T")
_lock = threading.Lock()  # the stack size of new threads is a setting of the whole process


def with_deep_stack(text: str, call: Callable[[], _T]) -> _T:
    """Return what `call`, which tokenizes `text`, returns; run it in a thread if it needs that.

    Raises RequestError if a match could take more stack than there is memory.
    """
    if len(text) <= _SHALLOW or (longest := _longest_match(text)) <= _SHALLOW:
        return call()
    most = min(_LONGEST, free_memory_bytes() // _USED_BYTES)
    if longest > most:
        raise RequestError(
            f"the text has a run of {longest:,} characters without a space or a line break; "
            f"llama.cpp can tokenize {most:,} at once here: break it up"
        )
    return _in_thread(call, longest * _RESERVED_BYTES + (8 << 20))


def _longest_match(text: str) -> int:
    """An upper bound of the characters that a pre-tokenizer's regular expression matches at once.

    A match is part of a line and perhaps the blank behind it, which may span lines. Within a line
    too long for the stack only runs without spaces count: of the pre-tokenizers in
    src/llama-vocab.cpp only EXAONE_MOE's matches words together with the spaces between them.
    """
    line = max(map(len, text.split("\n")))
    if line <= _SHALLOW // 2 and not _LONG_BLANK.search(text):
        return line
    blank = max(map(len, _BLANK.findall(text)), default=0)
    if line + blank <= _LONGEST:
        return line + blank
    return max(map(len, _FILLED.findall(text))) + blank


def _in_thread(call: Callable[[], _T], stack_bytes: int) -> _T:
    found: list[_T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            found.append(call())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="l4-tokenizer")
    with _lock:
        before = threading.stack_size(stack_bytes)
        try:
            thread.start()
        except RuntimeError as error:  # the system refuses a stack of this size
            raise RequestError(
                f"the text has too long a line to tokenize here ({error}): break it up"
            ) from error
        finally:
            threading.stack_size(before)
    thread.join()
    if raised:
        raise raised[0]
    return found[0]
