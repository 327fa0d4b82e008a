"""Makes the looking layer hand over what it finds: python -m demo.hand_over RUN

`carry.py` has by then learnt to read a value's first tokens behind its thing, each by a matrix,
from what the looking layer is given. A head's values and its output are together such a matrix, of
the head's rank: so each head is given one of them, as far as that goes (its largest singular
values), and training goes on from there. To learn the same from small weights takes thousands of
steps.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from demo.looks import LOOKING
from demo.parts import Shape


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
    reads = dict(enumerate(read.split(shape.hidden), 1))
    for kv_head in range(shape.kv_heads):
        heads = [h for h in range(kv_head * sharing, (kv_head + 1) * sharing) if h in reads]
        outs, ins = factors(torch.cat([reads[head] for head in heads]), size)
        values[kv_head * size : (kv_head + 1) * size] = ins / scale_in
        for head, out in zip(heads, outs.split(shape.hidden), strict=True):
            output[:, head * size : (head + 1) * size] = (
                out * (scale_out.mean() / scale_out)[:, None]
            )


def main(run: Path) -> None:
    state = torch.load(run / "state.pt")
    number = sum(Shape(0).is_global(layer) for layer in range(LOOKING))
    for name in ("model", "average"):
        hand_over(state[name], state["carry"][f"reads.{number}.weight"], Shape(0))
    torch.save(state, run / "state.pt")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="the folder of a training run; its state is changed")
    main(parser.parse_args().run)
