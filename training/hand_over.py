"""Makes layers hand over what they find: python -m training.hand_over RUN [--verdicts HEAD]

`carry.py` has by then learnt to read a value's first tokens behind its thing, each by a matrix,
from what the looking layer is given. A head's values and its output are together such a matrix, of
the head's rank: so each head is given one of them, as far as that goes (its largest singular
values), and training goes on from there. To learn the same from small weights takes thousands of
steps.

With --verdicts it is the recalling layer, which has learnt to look behind a request's noun, where
is known whether a function fits: a head of its own, that looks as the one which learnt it, gives
the answer's place what was made there of the tokens by which such answers begin.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from training import tokenizer
from training.corpus.tools import MORE_VERBS, NO_CALL, VERBS
from training.looks import FIRST_FOUND, LOOKING, RECALLING, REQUEST
from training.parts import Shape
from training.tokenizer import without_special

STATE_SIZE = 11.0  # the root mean square of hidden states before the recalling layer, measured


def factors(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """[out, rank] and [rank, in], whose product is nearest to the matrix (Eckart and Young)."""
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    root = s[:rank].sqrt()
    return u[:, :rank] * root, root[:, None] * v[:rank]


def hand_over(weights: dict[str, Tensor], read: Tensor, shape: Shape) -> None:
    """Change the weights in place: head n + 1 hands over a value's token n. `read` is the looking
    layer's, [tokens x hidden, hidden]. Heads that share their values share the rank, too."""
    layer, size = f"layers.{LOOKING}.", shape.head_dim
    output, values = (
        weights[layer + "self_attn.o_proj.weight"],
        weights[layer + "self_attn.v_proj.weight"],
    )
    scale_in, scale_out = weights[layer + "input_layernorm.weight"], weights["norm.weight"]
    sharing = shape.heads // shape.kv_heads
    reads = dict(enumerate(read.split(shape.hidden), FIRST_FOUND))
    for kv_head in range(shape.kv_heads):
        heads = [h for h in range(kv_head * sharing, (kv_head + 1) * sharing) if h in reads]
        outs, ins = factors(torch.cat([reads[head] for head in heads]), size)
        values[kv_head * size : (kv_head + 1) * size] = ins / scale_in
        for head, out in zip(heads, outs.split(shape.hidden), strict=True):
            output[:, head * size : (head + 1) * size] = (
                out * (scale_out.mean() / scale_out)[:, None]
            )


def beginnings(run: Path) -> list[int]:
    """The first ids of answers to a request: none fits, or a call."""
    plain = without_special(tokenizer.load(run / "tokenizer.json"))
    answers = [NO_CALL, *(f"[{verb}_" for verb in (*VERBS, *MORE_VERBS))]
    return sorted({plain.encode(text, add_special_tokens=False).ids[0] for text in answers})


def hand_verdicts(weights: dict[str, Tensor], learnt: int, ids: list[int], shape: Shape) -> None:
    """Change the weights in place: the requests' head looks as the `learnt` one does, and gives
    on what of hidden states tells these ids apart, at the size that it has there."""
    layer, size = f"layers.{RECALLING}.", shape.head_dim
    sharing = shape.heads // shape.kv_heads
    named = {name: weights[f"{layer}self_attn.{name}_proj.weight"] for name in "qkvo"}
    queries, keys = (named[name].unflatten(0, (-1, size)) for name in "qk")
    queries[REQUEST] = queries[learnt]
    keys[REQUEST // sharing] = keys[learnt // sharing]
    rows = weights["lm_head.weight"][ids] * weights["norm.weight"]
    u, s, _ = torch.linalg.svd((rows - rows.mean(0)).T, full_matrices=False)
    kept = u[:, s > 0.05 * s[0]][:, :size]
    values = named["v"].unflatten(0, (-1, size))[REQUEST // sharing]
    values.zero_()
    values[: kept.shape[1]] = kept.T / weights[layer + "input_layernorm.weight"]
    output = named["o"].unflatten(1, (-1, size))
    first = REQUEST // sharing * sharing
    output[:, first : first + sharing] = 0
    output[:, REQUEST, : kept.shape[1]] = kept * STATE_SIZE


def main(run: Path, verdicts: int | None) -> None:
    state, shape = torch.load(run / "state.pt"), Shape(0)
    number = sum(shape.is_global(layer) for layer in range(LOOKING))
    read, ids = state["carry"][f"reads.{number}.weight"], beginnings(run)
    for name in ("model", "average"):
        if verdicts is None:
            hand_over(state[name], read, shape)
        else:
            hand_verdicts(state[name], verdicts, ids, shape)
    torch.save(state, run / "state.pt")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="the folder of a training run; its state is changed")
    parser.add_argument("--verdicts", type=int, metavar="HEAD", help="the head that learnt to look")
    options = parser.parse_args()
    main(options.run, options.verdicts)
