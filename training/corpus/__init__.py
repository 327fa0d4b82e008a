"""The corpus: one generator a skill, each with a train and a held-out side."""

from random import Random

from training.corpus import extraction, guide, manner, reading, tools
from training.corpus.words import HELD_OUT, TRAIN

SKILLS = ("guide", "reading", "extraction", "tools", "manner")


def conversation(skill: str, rng: Random, side: str, reading_tokens: int = 300) -> dict:
    """{"messages": [...]} and, where functions are offered, {"tools": [...]}."""
    if skill == "reading":
        return reading.conversation(rng, side, reading_tokens)
    generators = {"guide": guide, "extraction": extraction, "tools": tools, "manner": manner}
    return generators[skill].conversation(rng, side)


__all__ = ["HELD_OUT", "SKILLS", "TRAIN", "conversation"]
