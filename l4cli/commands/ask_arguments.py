"""Which arguments of `l4 ask` are documents, which are questions, and what stdin is."""

from __future__ import annotations

import glob
import itertools
import os
import re
import shlex
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from l4cli import console
from l4cli.errors import InputError, UsageError
from l4cli.paths import STDIN, expanded


@dataclass(frozen=True, slots=True)
class Arguments:
    """The documents and the questions; stdin is one of them, or is not read."""

    documents: tuple[str, ...]
    questions: tuple[str, ...]
    stdin: Literal["document", "question", "unread"] = "unread"


def sort_out(
    words: Sequence[str], questions: Sequence[str], *, is_piped: bool, asks_anyway: bool = False
) -> Arguments:
    """Decide by the arguments what is a document, what a question, and what stdin is.

    An argument that is plainly no file is a question. Without a document, what is piped in is the
    document; without a question, it is the question.

    words: the arguments.
    questions: those given as options.
    is_piped: whether there may be something on stdin.
    asks_anyway: whether there is a question beside these, of a template.

    Raises UsageError if that leaves no document, if an argument could be either, or if several look
    like the words of one question.
    """
    if not (questions or asks_anyway):
        _refuse_unquoted(words)
    asked = tuple(word for word in words if _is_question(word))
    documents = tuple(word for word in words if word not in asked)
    asked = (*asked, *questions)
    if STDIN in documents or not is_piped:
        if not documents:
            raise UsageError("no document: name a file or a folder beside the question")
        return Arguments(documents, asked, "document" if STDIN in documents else "unread")
    has_question = bool(asked) or asks_anyway
    if documents and has_question:
        return Arguments(documents, asked)
    if has_question:
        return Arguments((STDIN,), asked, "document")
    if not documents:
        raise UsageError("is stdin the document or the question? give the other as an argument")
    if not any(map(_is_there, documents)):
        raise UsageError(
            f"{documents[0]}: no such file; if it is the question about the text from stdin, "
            f"write -q {documents[0]!r}"
        )
    return Arguments(documents, (), "question")


def read_questions(file: Path) -> list[str]:
    """Read questions from a file, one on each line. Raises InputError if there are none."""
    from l4cli.documents.text import read_text

    lines = [line.strip() for line in read_text(file).splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{file}: the file has no questions")
    return lines


def read_piped_question() -> str:
    """Read one question from stdin, and say so. Raises UsageError if there is none."""
    from l4cli.documents.text import MAX_BYTES, check_size, decode

    assert sys.stdin is not None
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    check_size(data, "stdin")
    question = decode(data, "stdin").strip()
    if not question:
        raise UsageError("no question: give one with -q, or a file of questions with --questions")
    num_lines = len(question.splitlines())
    lines = f" of {num_lines} lines; --questions FILE asks one a line" if num_lines > 1 else ""
    console.note(f"(stdin is the question{lines})")
    return question


def tell_about_stdin(arguments: Arguments, words: Sequence[str]) -> None:
    """Say that stdin is the document without `-`, or that what is piped in is not read."""
    if arguments.stdin == "document" and STDIN not in words:
        console.note("(stdin is the document)")
    elif arguments.stdin == "unread" and _has_waiting():
        console.warn("stdin is not read: document and question are arguments; - reads it, too")


def named_or_piped(documents: Sequence[str] | None) -> Sequence[str]:
    """Return the documents that were named, or stdin. Raises UsageError if there is neither."""
    if documents:
        return documents
    if not is_piped():
        raise UsageError("no document: name a file or a folder, or pipe one in")
    console.note("(stdin is the document)")
    return [STDIN]


def is_piped() -> bool:
    """Whether stdin is a pipe, a socket or a file, not a terminal or /dev/null."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def _has_waiting() -> bool:
    """Whether something was piped in; a pipe whose writer is slow counts as empty."""
    try:
        import array
        import fcntl
        import termios

        num_bytes = array.array("i", [0])
        fcntl.ioctl(sys.stdin.fileno(), termios.FIONREAD, num_bytes)
        return is_piped() and num_bytes[0] > 0
    except (ImportError, AttributeError, OSError, ValueError):
        return False


def _is_question(text: str) -> bool:
    """Whether an argument is words or ends with `?`, and names no file, alone or as a pattern."""
    has_words = bool(re.search(r"\S\s+\S", text))
    if text.endswith("?"):
        looks_like_one = has_words or not re.search(r"[/\\*\[]", text)
    else:
        looks_like_one = has_words and not re.search(r"[/\\*\[]|\.\w{1,5}$", text)
    return looks_like_one and not _is_there(text)


def _refuse_unquoted(words: Sequence[str]) -> None:
    """Raise UsageError if arguments in a row are the words of a question without quotes."""
    for is_word, group in itertools.groupby(words, _is_one_word):
        run = list(group)
        is_long = len(run) > 2 or (len(run) == 2 and run[1].endswith("?"))
        if is_word and is_long and not run[0].endswith("?"):
            question = " ".join(run)
            can_be_double = not re.search(r'["$`\\!]', question)
            quoted = f'"{question}"' if can_be_double else shlex.quote(question)
            files = "".join(f"{shlex.quote(word)} " for word in words if word not in run)
            raise UsageError(f"put the question in quotes: l4 ask {files}{quoted}")


def _is_one_word(text: str) -> bool:
    """Whether an argument is one word that names no file and does not look like a file's name."""
    return not re.search(r"[\s/\\*\[]|\.\w{1,5}$", text) and text != STDIN and not _is_there(text)


def _is_there(text: str) -> bool:
    """Whether an argument names a file, a folder, or a pattern that matches some."""
    path = str(expanded(text))
    return os.path.lexists(path) or bool(glob.glob(path))  # noqa: PTH207
