"""Questions that the demo model cannot answer, and its answer to all of them."""

from random import Random

from training.corpus import words

ANSWER = "I don't know. I am a small demo model and only know about Llama 4 and l4."


def question(rng: Random, side: str) -> str:
    """Return a question about something else than Llama 4 and l4."""
    form = words.pick(rng, words.table("offtopic")["forms"], side)
    text = form.format(
        place=words.city(rng, side),
        place2=words.city(rng, side),
        person=words.full_name(rng, side),
        food=words.pick(rng, words.words("foods"), side),
        thing=words.pick(rng, words.words("things"), side),
        animal=words.pick(rng, words.words("animals"), side),
        n=rng.randint(2, 99),
        m=rng.randint(2, 99),
    )
    return text if rng.random() < 0.7 else text.rstrip("?").lower()
