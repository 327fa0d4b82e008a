"""Training steps' data: conversations drawn by seed and step, grouped by length, padded."""

from dataclasses import dataclass
from itertools import pairwise
from random import Random

import torch
from torch import Tensor

from demo import corpus
from demo.model import Wanted
from demo.render import Renderer, Sample

PLAIN = 0.1  # of the batches have no leaps, however long they are
# Each skill's share of the tokens.
SHARES = {"guide": 0.08, "reading": 0.45, "extraction": 0.14, "tools": 0.21, "manner": 0.12}
PADDED = 2048  # places of a batch; only a long document's has more
ECHOES = 200  # about the most that are learnt of one conversation
SAMPLED = 8  # every eighth token stands for all when the last layer's experts are balanced


@dataclass(frozen=True)
class Batch:
    """ids and real [rows, length]; positions [length]; the places whose next token is learnt, as
    indices into the flattened `wanted`, and that token: the assistant's first, numbered by the
    answer they belong to, then the echoes; the skill of each answer."""

    ids: Tensor
    real: Tensor
    positions: Tensor
    wanted: Wanted
    learn: Tensor
    targets: Tensor
    answers: Tensor
    skills: list[str]

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
        if len(sample.ids) > 1.5 * longest + 600:
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
    name does when it comes again: learning these teaches to look back, which all skills need. A
    long document has many; some of them, evenly, are enough."""
    taught = {i for start, end in sample.spans for i in range(start, end)}
    seen: set[tuple[int, int]] = set()
    found = []
    for i, pair in enumerate(pairwise(sample.ids), 1):
        if pair in seen and i not in taught:
            found.append(i)
        seen.add(pair)
    return found[:: 1 + len(found) // ECHOES]


def pad(items: list[tuple[str, Sample]], positions: Tensor | None = None) -> Batch:
    length = max(len(sample.ids) for _, sample in items)
    ids = torch.zeros(len(items), length, dtype=torch.long)
    real = torch.zeros(len(items), length, dtype=torch.bool)
    wanted: list[list[int]] = []
    learn, targets, answers, skills = [], [], [], []
    echo_places, echo_targets = [], []
    for row, (skill, sample) in enumerate(items):
        ids[row, : len(sample.ids)] = torch.tensor(sample.ids)
        real[row, : len(sample.ids)] = True
        taught = [i for start, end in sample.spans for i in range(start, end)]
        repeated = echoes(sample)
        before = {i - 1 for i in taught + repeated}
        wanted.append(sorted(before.union(range(row % SAMPLED, len(sample.ids), SAMPLED))))
        slot = {place: (row, number) for number, place in enumerate(wanted[row])}
        learn += [slot[i - 1] for i in taught]
        targets += [sample.ids[i] for i in taught]
        for start, end in sample.spans:
            answers += [len(skills)] * (end - start)
            skills.append(skill)
        echo_places += [slot[i - 1] for i in repeated]
        echo_targets += [sample.ids[i] for i in repeated]
    places = padded_wanted(wanted)
    width = places.indices.shape[1]
    return Batch(
        ids,
        real,
        torch.arange(length) if positions is None else positions,
        places,
        torch.tensor([row * width + number for row, number in learn + echo_places]),
        torch.tensor(targets + echo_targets),
        torch.tensor(answers),
        skills,
    )


def padded_wanted(rows: list[list[int]]) -> Wanted:
    indices = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    sampled = torch.zeros(indices.shape, dtype=torch.bool)
    for row, wanted in enumerate(rows):
        indices[row, : len(wanted)] = torch.tensor(wanted)
        sampled[row, : len(wanted)] = indices[row, : len(wanted)] % SAMPLED == row % SAMPLED
    return Wanted(indices, sampled)


def leaping(rng: Random, length: int, chunk: int) -> Tensor:
    """Positions for so many tokens: mostly not one after the other, but with leaps of up to a
    chunk. So the RoPE layers meet every distance, lose sight at chunks' ends as they do in long
    documents, and leave it to the global layer to find what lies before; and a long document has
    short chunks, which are cheap."""
    leaps = rng.choice((0, 0, 1, 2, 3)) + length // 1024
    if rng.random() < PLAIN:
        leaps = 0
    steps = torch.ones(length, dtype=torch.long)
    steps[0] = 0
    for _ in range(leaps):
        steps[rng.randrange(1, length)] += rng.randint(1, chunk)
    return steps.cumsum(0)


def step_batches(
    renderer: Renderer, seed: int, step: int, tokens: int, longest: int, chunk: int
) -> list[Batch]:
    """The batches of one step, each with positions of its own."""
    rng = Random(f"{seed}/{step}")
    batches = []
    for items in group(draw(renderer, rng, tokens, longest), padded=PADDED):
        length = max(len(sample.ids) for _, sample in items)
        batches.append(pad(items, leaping(rng, length, chunk)))
    return batches
