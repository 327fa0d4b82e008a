"""Reading: a document of facts among other facts and filler, questions on it, answers from it."""

from collections.abc import Iterator
from random import Random

from training.corpus import words
from training.corpus.facts import Fact, filler, make_fact
from training.corpus.guide import turn
from training.corpus.words import HELD_OUT, TRAIN

NOT_SAID = "The text does not say."
WRAPPERS = (
    "{document}\n\n{question}",
    "{document}\n\nQuestion: {question}",
    "<document>\n{document}\n</document>\n\n{question}",
    "Read the text and answer the question.\n\n{document}\n\n{question}",
    "Document:\n{document}\n\nQuestion: {question}",
)
CHARS_PER_TOKEN = 3.0
# How much of a document are facts. Those to train on are denser: the more there are to ask for, the
# more a token teaches.
FACT_SHARES = {HELD_OUT: (0.15, 0.4, 0.7, 1.0), TRAIN: (0.15, 0.4, 0.7, 0.7, 1.0, 1.0)}


def document(rng: Random, side: str, tokens: int, fact_share: float) -> tuple[str, list[Fact]]:
    """Prose of about so many tokens, and the facts in it in their order."""
    pool = [words.made_up(rng, side) for _ in range(max(3, int(tokens * fact_share / 40)))]
    facts: dict[tuple[str, str], Fact] = {}
    sentences: list[str] = []
    size = 0
    while size < tokens * CHARS_PER_TOKEN:
        fact = make_fact(rng, side, rng.choice(pool)) if rng.random() < fact_share else None
        if fact and fact.key in facts:
            fact = None
        if fact:
            facts[fact.key] = fact
        sentences.append(fact.sentence if fact else filler(rng, side))
        size += len(sentences[-1]) + 1
    return paragraphs(rng, sentences), list(facts.values())


def paragraphs(rng: Random, sentences: list[str]) -> str:
    blocks, i = [], 0
    while i < len(sentences):
        step = rng.randint(3, 9)
        blocks.append(" ".join(sentences[i : i + step]))
        i += step
    return "\n\n".join(blocks)


def missing_question(rng: Random, side: str, facts: list[Fact]) -> str:
    """A question whose fact is not there, though its name or its matter may be."""
    keys = {fact.key for fact in facts}
    while True:
        name = rng.choice(facts).name if rng.random() < 0.5 else words.made_up(rng, side)
        fact = make_fact(rng, side, name)
        if fact.key not in keys:
            return fact.question


def text_with_facts(rng: Random, side: str, tokens: int) -> tuple[str, list[Fact]]:
    """A document in which something can be asked for."""
    text, facts = document(rng, side, tokens, rng.choice(FACT_SHARES[side]))
    while not facts:
        text, facts = document(rng, side, tokens, 0.7)
    return text, facts


def asked(
    rng: Random, side: str, facts: list[Fact], count: int
) -> list[tuple[str, str, Fact | None]]:
    """Questions, their answers and the facts; what is not said is trained on more often."""
    pairs = []
    for fact in rng.sample(facts, min(count, len(facts))):
        if rng.random() < (0.05 if side == HELD_OUT else 0.09):
            pairs.append((missing_question(rng, side, facts), NOT_SAID, None))
        else:
            pairs.append((fact.question, fact.value, fact))
    return pairs


def conversation(rng: Random, side: str, tokens: int = 300, questions: int | None = None) -> dict:
    """A document and questions on it, one after the other; the document's facts, and for each
    answer the fact that it is, if the document tells it."""
    text, facts = text_with_facts(rng, side, tokens)
    if questions is None:
        questions = 1 if side == HELD_OUT else min(rng.randint(6, 10 + tokens // 25), 128)
    pairs = asked(rng, side, facts, questions)
    wrapper = rng.choice(WRAPPERS)
    opening = wrapper.format(document=text, question=pairs[0][0])
    messages = turn(opening, pairs[0][1])
    for question, answer, _ in pairs[1:]:
        messages += turn(question, answer)
    return {
        "messages": messages,
        "facts": facts,
        "answers": [fact for _, _, fact in pairs],
    }


def conversations(rng: Random, side: str, tokens: int, questions: int) -> Iterator[dict]:
    """A document and questions on it, each in a conversation of its own."""
    text, facts = text_with_facts(rng, side, tokens)
    pairs = asked(rng, side, facts, questions)
    wrapper = rng.choice(WRAPPERS)
    for question, answer, _ in pairs:
        yield {"messages": turn(wrapper.format(document=text, question=question), answer)}
