"""The data of a training step: conversations drawn by seed and step, packed into batches."""

from dataclasses import dataclass
from itertools import pairwise
from random import Random

import torch
from torch import Tensor

from training import corpus
from training.batch_targets import BatchTargets, batch_targets
from training.long_context import HEADER, GapFilling, Placement, contiguous, spread
from training.model import OutputTokens
from training.render import Renderer, Sample

# Each skill's share of the tokens.
SHARES = {"guide": 0.05, "reading": 0.35, "extraction": 0.14, "tools": 0.39, "manner": 0.07}
BATCH_TOKENS = 1280  # tokens of a batch, on average; a batch with a long document has more
# The loss of an answer's first tokens counts more, since they decide the answer. Beyond a chunk,
# a value more often begins right and continues as another one than it begins as another one.
FIRST_WEIGHT, FIRST_TOKENS = 3.0, 4
# The loss of the answer right after a document counts more: most other answers follow answers.
FIRST_ANSWER_WEIGHT = 3.0
REPEAT_WEIGHT = 0.2  # the weight of a repetition in the prompt; an answer's token has 1
REPEATS = 200  # about the most repetitions that are learnt in one conversation
SAMPLED = 8  # the last layer's experts are balanced on every eighth token

Drawn = tuple[str, Sample]  # a skill and a conversation


@dataclass(frozen=True)
class Batch:
    """Conversations one after the other.

    ids, positions: of all tokens [tokens].
    starts: the token at which each conversation begins.
    outputs: the tokens whose output is needed.
    learn: which of these outputs are learnt [learnt]: first those of the assistant's tokens, then
        those of repetitions.
    targets: the next id of each learnt output [learnt].
    weights: the weight of each one's loss [learnt].
    answers: the number of the answer that each of the assistant's tokens belongs to.
    skills: each answer's skill.
    fillings: what fills the gaps of each conversation.
    kept: the tokens of documents, whose keys and values the memory stores.
    auxiliary: the targets of the auxiliary losses.
    """

    ids: Tensor
    positions: Tensor
    starts: list[int]
    outputs: OutputTokens
    learn: Tensor
    targets: Tensor
    weights: Tensor
    answers: Tensor
    skills: list[str]
    fillings: list[GapFilling | None]
    kept: Tensor
    auxiliary: BatchTargets

    @property
    def tokens(self) -> int:
        return len(self.ids)

    @property
    def cost(self) -> float:
        bounds = [*self.starts, self.tokens]
        return sum(cost(end - start) for start, end in pairwise(bounds))


def draw(renderer: Renderer, rng: Random, tokens: int, longest: int, parts: int) -> list[Drawn]:
    """Draw conversations of all skills in their shares, `tokens` or a little more in all.

    longest: about the most tokens of a reading document.
    parts: into how many parts of equal cost the conversations must divide. More are drawn if one
        conversation alone costs more than such a part.
    """
    drawn: list[Drawn] = []
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
    """Return a conversation's cost, in tokens of short ones. Attention grows with the square."""
    return tokens * (1 + tokens / 4000)


def group(drawn: list[Drawn], tokens: int, parts: int = 1) -> list[list[Drawn]]:
    """Divide conversations into groups of about equal cost, `tokens` each on average.

    Their number is a multiple of `parts`. The longest come first, each into the cheapest group.
    """
    total = sum(len(sample.ids) for _, sample in drawn)
    count = parts * max(1, round(total / tokens / parts))
    groups: list[list[Drawn]] = [[] for _ in range(count)]
    costs = [0.0] * len(groups)
    for item in sorted(drawn, key=lambda pair: -len(pair[1].ids)):
        least = costs.index(min(costs))
        groups[least].append(item)
        costs[least] += cost(len(item[1].ids))
    return [group for group in groups if group]


def repetitions(sample: Sample) -> list[int]:
    """Return places in the prompt whose token follows its neighbour for the second time.

    The rest of a name does so when the name comes again. Learning these places teaches the model to
    look back, which all skills need. A long document has many; an even selection of them is enough.
    """
    taught = {i for start, end in sample.answers for i in range(start, end)}
    seen: set[tuple[int, int]] = set()
    found = []
    for i, pair in enumerate(pairwise(sample.ids), 1):
        if pair in seen and i not in taught:
            found.append(i)
        seen.add(pair)
    return found[:: 1 + len(found) // REPEATS]


def pack(items: list[Drawn], placements: list[Placement] | None = None) -> Batch:
    """Make a batch of conversations, with positions that have no gaps if none are given."""
    ids: list[int] = []
    starts: list[int] = []
    outputs: list[int] = []
    kept: list[int] = []
    learn: list[int] = []
    targets: list[int] = []
    weights: list[float] = []
    answers: list[int] = []
    skills: list[str] = []
    repeat_learn: list[int] = []
    repeat_targets: list[int] = []
    placements = placements or [contiguous(sample) for _, sample in items]
    for skill, sample in items:
        starts.append(len(ids))
        taught = [i for start, end in sample.answers for i in range(start, end)]
        repeated = repetitions(sample)
        before = {i - 1 for i in taught + repeated}
        places = sorted(before.union(range(0, len(sample.ids), SAMPLED)))
        output_of = {place: len(outputs) + number for number, place in enumerate(places)}
        outputs += [len(ids) + place for place in places]
        learn += [output_of[i - 1] for i in taught]
        targets += [sample.ids[i] for i in taught]
        for number, (start, end) in enumerate(sample.answers):
            whole = FIRST_ANSWER_WEIGHT if skill == "reading" and number == 0 else 1.0
            for n in range(end - start):
                weights.append(whole * (FIRST_WEIGHT if n < FIRST_TOKENS else 1.0))
            answers += [len(skills)] * (end - start)
            skills.append(skill)
        repeat_learn += [output_of[i - 1] for i in repeated]
        repeat_targets += [sample.ids[i] for i in repeated]
        if skill == "reading":
            kept += range(len(ids) + HEADER, len(ids) + sample.answers[0][0])
        ids += sample.ids
    indices = torch.tensor(outputs)
    return Batch(
        torch.tensor(ids),
        torch.cat([own.positions for own in placements]),
        starts,
        OutputTokens(indices, _sampled(indices, starts)),
        torch.tensor(learn + repeat_learn),
        torch.tensor(targets + repeat_targets),
        torch.tensor(weights + [REPEAT_WEIGHT] * len(repeat_targets)),
        torch.tensor(answers),
        skills,
        [own.filling for own in placements],
        torch.tensor(kept, dtype=torch.long),
        batch_targets([sample for _, sample in items], starts),
    )


def step_batches(
    renderer: Renderer, seed: int, step: int, tokens: int, longest: int, parts: int
) -> list[Batch]:
    """Return the batches of one step, for `parts` processes; see `draw` for the others."""
    rng = Random(f"{seed}/{step}")
    return [
        pack(items, [_placement(rng, renderer, *item) for item in items])
        for items in group(draw(renderer, rng, tokens, longest, parts), BATCH_TOKENS, parts)
    ]


def _placement(rng: Random, renderer: Renderer, skill: str, sample: Sample) -> Placement:
    if skill == "reading":
        return spread(rng, sample, renderer.sentence_ends)
    return contiguous(sample)


def _sampled(indices: Tensor, starts: list[int]) -> Tensor:
    """Return which outputs are every eighth token of their conversation."""
    bounds = torch.tensor(starts)
    own = bounds[torch.searchsorted(bounds, indices, right=True) - 1]
    return (indices - own) % SAMPLED == 0
