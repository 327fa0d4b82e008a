"""Training steps' data: conversations drawn by seed and step, packed."""

from dataclasses import dataclass
from itertools import pairwise
from random import Random

import torch
from torch import Tensor

from training import corpus
from training.backdrop import Backdrop
from training.marks import Marks, marks
from training.model import Wanted
from training.render import Renderer, Sample

PLAIN = 0.2  # of the documents have no leaps
APART = 0.4  # of the others have their text in other chunks than all questions
BARE = 0.25  # of the leaps have nothing put between
NEAREST, CHUNK, FARTHEST = 500, 8192, 40960  # how far a document's leaps go, together
# Of a backdrop's places, the most that are filled; and the most pairs of these and the document's
# tokens, which are what it costs.
DRAWN, PAIRS = 16384, 24_000_000
HEADER = 6  # tokens before a document's own, about: they open the conversation
# Each skill's share of the tokens.
SHARES = {"guide": 0.05, "reading": 0.35, "extraction": 0.14, "tools": 0.39, "manner": 0.07}
PACKED = 1280  # tokens of a batch, on average; a long document has more
# What an answer's first tokens count beside its others: there it is decided. Past a chunk a value
# that begins right goes on as another does more often than it begins as another.
FIRST, FIRSTS = 3.0, 4
OPENING = 3.0  # what the answer right behind a document counts: most others stand behind answers
ECHO = 0.2  # what an echo counts beside an answer's token
ECHOES = 200  # about the most that are learnt of one conversation
SAMPLED = 8  # every eighth token stands for all when the last layer's experts are balanced


@dataclass(frozen=True)
class Batch:
    """Conversations one behind the other: their ids and positions [tokens], and where each starts.
    The places whose next token is learnt, as indices into `wanted`, and that token: the assistant's
    first, numbered by the answer they belong to, then the echoes; what each counts; the skill of
    each answer. What is behind each conversation, the tokens [kept] of documents, that later
    backdrops may show, and the auxiliary losses' marks."""

    ids: Tensor
    positions: Tensor
    starts: list[int]
    wanted: Wanted
    learn: Tensor
    targets: Tensor
    weights: Tensor
    answers: Tensor
    skills: list[str]
    backdrops: list[Backdrop | None]
    kept: Tensor
    marks: Marks

    @property
    def tokens(self) -> int:
        return len(self.ids)

    @property
    def cost(self) -> float:
        bounds = [*self.starts, self.tokens]
        return sum(cost(end - start) for start, end in pairwise(bounds))


def draw(
    renderer: Renderer, rng: Random, tokens: int, longest: int, parts: int
) -> list[tuple[str, Sample]]:
    """Conversations of all skills in their shares, about `tokens` of them together; more where one
    costs so much that there could not be `parts` which cost the same."""
    drawn: list[tuple[str, Sample]] = []
    used = dict.fromkeys(SHARES, 0.0)
    total, total_cost, most = 0, 0.0, 0.0
    while total < tokens or total_cost < parts * most:
        skill = min(SHARES, key=lambda name: used[name] / SHARES[name] + rng.random() * 200)
        reading_tokens = int(80 * (longest / 80) ** rng.random())
        sample = renderer.sample(corpus.conversation(skill, rng, corpus.TRAIN, reading_tokens))
        if len(sample.ids) > 1.5 * longest + 600:
            continue
        drawn.append((skill, sample))
        used[skill] += len(sample.ids)
        total += len(sample.ids)
        total_cost += cost(len(sample.ids))
        most = max(most, cost(len(sample.ids)))
    return drawn


def cost(tokens: int) -> float:
    """What a conversation takes, in tokens of short ones: attention grows with its square."""
    return tokens * (1 + tokens / 4000)


def group(
    drawn: list[tuple[str, Sample]], tokens: int, parts: int = 1
) -> list[list[tuple[str, Sample]]]:
    """Batches of so many tokens on average, a multiple of `parts`, that cost the same: the longest
    first, and each where there is least."""
    total = sum(len(sample.ids) for _, sample in drawn)
    count = parts * max(1, round(total / tokens / parts))
    groups: list[list[tuple[str, Sample]]] = [[] for _ in range(count)]
    costs = [0.0] * len(groups)
    for item in sorted(drawn, key=lambda pair: -len(pair[1].ids)):
        least = costs.index(min(costs))
        groups[least].append(item)
        costs[least] += cost(len(item[1].ids))
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


@dataclass(frozen=True)
class Laid:
    """Where a conversation's tokens stand: rising positions [tokens], and what is between them."""

    positions: Tensor
    backdrop: Backdrop | None = None


def plain(sample: Sample) -> Laid:
    return Laid(torch.arange(len(sample.ids)))


def pack(items: list[tuple[str, Sample]], laid: list[Laid] | None = None) -> Batch:
    ids: list[int] = []
    starts, wanted, kept = [], [], []
    learn, targets, weights, answers, skills = [], [], [], [], []
    echo_learn, echo_targets = [], []
    laid = laid or [plain(sample) for _, sample in items]
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
        for number, (start, end) in enumerate(sample.spans):
            opening = OPENING if skill == "reading" and number == 0 else 1.0
            weights += [opening * (FIRST if n < FIRSTS else 1.0) for n in range(end - start)]
            answers += [len(skills)] * (end - start)
            skills.append(skill)
        echo_learn += [slot[i - 1] for i in repeated]
        echo_targets += [sample.ids[i] for i in repeated]
        if skill == "reading":
            kept += range(len(ids) + HEADER, len(ids) + sample.spans[0][0])
        ids += sample.ids
    indices = torch.tensor(wanted)
    return Batch(
        torch.tensor(ids),
        torch.cat([own.positions for own in laid]),
        starts,
        Wanted(indices, sampled_of(indices, starts)),
        torch.tensor(learn + echo_learn),
        torch.tensor(targets + echo_targets),
        torch.tensor(weights + [ECHO] * len(echo_targets)),
        torch.tensor(answers),
        skills,
        [own.backdrop for own in laid],
        torch.tensor(kept, dtype=torch.long),
        marks([sample for _, sample in items], starts),
    )


def sampled_of(indices: Tensor, starts: list[int]) -> Tensor:
    """Which of the wanted places are every eighth of their conversation."""
    bounds = torch.tensor(starts)
    own = bounds[torch.searchsorted(bounds, indices, right=True) - 1]
    return (indices - own) % SAMPLED == 0


def leaping(rng: Random, sample: Sample, ends: set[int]) -> Laid:
    """A document's tokens, spread over a document of up to many times its length: its positions
    leap, mostly behind a sentence (a token of `ends`), and other text is put between, mostly. So
    every distance is met, the RoPE layers lose sight at chunks' ends, and the global layer has to
    find what lies before among all that is there. Often the one leap is from the text to the first
    question, over a chunk: then the global layer alone can answer."""
    if rng.random() < PLAIN:
        return plain(sample)
    document = range(HEADER, sample.spans[0][0])
    spots = [i for i in document if sample.ids[i - 1] in ends]
    leaps, nearest = rng.randint(1, 4), NEAREST
    if spots and rng.random() < APART:
        leaps, nearest, spots = 1, CHUNK, spots[-1:]
    elif rng.random() < 0.1 or len(spots) < leaps:
        spots = list(document)
    total = nearest * (FARTHEST / nearest) ** rng.random()
    shares = [rng.expovariate(1) for _ in range(leaps)]
    steps = torch.ones(len(sample.ids), dtype=torch.long)
    steps[0] = 0
    gaps = []
    for spot, share in zip(sorted(rng.sample(spots, leaps)), shares, strict=True):
        size = 1 + int(total * share / sum(shares))
        gaps.append((spot, size))
        steps[spot] += size
    positions = steps.cumsum(0)
    if rng.random() < BARE:
        return Laid(positions)
    most = min(DRAWN, PAIRS // len(sample.ids))
    between = [(int(positions[i]) - size, size) for i, size in gaps]
    return Laid(positions, backdrop(rng, between, most))


def backdrop(rng: Random, gaps: list[tuple[int, int]], most: int) -> Backdrop:
    """For gaps, each from a position on and of a size; at most so many of their places filled."""
    total = sum(size for _, size in gaps)
    count = min(total, most)
    generator = torch.Generator().manual_seed(rng.getrandbits(60))
    places = torch.cat([torch.arange(begin, begin + size) for begin, size in gaps])
    chosen = torch.randperm(total, generator=generator)[:count].sort().values
    return Backdrop(places[chosen], torch.rand(count, generator=generator), total / count)


def step_batches(
    renderer: Renderer, seed: int, step: int, tokens: int, longest: int, parts: int
) -> list[Batch]:
    """The batches of one step, for so many processes."""
    rng = Random(f"{seed}/{step}")
    return [
        pack(items, [_laid(rng, renderer, *item) for item in items])
        for items in group(draw(renderer, rng, tokens, longest, parts), PACKED, parts)
    ]


def _laid(rng: Random, renderer: Renderer, skill: str, sample: Sample) -> Laid:
    return leaping(rng, sample, renderer.ends) if skill == "reading" else plain(sample)
