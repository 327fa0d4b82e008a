"""Auxiliary losses: they teach layers to find and carry values, which answers alone teach slowly.

- A statement may name its value before the thing that it is about: "Mona Groth owns the Saium
  cabin." The value's tokens cannot know yet whose value it is, and beyond a chunk only a global
  layer looks back. A question finds the thing, so the value must be carried on to the thing. Linear
  probes read the value's first ids at the thing, from the input of each global layer. Heads of
  earlier layers are taught to attend from the thing to the value.
- Heads of the search layer are taught to attend to the answer in the document, or to the function's
  name in the list; heads of the fetch layer to where the search layer found it
  (`attention_targets.py`). Without this the last layer alone would have to find everything at once.
- The answer's ids are read from the output of the search layer and of the layers after it, by the
  model's own output matrix. A probe reads the next ids from the search layer's output.

The probes are not part of the checkpoint.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.attention_targets import GROUP, NO_ID, SEARCH_LAYER
from training.batch_targets import BatchTargets, TargetColumns
from training.dimensions import Dimensions
from training.norm import rms_norm

# The layers whose heads attend from the thing to the value, one before each global layer.
VALUE_LAYERS = 1, 6


@dataclass(frozen=True)
class Recorder:
    """Collects during one forward pass what the auxiliary losses need.

    targets: the batch's targets.
    value_states: hidden states at `targets.value_places` [values, hidden], one tensor for the input
        of each global layer.
    answer_states: hidden states at the queries of `known` [queries, hidden], one tensor for the
        output of each layer from the search layer to the one before the last.
    next_states: hidden states at `targets.next_places` after the search layer, one tensor.
    value_losses: the attention loss of each of VALUE_LAYERS.
    target_losses: the attention losses of the search layer and of the fetch layer.
    """

    targets: BatchTargets
    value_states: list[Tensor] = field(default_factory=list)
    answer_states: list[Tensor] = field(default_factory=list)
    next_states: list[Tensor] = field(default_factory=list)
    value_losses: list[Tensor] = field(default_factory=list)
    target_losses: list[Tensor] = field(default_factory=list)

    @cached_property
    def known(self) -> TargetColumns:
        """The attention targets that make an id known."""
        attention = self.targets.attention
        return attention.where(attention.next_id != NO_ID)

    def record(self, x: Tensor, layer: int, before_global: bool) -> None:
        """Keep what is needed of a layer's output [tokens, hidden]."""
        if before_global:
            self.value_states.append(x[self.targets.value_places])
        if layer == SEARCH_LAYER:
            self.next_states.append(x[self.targets.next_places])
        if layer >= SEARCH_LAYER:
            self.answer_states.append(x[self.known.query])

    def attend_to_values(self, q: Tensor, k: Tensor, segment_of: Tensor) -> None:
        """Add the loss of the first GROUP heads, each of which must attend to one id of the value.

        q, k: the layer's queries and keys [heads, tokens, head_dim].
        segment_of: the number of each token's segment [tokens]; only its tokens are seen.
        """
        tokens = torch.arange(k.shape[1])
        at, loss = self.targets.value_places, torch.zeros(())
        seen = (segment_of == segment_of[at][:, None]) & (tokens <= at[:, None])
        for head in range(GROUP):
            key = self.targets.value_begins + head
            asked = self.targets.value_ids[:, head] != NO_ID
            wanted = asked & seen.gather(1, key[:, None])[:, 0]
            scores = (q[head, at[wanted]] @ k[head].mT).float() * q.shape[-1] ** -0.5
            scores = scores.masked_fill(~seen[wanted], float("-inf"))
            loss = loss + nn.functional.cross_entropy(scores, key[wanted], reduction="sum")
        self.value_losses.append(loss)

    def visible(self, layer: int, segment_of: Tensor) -> TargetColumns:
        """Return a layer's attention targets whose key is in the query's segment."""
        attention = self.targets.attention
        same = segment_of[attention.query] == segment_of[attention.key]
        return attention.where((attention.layer == layer) & same)

    def attend_to_targets(
        self, targets: TargetColumns, q: Tensor, k: Tensor, segment_of: Tensor, gap_scores: Tensor
    ) -> None:
        """Add the loss of heads that must attend to their targets and to nothing else.

        targets: the layer's visible targets.
        q, k, segment_of: as in `attend_to_values`.
        gap_scores: the logarithm of the summed exponentials of each target's scores in the filled
            gaps [targets].
        """
        tokens, loss = torch.arange(k.shape[1]), torch.zeros(())
        for head in range(len(q)):
            own = targets.head == head
            query, key = targets.query[own], targets.key[own]
            seen = (segment_of == segment_of[query][:, None]) & (tokens <= query[:, None])
            scores = (q[head, query] @ k[head].mT).float() * q.shape[-1] ** -0.5
            scores = scores.masked_fill(~seen, float("-inf"))
            wanted = scores.gather(1, key[:, None])[:, 0]
            loss = loss + (scores.logsumexp(-1).logaddexp(gap_scores[own]) - wanted).sum()
        self.target_losses.append(loss)


class Reading(NamedTuple):
    """The summed loss of ids that were read from hidden states, and how many were right."""

    loss: Tensor
    right: Tensor


def read_answers(recorder: Recorder, logits_of: Callable[[Tensor], Tensor]) -> Reading:
    """Read the answers' ids from the outputs of the search layer and of those after it.

    `logits_of` turns hidden states into logits. Loss and count are a layer's average.
    """
    logits = logits_of(torch.cat(recorder.answer_states)).float()
    layers = len(recorder.answer_states)
    wanted = recorder.known.next_id.repeat(layers)
    loss = nn.functional.cross_entropy(logits, wanted, reduction="sum")
    right = (logits.argmax(-1) == wanted).sum()
    return Reading(loss / layers, right / layers)


class Probes(nn.Module):
    """Linear probes that read GROUP ids from one hidden state."""

    def __init__(self, dimensions: Dimensions) -> None:
        super().__init__()
        self.eps = dimensions.eps
        count = sum(dimensions.is_global(layer) for layer in range(dimensions.layers))
        hidden = dimensions.hidden
        self.values = nn.ModuleList(
            nn.Linear(hidden, GROUP * hidden, bias=False) for _ in range(count)
        )
        self.next_ids = nn.Linear(hidden, GROUP * hidden, bias=False)

    def forward(self, recorder: Recorder, vocabulary: Tensor) -> tuple[Reading, Reading]:
        """Read the carried values and the next ids, with the output matrix [vocab, hidden].

        The values' loss is the sum over the global layers; the count is that of the last one.
        """
        targets = recorder.targets
        loss, right = torch.zeros(()), torch.zeros(())
        for probe, hidden in zip(self.values, recorder.value_states, strict=True):
            own, right = self._read(probe, hidden, targets.value_ids, vocabulary)
            loss = loss + own
        following = self._read(self.next_ids, recorder.next_states[0], targets.next_ids, vocabulary)
        return Reading(loss, right), following

    def _read(
        self, probe: nn.Linear, hidden: Tensor, wanted: Tensor, vocabulary: Tensor
    ) -> Reading:
        wide = probe(rms_norm(hidden, self.eps)).unflatten(-1, (GROUP, -1))
        logits = (wide @ vocabulary.detach().mT).float().flatten(0, 1)
        ids = wanted.flatten()
        loss = nn.functional.cross_entropy(logits, ids, ignore_index=NO_ID, reduction="sum")
        return Reading(loss, (logits.argmax(-1) == ids).sum())
