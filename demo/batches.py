"""Training steps' data: conversations drawn by seed and step, packed."""

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
PACKED = 1536  # tokens of a batch, about; a long document's has more
ECHOES = 200  # about the most that are learnt of one conversation
SAMPLED = 8  # every eighth token stands for all when the last layer's experts are balanced


@dataclass(frozen=True)
class Batch:
    """Conversations one behind the other: their ids and positions [tokens], and where each starts.
    The places whose next token is learnt, as indices into `wanted`, and that token: the assistant's
    first, numbered by the answer they belong to, then the echoes; the skill of each answer."""

    ids: Tensor
    positions: Tensor
    starts: list[int]
    wanted: Wanted
    learn: Tensor
    targets: Tensor
    answers: Tensor
    skills: list[str]

    @property
    def tokens(self) -> int:
        return len(self.ids)


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


def group(drawn: list[tuple[str, Sample]], tokens: int) -> list[list[tuple[str, Sample]]]:
    """Batches of about so many tokens each: the longest first, and each into the emptiest."""
    total = sum(len(sample.ids) for _, sample in drawn)
    groups: list[list[tuple[str, Sample]]] = [[] for _ in range(max(1, round(total / tokens)))]
    sizes = [0] * len(groups)
    for item in sorted(drawn, key=lambda pair: -len(pair[1].ids)):
        emptiest = sizes.index(min(sizes))
        groups[emptiest].append(item)
        sizes[emptiest] += len(item[1].ids)
    return [group for group in groups if group]


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


def pack(items: list[tuple[str, Sample]], positions: list[Tensor] | None = None) -> Batch:
    ids: list[int] = []
    starts, wanted = [], []
    learn, targets, answers, skills = [], [], [], []
    echo_learn, echo_targets = [], []
    for skill, sample in items:
        starts.append(len(ids))
        taught = [i for start, end in sample.spans for i in range(start, end)]
        repeated = echoes(sample)
        before = {i - 1 for i in taught + repeated}
        places = sorted(before.union(range(0, len(sample.ids), SAMPLED)))
        slot = {place: len(wanted) + number for number, place in enumerate(places)}
        wanted += [len(ids) + place for place in places]
        learn += [slot[i - 1] for i in taught]
        targets += [sample.ids[i] for i in taught]
        for start, end in sample.spans:
            answers += [len(skills)] * (end - start)
            skills.append(skill)
        echo_learn += [slot[i - 1] for i in repeated]
        echo_targets += [sample.ids[i] for i in repeated]
        ids += sample.ids
    indices = torch.tensor(wanted)
    return Batch(
        torch.tensor(ids),
        torch.cat(positions or [torch.arange(len(sample.ids)) for _, sample in items]),
        starts,
        Wanted(indices, sampled_of(indices, starts)),
        torch.tensor(learn + echo_learn),
        torch.tensor(targets + echo_targets),
        torch.tensor(answers),
        skills,
    )


def sampled_of(indices: Tensor, starts: list[int]) -> Tensor:
    """Which of the wanted places are every eighth of their conversation."""
    bounds = torch.tensor(starts)
    own = bounds[torch.searchsorted(bounds, indices, right=True) - 1]
    return (indices - own) % SAMPLED == 0


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
    """The batches of one step."""
    rng = Random(f"{seed}/{step}")
    return [
        pack(items, [leaping(rng, len(sample.ids), chunk) for _, sample in items])
        for items in group(draw(renderer, rng, tokens, longest), PACKED)
    ]
