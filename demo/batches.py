"""Training steps' data: conversations drawn by seed and step, grouped by length, padded."""

from dataclasses import dataclass
from itertools import pairwise
from random import Random

import torch
from torch import Tensor

from demo import corpus
from demo.render import Renderer, Sample

# Each skill's share of the tokens.
SHARES = {"guide": 0.22, "reading": 0.34, "extraction": 0.15, "tools": 0.17, "manner": 0.12}


@dataclass(frozen=True)
class Batch:
    """ids and real [rows, length]; the places whose next token is learnt and that token: the
    assistant's first, numbered by the answer they belong to, then the echoes; the skill of each
    answer; the position of the first token."""

    ids: Tensor
    real: Tensor
    learn: Tensor
    targets: Tensor
    answers: Tensor
    skills: list[str]
    first: int

    @property
    def tokens(self) -> int:
        return int(self.real.sum())


def draw(renderer: Renderer, rng: Random, tokens: int, longest: int) -> list[tuple[str, Sample]]:
    """Conversations of all skills in their shares, about `tokens` of them together."""
    drawn: list[tuple[str, Sample]] = []
    used = dict.fromkeys(SHARES, 0.0)
    total = 0
    while total < tokens:
        skill = min(SHARES, key=lambda name: used[name] / SHARES[name] + rng.random() * 200)
        reading_tokens = int(80 * (longest / 80) ** rng.random())
        sample = renderer.sample(corpus.conversation(skill, rng, corpus.TRAIN, reading_tokens))
        if len(sample.ids) > 1.3 * longest + 400:
            continue
        drawn.append((skill, sample))
        used[skill] += len(sample.ids)
        total += len(sample.ids)
    return drawn


def group(drawn: list[tuple[str, Sample]], padded: int) -> list[list[tuple[str, Sample]]]:
    """Neighbours in length share a batch of at most `padded` places."""
    groups: list[list[tuple[str, Sample]]] = []
    for item in sorted(drawn, key=lambda pair: len(pair[1].ids)):
        if not groups or (len(groups[-1]) + 1) * len(item[1].ids) > padded:
            groups.append([])
        groups[-1].append(item)
    return groups


def echoes(sample: Sample) -> list[int]:
    """Places in the prompt whose token follows its neighbour for the second time, as the rest of a
    name does when it comes again: learning these teaches to look back, which all skills need."""
    taught = {i for start, end in sample.spans for i in range(start, end)}
    seen: set[tuple[int, int]] = set()
    found = []
    for i, pair in enumerate(pairwise(sample.ids), 1):
        if pair in seen and i not in taught:
            found.append(i)
        seen.add(pair)
    return found


def pad(items: list[tuple[str, Sample]], first: int = 0) -> Batch:
    length = max(len(sample.ids) for _, sample in items)
    ids = torch.zeros(len(items), length, dtype=torch.long)
    real = torch.zeros(len(items), length, dtype=torch.bool)
    learn, targets, answers, skills = [], [], [], []
    echo_places, echo_targets = [], []
    for row, (skill, sample) in enumerate(items):
        ids[row, : len(sample.ids)] = torch.tensor(sample.ids)
        real[row, : len(sample.ids)] = True
        for start, end in sample.spans:
            learn += [row * length + i - 1 for i in range(start, end)]
            targets += sample.ids[start:end]
            answers += [len(skills)] * (end - start)
            skills.append(skill)
        places = echoes(sample)
        echo_places += [row * length + i - 1 for i in places]
        echo_targets += [sample.ids[i] for i in places]
    return Batch(
        ids,
        real,
        torch.tensor(learn + echo_places),
        torch.tensor(targets + echo_targets),
        torch.tensor(answers),
        skills,
        first,
    )


def step_batches(
    renderer: Renderer, seed: int, step: int, tokens: int, longest: int, chunk: int
) -> list[Batch]:
    """The batches of one step. Some begin just before a chunk's end, so that their RoPE layers lose
    sight of what came before and the global layer must find it."""
    rng = Random(f"{seed}/{step}")
    batches = []
    for items in group(draw(renderer, rng, tokens, longest), padded=max(4096, longest)):
        length = max(len(sample.ids) for _, sample in items)
        crossing = rng.random() < 0.3 and length > 60
        first = chunk * rng.randint(1, 4) - rng.randint(20, length - 20) if crossing else 0
        batches.append(pad(items, first))
    return batches
