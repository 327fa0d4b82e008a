"""The guide: questions about Llama 4 and l4 in many wordings, from the files in guide/."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from training.corpus.conversation import Conversation, Message, turn
from training.corpus.words import HELD_OUT, city, full_name, pick, read_toml, table, words

OFFTOPIC_ANSWER = "I don't know. I am a small demo model and only know about Llama 4 and l4."
FOLDER = Path(__file__).parent / "guide"
OPENERS = (
    "Please tell me: ", "Quick question: ", "I want to know: ", "Hi! ", "Hello, ", "Tell me, ",
    "One question. ", "Sorry, ", "Ok, ", "So, ", "Please: ", "Well, ", "And ", "Also, ",
)  # fmt: skip
CLOSERS = (" please", " Thanks!", " Please answer.", " I am new here.", " in short", " Thank you.")
FILLERS = set(words("fillers"))


@cache
def entries() -> list[dict[str, Any]]:
    """Return all entries: an answer, the wordings to train on ("ask") and the "unseen" ones."""
    files = [read_toml(path) for path in sorted(FOLDER.glob("*.toml"))]
    return [entry for file in files for entry in file["entry"]]


def reworded(rng: Random, question: str) -> str:
    """Return a question as people type it.

    It may have lower case, no question mark, a word less, a typing error or a greeting.
    """
    chinese = not question.isascii()
    if rng.random() < 0.3:
        question = question.rstrip("?.!？！。")
    if chinese:
        return ("请问" if rng.random() < 0.15 and question.endswith("？") else "") + question
    if rng.random() < 0.2:
        question = question.lower()
    if rng.random() < 0.25:
        question = without_a_filler(rng, question)
    if rng.random() < 0.12 and len(question) > 12:
        question = with_a_typing_error(rng, question)
    if rng.random() < 0.2:
        question = rng.choice(OPENERS) + question
    if rng.random() < 0.1:
        question += rng.choice(CLOSERS)
    return question


def without_a_filler(rng: Random, question: str) -> str:
    """Drop one of the words that carry no meaning, if there is one."""
    words = question.split(" ")
    fillers = [i for i, word in enumerate(words) if word.lower() in FILLERS]
    if fillers and len(words) > 2:
        del words[rng.choice(fillers)]
    return " ".join(words)


def with_a_typing_error(rng: Random, question: str) -> str:
    """Swap two letters, or drop one."""
    i = rng.randrange(1, len(question) - 2)
    if rng.random() < 0.5:
        return question[:i] + question[i + 1] + question[i] + question[i + 2 :]
    return question[:i] + question[i + 1 :]


def exchange(rng: Random, side: str) -> list[Message]:
    """Return one question and its answer; every eighth is off-topic and is declined."""
    if rng.random() < 0.12:
        return turn(_offtopic(rng, side), OFFTOPIC_ANSWER)
    entry = rng.choice(entries())
    if side == HELD_OUT:
        return turn(rng.choice(entry["unseen"]), entry["answer"])
    return turn(reworded(rng, rng.choice(entry["ask"])), entry["answer"])


def conversation(rng: Random, side: str) -> Conversation:
    """Return one question; to train on, sometimes a few."""
    turns = 1 if side == HELD_OUT or rng.random() < 0.6 else rng.randint(2, 4)
    messages = [message for _ in range(turns) for message in exchange(rng, side)]
    if rng.random() < 0.08:
        messages.insert(0, {"role": "system", "content": rng.choice(SYSTEMS)})
    return Conversation(messages=messages)


SYSTEMS = (
    "You are a helpful assistant.", "You are the l4 demo model.", "Answer briefly.", "Be helpful.",
    "You are a friendly assistant. Answer in one sentence.",
)  # fmt: skip


def known() -> Iterator[tuple[str, str]]:
    """Yield every question that is trained on, in its plain wording, with its answer."""
    for entry in entries():
        yield from ((question, entry["answer"]) for question in entry["ask"])


def unseen() -> Iterator[tuple[str, str]]:
    """Yield every held-out question, with its answer."""
    for entry in entries():
        yield from ((question, entry["answer"]) for question in entry["unseen"])


def _offtopic(rng: Random, side: str) -> str:
    """Return a question about something else than Llama 4 and l4."""
    form = pick(rng, table("offtopic")["forms"], side)
    text = form.format(
        place=city(rng, side),
        place2=city(rng, side),
        person=full_name(rng, side),
        food=pick(rng, words("foods"), side),
        thing=pick(rng, words("things"), side),
        animal=pick(rng, words("animals"), side),
        n=rng.randint(2, 99),
        m=rng.randint(2, 99),
    )
    return text if rng.random() < 0.7 else text.rstrip("?").lower()
