"""Questions with choices, or with one answer, read from a JSON Lines file.

The fields are named as in the data sets that lm-evaluation-harness reads:

    question, query, ctx, context or prompt   what stands before the answer, used as it is
    choices or endings                        a list of texts, or {"text": [...], "label": [...]}
    gold, answer, label, answerKey or target  the right choice: its index from 0, its label, or its
                                              text; without choices, the text that is to follow
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l4cli.errors import InputError
from l4cli.eval.texts import json_lines

QUESTIONS = ("question", "query", "ctx", "context", "prompt")
CHOICES = ("choices", "endings")
ANSWERS = ("gold", "answer", "label", "answerKey", "target")
MOST_CHOICES = 200
DELIMITER = " "  # between question and answer, as in the harness


@dataclass(frozen=True, slots=True)
class Question:
    """One question. `where` is its line, for messages.

    choices: the answers to choose from; () for an exact match.
    gold: the index of the right choice; 0 for an exact match.
    answer: the text that has to follow, for an exact match; "" with choices.
    """

    where: str
    question: str
    choices: tuple[str, ...]
    gold: int
    answer: str = ""

    @property
    def continuations(self) -> list[str]:
        """What may stand behind the question, with the blank before it."""
        return [DELIMITER + text for text in self.choices or (self.answer,)]


def read_task(path: Path) -> list[Question]:
    """Return the questions of a file. InputError names the line that is wrong, or an empty file."""
    found = [question_of(value, where) for value, where in json_lines(path)]
    if not found:
        raise InputError(f"{path}: it has no questions")
    return found


def question_of(value: Mapping[str, Any], where: str) -> Question:
    """Return the question in a JSON object. InputError says what is wrong with it."""
    question = _one(value, QUESTIONS, where)
    if not isinstance(question, str):
        raise InputError(f"{where}: the question must be a text")
    given = [name for name in CHOICES if value.get(name) is not None]
    answer = _one(value, ANSWERS, where)
    if not given:
        if not isinstance(answer, str) or not answer:
            raise InputError(f"{where}: without choices, the answer must be a text")
        return Question(where, question, (), 0, answer)
    choices, labels = _choices(value[given[0]], where)
    return Question(where, question, choices, _gold(answer, choices, labels, where))


def _one(value: Mapping[str, Any], names: tuple[str, ...], where: str) -> Any:
    given = [name for name in names if value.get(name) is not None]
    if not given:
        raise InputError(f"{where}: it lacks {', '.join(names[:-1])} or {names[-1]}")
    return value[given[0]]


def _choices(value: Any, where: str) -> tuple[tuple[str, ...], list[str]]:
    labels: Any = None
    if isinstance(value, dict):
        value, labels = value.get("text"), value.get("label")
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise InputError(f"{where}: choices must be a list of texts, none of them empty")
    if len(value) < 2:
        raise InputError(f"{where}: it has {len(value)} choice, but a question needs at least two")
    if len(value) > MOST_CHOICES:
        raise InputError(f"{where}: it has {len(value)} choices, at most {MOST_CHOICES} are read")
    letters = list(string.ascii_uppercase[: len(value)])
    if labels is None:
        return tuple(value), letters
    if not isinstance(labels, list) or len(labels) != len(value):
        raise InputError(f"{where}: choices has {len(value)} texts, and other labels than those")
    return tuple(value), [str(label) for label in labels]


def _gold(answer: Any, choices: tuple[str, ...], labels: list[str], where: str) -> int:
    if isinstance(answer, str):
        if answer in labels:
            return labels.index(answer)
        if answer in choices:
            return choices.index(answer)
        if answer.isascii() and answer.isdigit() and len(answer) < 10:
            answer = int(answer)
    if type(answer) is int and 0 <= answer < len(choices):
        return answer
    raise InputError(
        f"{where}: the answer {answer!r} is no index from 0 to {len(choices) - 1}, no label and no "
        "text of the choices"
    )
