"""Auxiliary losses of training: behind a thing, it must be known what was said of it before; an
answer must find in the document what it is to say, and a request its function.

Where a statement names the value first ("Mona Groth owns the Saium cabin."), what stands at the
value cannot know yet whose it is, and past a chunk only a global layer looks back: the value has to
be carried on to the thing, for a question finds that. Answers alone teach it slowly, so the value's
first tokens are asked for there, of what the layer below each global one gives it.

The first global layer's heads are shown where to look from before an answer's first tokens: at the
value, at the thing's end that it was carried to, at the function's name, or at the very beginning
where there is none, for otherwise the last layer alone would have to find everything at one look.
Those tokens are asked for again, of what the layer makes of what it found, and of what the layers
behind it leave of that.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from demo.marks import NONE, Marks
from demo.parts import Shape, rms
from demo.render import CARRIED

# The layers whose heads are shown the value from behind the thing, each some way below a global
# one; and that whose heads are shown the thing from the answer: global, with layers behind it.
POINTING = 1, 6
LOOKING = 3


@dataclass(frozen=True)
class Taps:
    """What one forward pass leaves at its marks: what was found, a tensor a layer below a global
    one; what the looking layer and those behind it made of it; and how far heads were from looking
    where they are to, a loss a layer."""

    marks: Marks
    found: list[Tensor] = field(default_factory=list)
    made: list[Tensor] = field(default_factory=list)
    pointed: list[Tensor] = field(default_factory=list)
    looked: list[Tensor] = field(default_factory=list)

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

    def look(self, q: Tensor, k: Tensor, segment_of: Tensor) -> None:
        """That a head each looks, from where one of an answer's first ids can be known, at what
        tells it: the value's own, the thing's end, where the value is carried to, or the function's
        name in the list."""
        tokens, loss = torch.arange(k.shape[1]), torch.zeros(())
        for head in range(len(q)):
            chosen = self.marks.heads == head
            at, places = self.marks.looking[chosen], self.marks.sources[chosen]
            seen = (segment_of == segment_of[at][:, None]) & (tokens <= at[:, None])
            scores = (q[head, at] @ k[head].mT).float() * q.shape[-1] ** -0.5
            share = scores.masked_fill(~seen, float("-inf")).log_softmax(-1)
            first, last = share.gather(1, places).unbind(1)
            last = last.masked_fill(places[:, 0] == places[:, 1], float("-inf"))
            loss = loss - first.logaddexp(last).sum()
        self.looked.append(loss)


def answered(taps: Taps, read: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Of what `read`, the model's end, makes of the looking layer's output and of those behind it:
    the summed loss of the ids asked for, and how many are right, a layer on average."""
    logits = read(torch.cat(taps.made)).float()
    following = taps.marks.following.repeat(len(taps.made))
    loss = nn.functional.cross_entropy(logits, following, reduction="sum")
    right = (logits.argmax(-1) == following).sum()
    return loss / len(taps.made), right / len(taps.made)


class Carry(nn.Module):
    """Reads a value's first tokens from hidden states; not part of the checkpoint."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.eps = shape.eps
        below = sum(shape.is_global(layer) for layer in range(shape.layers))
        wide = CARRIED * shape.hidden
        self.reads = nn.ModuleList(nn.Linear(shape.hidden, wide, bias=False) for _ in range(below))

    def forward(self, taps: Taps, vocabulary: Tensor) -> tuple[Tensor, Tensor]:
        """With the output matrix [vocab, hidden], the summed losses, and how many of the values'
        ids were read right, of the last layer looked at."""
        loss, right = torch.zeros(()), torch.zeros(())
        for read, hidden in zip(self.reads, taps.found, strict=True):
            wide = read(rms(hidden, self.eps)).unflatten(-1, (CARRIED, -1))
            logits = (wide @ vocabulary.detach().mT).float().flatten(0, 1)
            wanted = taps.marks.values.flatten()
            loss = loss + nn.functional.cross_entropy(
                logits, wanted, ignore_index=NONE, reduction="sum"
            )
            right = (logits.argmax(-1) == wanted).sum()
        return loss, right
