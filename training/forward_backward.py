"""One pass over a batch: forward, all losses, and backward where the batch is learnt."""

from random import Random

import torch
from torch import Tensor, nn

from training import batches, corpus
from training.attention_targets import NO_ID, SEARCH_LAYER
from training.auxiliary_losses import Probes, Recorder, read_answers
from training.batches import Batch
from training.corpus import guide, reading
from training.corpus.conversation import Conversation, turn
from training.key_value_memory import MemoryAccess
from training.model import ExpertBalance, Llama4
from training.precision import autocast
from training.render import Renderer
from training.results import Result, Results, outcome

BALANCE_WEIGHT = 0.05
# The weights of the auxiliary losses; a token of an answer has 1. In this order: a token of a
# carried value, an attention target, a token that is read early, a token of the next ids.
VALUE_WEIGHT, ATTENTION_WEIGHT, EARLY_WEIGHT, NEXT_WEIGHT = 1.0, 1.0, 1.0, 0.5


def forward_backward(
    model: Llama4,
    batch: Batch,
    totals: tuple[int, int] | None,
    memory: MemoryAccess | None = None,
    probes: Probes | None = None,
) -> tuple[Results, Tensor]:
    """Compute the losses of a batch, and add their gradients to those of the weights.

    totals: how many tokens of answers, and how many tokens in all, the step has; each batch counts
        by its share. None means no backward pass.
    probes: None means no auxiliary losses.
    Returns the results, and the experts' shares of the tokens [layers with experts, experts].
    """
    balance = ExpertBalance()
    recorder = Recorder(batch.auxiliary) if probes and batch.auxiliary else None
    auxiliary, results = torch.zeros(()), Results()
    with autocast():
        hidden = model(
            batch.ids, batch.positions, batch.starts, balance, batch.outputs, memory, recorder
        )
        logits = model.lm_head(hidden[batch.learn])
        if probes and recorder:
            auxiliary, results = auxiliary_loss(model, probes, recorder)
    every = nn.functional.cross_entropy(logits.float(), batch.targets, reduction="none")
    losses, repeat_losses = every.tensor_split([len(batch.answers)])
    if totals is not None:
        answer_tokens, tokens = totals
        share = batch.tokens / tokens
        loss = ((every * batch.weights).sum() + auxiliary) / answer_tokens
        (loss + BALANCE_WEIGHT * balance.loss() * share).backward()
    wrong = logits[: len(losses)].argmax(-1) != batch.targets[: len(losses)]
    results.add(outcome(batch, losses.detach(), repeat_losses.detach(), wrong))
    return results, balance.load()


def auxiliary_loss(model: Llama4, probes: Probes, recorder: Recorder) -> tuple[Tensor, Results]:
    """Return the weighted sum of the auxiliary losses, and what was right of each."""
    values, following = probes(recorder, model.lm_head.weight)
    early = read_answers(recorder, model.early_logits)
    value_attention, (search, fetch) = torch.stack(recorder.value_losses), recorder.target_losses
    loss = VALUE_WEIGHT * (values.loss + value_attention.sum()) + ATTENTION_WEIGHT * (
        search + fetch
    )
    loss = loss + EARLY_WEIGHT * early.loss + NEXT_WEIGHT * following.loss
    targets = recorder.targets
    value_count, next_count = (
        int((ids != NO_ID).sum()) for ids in (targets.value_ids, targets.next_ids)
    )
    of_search = targets.attention.layer == SEARCH_LAYER
    search_count, fetch_count = int(of_search.sum()), int((~of_search).sum())
    results = Results()
    for name, one, right, count in (
        ("~values", values.loss / len(recorder.value_states), values.right, value_count),
        ("~value attention", value_attention.mean(), 0, value_count),
        ("~search attention", search, 0, search_count),
        ("~next ids", following.loss, following.right, next_count),
        ("~fetch attention", fetch, 0, fetch_count),
        ("~early answers", early.loss, early.right, len(recorder.known.next_id)),
    ):
        results[name].add(Result(float(one.detach()), count, int(right), count))
    return loss, results


@torch.no_grad()
def quick_check(model: Llama4, renderer: Renderer, seed: int, count: int) -> Results:
    """Check the held-out side, and the guide's trained wordings, by teacher forcing.

    This only watches a training run. The figures that count come from `evaluate.py`, which asks
    through l4 itself.

    count: guide questions of each kind; the other skills have up to twice as many conversations.
    """
    rng = Random(f"{seed}/check")
    found = Results()
    drawn = [("known", turn(*pair)) for pair in rng.sample(list(guide.known()), count)]
    drawn += [("unseen", turn(*pair)) for pair in rng.sample(list(guide.unseen()), count)]
    samples = [(name, renderer.sample(Conversation(messages=messages))) for name, messages in drawn]
    for skill in ("extraction", "tools", "manner"):
        for _ in range(2 * count):
            item = corpus.conversation(skill, rng, corpus.HELD_OUT)
            samples.append((skill, renderer.sample(item)))
    for tokens in (250, 1000, 4000):
        for _ in range(count // 6):
            item = reading.conversation(rng, corpus.HELD_OUT, tokens, questions=12)
            samples.append((f"reading{tokens}", renderer.sample(item)))
    for items in batches.group(samples, batches.BATCH_TOKENS):
        found.add(forward_backward(model, batches.pack(items), None)[0])
    return found
