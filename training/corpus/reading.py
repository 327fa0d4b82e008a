"""Reading: a document of facts and filler, and questions whose answers it contains."""

from collections.abc import Iterator
from random import Random

from training.corpus import words
from training.corpus.conversation import Conversation, turn
from training.corpus.facts import Fact, filler, make_fact
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
# The share of a document's sentences that are facts. Documents to train on have more: with more to
# ask for, each token teaches more.
FACT_SHARES = {HELD_OUT: (0.15, 0.4, 0.7, 1.0), TRAIN: (0.15, 0.4, 0.7, 0.7, 1.0, 1.0)}


def document(rng: Random, side: str, tokens: int, fact_share: float) -> tuple[str, list[Fact]]:
    """Return a text of about `tokens` tokens, and the facts in it in their order."""
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
    """Join sentences into paragraphs of three to nine."""
    blocks, i = [], 0
    while i < len(sentences):
        step = rng.randint(3, 9)
        blocks.append(" ".join(sentences[i : i + step]))
        i += step
    return "\n\n".join(blocks)


def missing_question(rng: Random, side: str, facts: list[Fact]) -> str:
    """Return a question that the facts do not answer, though its name or attribute may occur."""
    keys = {fact.key for fact in facts}
    while True:
        name = rng.choice(facts).name if rng.random() < 0.5 else words.made_up(rng, side)
        fact = make_fact(rng, side, name)
        if fact.key not in keys:
            return fact.question


def text_with_facts(rng: Random, side: str, tokens: int) -> tuple[str, list[Fact]]:
    """Return a document with at least one fact, and its facts."""
    text, facts = document(rng, side, tokens, rng.choice(FACT_SHARES[side]))
    while not facts:
        text, facts = document(rng, side, tokens, 0.7)
    return text, facts


def asked(
    rng: Random, side: str, facts: list[Fact], count: int
) -> list[tuple[str, str, Fact | None]]:
    """Return questions, their answers and the facts.

    A few questions have no answer in the document (the fact is None), more of them to train on.
    """
    pairs: list[tuple[str, str, Fact | None]] = []
    for fact in rng.sample(facts, min(count, len(facts))):
        if rng.random() < (0.05 if side == HELD_OUT else 0.09):
            pairs.append((missing_question(rng, side, facts), NOT_SAID, None))
        else:
            pairs.append((fact.question, fact.value, fact))
    return pairs


def conversation(
    rng: Random, side: str, tokens: int = 300, questions: int | None = None
) -> Conversation:
    """Return a document of about `tokens` tokens, and questions on it, one after the other.

    questions: how many; None: one on the held-out side, and six to 128 to train on.
    """
    text, facts = text_with_facts(rng, side, tokens)
    if questions is None:
        questions = 1 if side == HELD_OUT else min(rng.randint(6, 10 + tokens // 25), 128)
    pairs = asked(rng, side, facts, questions)
    wrapper = rng.choice(WRAPPERS)
    opening = wrapper.format(document=text, question=pairs[0][0])
    messages = turn(opening, pairs[0][1])
    for question, answer, _ in pairs[1:]:
        messages += turn(question, answer)
    answers = [fact for _, _, fact in pairs]
    return Conversation(messages=messages, facts=facts, answers=answers)


def conversations(rng: Random, side: str, tokens: int, questions: int) -> Iterator[Conversation]:
    """Yield one document with each of several questions, in a conversation of its own."""
    text, facts = text_with_facts(rng, side, tokens)
    pairs = asked(rng, side, facts, questions)
    wrapper = rng.choice(WRAPPERS)
    for question, answer, _ in pairs:
        opening = wrapper.format(document=text, question=question)
        yield Conversation(messages=turn(opening, answer))
