"""Extraction: the user gives a sentence and keys; the answer is one JSON object with these keys."""

import json
from random import Random

from training.corpus import values
from training.corpus.conversation import Conversation, Message, turn
from training.corpus.values import Value
from training.corpus.words import HELD_OUT, table


def fill(sentence: str, record: dict[str, Value]) -> str:
    """Put the values into a sentence. {paid:yes|no} gives one of two words for a boolean."""
    for key, value in record.items():
        if isinstance(value, bool):
            start = sentence.index("{" + key + ":")
            end = sentence.index("}", start)
            yes, no = sentence[start + len(key) + 2 : end].split("|")
            sentence = sentence[:start] + (yes if value else no) + sentence[end + 1 :]
        else:
            sentence = sentence.replace("{" + key + "}", str(value))
    return sentence


def as_json(record: dict[str, Value]) -> str:
    """Return the record as the answers write it."""
    return json.dumps(record, ensure_ascii=False)


def ask(rng: Random, side: str) -> tuple[str, str]:
    """Return a request and the JSON that answers it.

    A key that the sentence lacks is null. That is hard, so it occurs more often to train on.
    """
    domains = table("extraction")["domain"]
    domain = rng.choice(domains)
    record = {key: values.make(maker, rng, side) for key, maker in domain["fields"].items()}
    keys = list(record)
    rng.shuffle(keys)
    keys = keys[: rng.randint(min(2, len(keys)), len(keys))]
    if rng.random() < (0.1 if side == HELD_OUT else 0.2):
        other = rng.choice(list(rng.choice(domains)["fields"]))
        if other not in record:
            keys.insert(rng.randint(0, len(keys)), other)
    sentence = fill(rng.choice(domain["sentences"]), record)
    listed = ", ".join(keys) if rng.random() < 0.8 else ", ".join(f'"{key}"' for key in keys)
    request = rng.choice(table("extraction")["asks"]).format(keys=listed, sentence=sentence)
    return request, as_json({key: record.get(key) for key in keys})


def conversation(rng: Random, side: str) -> Conversation:
    """Return one request; to train on, sometimes two or three."""
    turns = 1 if side == HELD_OUT or rng.random() < 0.6 else rng.randint(2, 3)
    messages: list[Message] = []
    for _ in range(turns):
        messages += turn(*ask(rng, side))
    return Conversation(messages=messages)
