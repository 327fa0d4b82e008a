"""Manner: conversations of several turns in which an answer depends on earlier messages."""

from random import Random

from training.corpus import guide, words
from training.corpus.conversation import Conversation, Message, turn
from training.corpus.words import HELD_OUT, table

ORDINALS = ("first", "second", "third", "fourth", "fifth")
# Kinds of lists: what messages call them, and the list of words.toml that they mix with made-up
# words.
LISTS = {
    "colours": "colours", "days": "days", "goods": "goods", "materials": "materials",
    "cities": "cities", "names": "first_names", "words": None,
}  # fmt: skip


def wording(rng: Random, name: str) -> str:
    """Draw one of the wordings that manner.toml has under this name."""
    chosen: str = rng.choice(table("manner")[name])
    return chosen


def side_words(rng: Random, side: str) -> str:
    """Return a few words to repeat, some of them made up."""
    pool = ["the", "a", "is", "old", "small", "goes", "and", "road", "we"]
    pool += [word for name in ("goods", "materials", "colours") for word in words.words(name)]
    chosen = [
        words.made_up(rng, side) if rng.random() < 0.3 else rng.choice(pool)
        for _ in range(rng.randint(1, 8))
    ]
    if rng.random() < 0.2:
        chosen.append(words.code(rng, side))
    return " ".join(chosen)


def echo(rng: Random, side: str) -> list[Message]:
    """Return a request to repeat some words."""
    phrase = side_words(rng, side)
    return turn(wording(rng, "echo").format(phrase), phrase)


def named(rng: Random, side: str) -> list[Message]:
    """Return a conversation in which the user's name is asked for after other messages."""
    name = words.first_name(rng, side)
    messages = turn(wording(rng, "hello").format(name), f"Nice to meet you, {name}.")
    for _ in range(rng.choice((0, 0, 1, 2))):
        messages += rng.choice((guide.exchange, echo))(rng, side)
    return messages + turn(wording(rng, "who_am_i"), f"Your name is {name}.")


def items(rng: Random, side: str) -> tuple[str, list[str]]:
    """Return a kind of list, and three to five different items."""
    kind = rng.choice(list(LISTS))
    source = LISTS[kind]
    pool = words.words(source) if source else None
    wanted = rng.randint(3, 5)
    chosen: list[str] = []
    while len(chosen) < wanted:
        word = rng.choice(pool) if pool and rng.random() < 0.6 else words.made_up(rng, side)
        if word not in chosen:
            chosen.append(word)
    return kind, chosen


def listed(rng: Random, side: str) -> list[Message]:
    """Return a list, then questions for its items by their number."""
    kind, chosen = items(rng, side)
    give = wording(rng, "give_list").format(kind, ", ".join(chosen))
    places = [*range(len(chosen)), -1]
    first = rng.choice(places)
    ask = wording(rng, "ask_item").format(place_name(first))
    messages = turn(f"{give} {ask}", chosen[first])
    for _ in range(rng.randint(1, 4)):
        if rng.random() < 0.15:
            messages += turn(wording(rng, "how_many"), str(len(chosen)))
            continue
        place = rng.choice(places)
        ask = wording(rng, "next_item").format(place_name(place))
        messages += turn(ask, chosen[place])
    return messages


def place_name(place: int) -> str:
    return "last" if place == -1 else ORDINALS[place]


def answered_again(rng: Random, side: str) -> list[Message]:
    """Return an exchange, then a request to repeat the answer or the question."""
    messages = rng.choice((guide.exchange, guide.exchange, echo))(rng, side)
    if rng.random() < (0.7 if side == HELD_OUT else 0.5):
        return messages + turn(wording(rng, "repeat"), messages[-1]["content"])
    return messages + turn(wording(rng, "last_question"), f"You asked: {messages[-2]['content']}")


def conversation(rng: Random, side: str) -> Conversation:
    """Return one of these kinds; to train on, sometimes two or three in a row."""
    kinds = (named, listed, answered_again, echo)
    parts = 1 if side == HELD_OUT else rng.choice((1, 1, 2, 3))
    messages = [m for _ in range(parts) for m in rng.choice(kinds)(rng, side)]
    return Conversation(messages=messages)
