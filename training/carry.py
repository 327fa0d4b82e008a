"""Auxiliary losses of training: behind a thing, it must be known what was said of it before; an
answer must find in the document what it is to say, and a request its function.

Where a statement names the value first ("Mona Groth owns the Saium cabin."), what stands at the
value cannot know yet whose it is, and past a chunk only a global layer looks back: the value has to
be carried on to the thing, for a question finds that. Answers alone teach it slowly, so the value's
first tokens are asked for there, of what the layer below each global one gives it.

Heads of two layers are shown where to look (`looks.py`), for otherwise the last layer alone would
have to find everything at one look: those of the first global one where an answer stands in the
document, or the function's name in the list, among all that is there; and those of one behind it
where that was found. The answer's ids are asked for again, of what the looking layer makes of what
it found, a few at a time, and of what the layers behind it leave of that.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from training.looks import CARRIED, LOOKING, NONE
from training.marks import Marks, Shown
from training.parts import Shape, rms

# The layers whose heads are shown the value from behind the thing, each below a global one.
POINTING = 1, 6


@dataclass(frozen=True)
class Taps:
    """What one forward pass leaves at its marks: what was found, a tensor a layer below a global
    one; what the looking layer and those behind it made of it; what the looking layer foresees; and
    how far heads were from looking where they are to, a loss a layer."""

    marks: Marks
    found: list[Tensor] = field(default_factory=list)
    made: list[Tensor] = field(default_factory=list)
    foreseen: list[Tensor] = field(default_factory=list)
    pointed: list[Tensor] = field(default_factory=list)
    looked: list[Tensor] = field(default_factory=list)

    @cached_property
    def asked(self) -> Shown:
        """The looks by which an id can be known."""
        return self.marks.looks.those(self.marks.looks.id != NONE)

    def take(self, x: Tensor, layer: int, below_global: bool) -> None:
        """Of hidden states [tokens, hidden] behind a layer, what is asked for there."""
        if below_global:
            self.found.append(x[self.marks.carried])
        if layer == LOOKING:
            self.foreseen.append(x[self.marks.foreseen])
        if layer >= LOOKING:
            self.made.append(x[self.asked.place])

    def point(self, q: Tensor, k: Tensor, segment_of: Tensor) -> None:
        """Of queries and keys [heads, tokens, head_dim], that the first heads look at the value's
        first tokens, one each, from the places that must know them; `segment_of` [tokens] tells
        which tokens see each other."""
        tokens = torch.arange(k.shape[1])
        at, loss = self.marks.carried, torch.zeros(())
        seen = (segment_of == segment_of[at][:, None]) & (tokens <= at[:, None])
        for head in range(CARRIED):
            target = self.marks.origins + head
            wanted = (self.marks.values[:, head] != NONE) & seen.gather(1, target[:, None])[:, 0]
            scores = (q[head, at[wanted]] @ k[head].mT).float() * q.shape[-1] ** -0.5
            scores = scores.masked_fill(~seen[wanted], float("-inf"))
            loss = loss + nn.functional.cross_entropy(scores, target[wanted], reduction="sum")
        self.pointed.append(loss)

    def shown(self, layer: int, segment_of: Tensor) -> Shown:
        """What the layer's heads are shown, as far as they see it."""
        looks = self.marks.looks
        seen = segment_of[looks.place] == segment_of[looks.at]
        return looks.those((looks.layer == layer) & seen)

    def look(self, shown: Shown, q: Tensor, k: Tensor, segment_of: Tensor, behind: Tensor) -> None:
        """That heads look where they are shown to, and at nothing else: neither in their segments
        nor at what lies behind those, whose scores' logarithmic sums are given [shown]."""
        tokens, loss = torch.arange(k.shape[1]), torch.zeros(())
        for head in range(len(q)):
            own = shown.head == head
            place, at = shown.place[own], shown.at[own]
            seen = (segment_of == segment_of[place][:, None]) & (tokens <= place[:, None])
            scores = (q[head, place] @ k[head].mT).float() * q.shape[-1] ** -0.5
            scores = scores.masked_fill(~seen, float("-inf"))
            there = scores.gather(1, at[:, None])[:, 0]
            loss = loss + (scores.logsumexp(-1).logaddexp(behind[own]) - there).sum()
        self.looked.append(loss)


def answered(taps: Taps, read: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Of what `read`, the model's end, makes of the looking layer's output and of those behind it:
    the summed loss of the ids asked for, and how many are right, a layer on average."""
    logits = read(torch.cat(taps.made)).float()
    following = taps.asked.id.repeat(len(taps.made))
    loss = nn.functional.cross_entropy(logits, following, reduction="sum")
    right = (logits.argmax(-1) == following).sum()
    return loss / len(taps.made), right / len(taps.made)


class Carry(nn.Module):
    """Reads a value's ids, a few at a time, from hidden states; not part of the checkpoint."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.eps = shape.eps
        below = sum(shape.is_global(layer) for layer in range(shape.layers))
        wide = CARRIED * shape.hidden
        self.reads = nn.ModuleList(nn.Linear(shape.hidden, wide, bias=False) for _ in range(below))
        self.foresees = nn.Linear(shape.hidden, wide, bias=False)

    def forward(self, taps: Taps, vocabulary: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """With the output matrix [vocab, hidden]: the summed losses of what is carried, and how
        many ids were read right, of the last layer looked at; and both of what is foreseen."""
        loss, right = torch.zeros(()), torch.zeros(())
        for read, hidden in zip(self.reads, taps.found, strict=True):
            own, right = self._read(read, hidden, taps.marks.values, vocabulary)
            loss = loss + own
        ahead = self._read(self.foresees, taps.foreseen[0], taps.marks.coming, vocabulary)
        return loss, right, *ahead

    def _read(
        self, read: nn.Linear, hidden: Tensor, wanted: Tensor, vocabulary: Tensor
    ) -> tuple[Tensor, Tensor]:
        wide = read(rms(hidden, self.eps)).unflatten(-1, (CARRIED, -1))
        logits = (wide @ vocabulary.detach().mT).float().flatten(0, 1)
        known = wanted.flatten()
        loss = nn.functional.cross_entropy(logits, known, ignore_index=NONE, reduction="sum")
        return loss, (logits.argmax(-1) == known).sum()
