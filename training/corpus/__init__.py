"""The corpus: a generator for each skill, with a side to train on and a held-out side.

All text is generated; nothing is downloaded. A fifth of the names, numbers and other values, chosen
by hash, occurs on the held-out side only (`words.py`).
"""

from random import Random

from training.corpus import extraction, guide, manner, reading, tools
from training.corpus.conversation import Conversation
from training.corpus.words import HELD_OUT, TRAIN

SKILLS = ("guide", "reading", "extraction", "tools", "manner")


def conversation(skill: str, rng: Random, side: str, reading_tokens: int = 300) -> Conversation:
    """Return a conversation of a skill; a reading document has about `reading_tokens` tokens."""
    if skill == "reading":
        return reading.conversation(rng, side, reading_tokens)
    generators = {
        "guide": guide.conversation,
        "extraction": extraction.conversation,
        "tools": tools.conversation,
        "manner": manner.conversation,
    }
    return generators[skill](rng, side)


__all__ = ["HELD_OUT", "SKILLS", "TRAIN", "Conversation", "conversation"]
