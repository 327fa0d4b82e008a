"""Reading: a document of facts among other facts and filler, questions on it, answers from it."""

from random import Random

from demo.corpus import words
from demo.corpus.facts import Fact, filler, make_fact
from demo.corpus.words import HELD_OUT

NOT_SAID = "The text does not say."
WRAPPERS = (
    "{document}\n\n{question}",
    "{document}\n\nQuestion: {question}",
    "<document>\n{document}\n</document>\n\n{question}",
    "Read the text and answer the question.\n\n{document}\n\n{question}",
    "Document:\n{document}\n\nQuestion: {question}",
)
CHARS_PER_TOKEN = 3.0


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


def conversation(rng: Random, side: str, tokens: int = 300, questions: int | None = None) -> dict:
    share = rng.choice((0.15, 0.4, 0.7, 1.0))
    text, facts = document(rng, side, tokens, share)
    while not facts:
        text, facts = document(rng, side, tokens, 0.7)
    if questions is None:
        questions = 1 if side == HELD_OUT else min(rng.randint(4, 8 + tokens // 40), 64)
    messages: list[dict] = []
    for fact in rng.sample(facts, min(questions, len(facts))):
        question, answer = fact.question, fact.value
        if rng.random() < (0.05 if side == HELD_OUT else 0.08):
            question, answer = missing_question(rng, side, facts), NOT_SAID
        if not messages:
            question = rng.choice(WRAPPERS).format(document=text, question=question)
        messages += [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    return {"messages": messages}
