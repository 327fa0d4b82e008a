"""Passes over one batch: forward, its losses, and backward where it is learnt."""

from random import Random

import torch
from torch import Tensor, nn

from training import batches, corpus
from training.backdrop import Recall
from training.batches import Batch
from training.carry import Carry, Taps, answered
from training.corpus import guide, reading
from training.looks import LOOKING, NONE
from training.model import Balance, Llama4
from training.render import Renderer
from training.results import Result, Results, outcome

BALANCE = 0.05
# Beside an answer's token: a token of a value that is to be carried, where a head is shown what
# tells it, a token of what the looking layer has found, and of what it foresees.
CARRY, LOOK, FOUND, FORESEEN = 1.0, 1.0, 1.0, 0.5


def run(
    model: Llama4,
    batch: Batch,
    totals: tuple[int, int] | None,
    recall: Recall | None = None,
    carry: Carry | None = None,
) -> tuple[Results, Tensor]:
    """Forward, and backward where the step's totals of learnt and of all tokens are given. Returns
    what was right, and the experts' load [layer, expert]."""
    balance = Balance()
    taps = Taps(batch.marks) if carry and batch.marks else None
    aside, results = torch.zeros(()), Results()
    # The experts' casts are made once a layer anyway; a cache would keep all of them.
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        hidden = model(
            batch.ids, batch.positions, batch.starts, balance, batch.wanted, recall, taps
        )
        logits = model.lm_head(hidden[batch.learn])
        if carry and taps:
            aside, results = auxiliary(model, carry, taps)
    every = nn.functional.cross_entropy(logits.float(), batch.targets, reduction="none")
    losses, echoes = every.tensor_split([len(batch.answers)])
    if totals is not None:
        learnt, tokens = totals
        share = batch.tokens / tokens
        loss = ((every * batch.weights).sum() + aside) / learnt
        (loss + BALANCE * balance.loss() * share).backward()
    wrong = logits[: len(losses)].argmax(-1) != batch.targets[: len(losses)]
    results.add(outcome(batch, losses.detach(), echoes.detach(), wrong))
    return results, balance.load()


def auxiliary(model: Llama4, carry: Carry, taps: Taps) -> tuple[Tensor, Results]:
    """The auxiliary losses, weighted, summed over the marks, and what was right at them."""
    carried, carried_right, ahead, ahead_right = carry(taps, model.lm_head.weight)
    found, found_right = answered(taps, model.early)
    pointed, (looked, recalled) = torch.stack(taps.pointed), taps.looked
    aside = CARRY * (carried + pointed.sum()) + LOOK * (looked + recalled)
    aside = aside + FOUND * found + FORESEEN * ahead
    values, coming = (int((ids != NONE).sum()) for ids in (taps.marks.values, taps.marks.coming))
    looks = taps.marks.looks.layer == LOOKING
    looking, recalling = int(looks.sum()), int((~looks).sum())
    results = Results()
    for name, loss, right, count in (
        ("~carried", carried / len(taps.found), carried_right, values),
        ("~pointed", pointed.mean(), 0, values),
        ("~looked", looked, 0, looking),
        ("~foreseen", ahead, ahead_right, coming),
        ("~recalled", recalled, 0, recalling),
        ("~answered", found, found_right, len(taps.asked.id)),
    ):
        results[name].add(Result(float(loss.detach()), count, int(right), count))
    return aside, results


@torch.no_grad()
def quick_check(model: Llama4, renderer: Renderer, seed: int, count: int = 24) -> Results:
    """The held-out side, and the guide's trained wordings, by teacher forcing: a watch on training.
    The figures that count come from `evaluate.py`, through the product."""
    rng = Random(f"{seed}/check")
    found = Results()
    drawn = [("known", guide.turn(*pair)) for pair in rng.sample(list(guide.known()), count)]
    drawn += [("unseen", guide.turn(*pair)) for pair in rng.sample(list(guide.unseen()), count)]
    samples = [(name, renderer.sample({"messages": messages})) for name, messages in drawn]
    for skill in ("extraction", "tools", "manner"):
        for _ in range(2 * count):
            item = corpus.conversation(skill, rng, corpus.HELD_OUT)
            samples.append((skill, renderer.sample(item)))
    for tokens in (250, 1000, 4000):
        for _ in range(count // 6):
            item = reading.conversation(rng, corpus.HELD_OUT, tokens, questions=12)
            samples.append((f"reading{tokens}", renderer.sample(item)))
    for items in batches.group(samples, batches.PACKED):
        found.add(run(model, batches.pack(items), None)[0])
    return found
