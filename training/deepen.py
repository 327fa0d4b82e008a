"""Makes eight layers of a checkpoint of four that all route, without changing what it computes:
python -m training.deepen FOUR EIGHT

The old attentions and experts keep their order among new ones whose outputs begin at nothing (as in
LLaMA Pro's block expansion, arXiv 2401.02415): the new take their inputs' weights from the old that
stand nearest, and only what leads back into the residual stream is zero.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from training import tokenizer
from training.export import read_weights, write
from training.model import Llama4
from training.parts import Shape

# For each of the eight: the old layer whose attention it has or begins from, and whether it has it.
ATTENTIONS = (
    (0, True),
    (0, False),
    (1, True),
    (3, False),
    (2, True),
    (2, False),
    (2, False),
    (3, True),
)


def deepened(old: dict[str, Tensor], shape: Shape) -> dict[str, Tensor]:
    """The weights of the eight layers, from those of the four."""
    new = {}
    for name, like in Llama4(shape).named_parameters():
        if not name.startswith("layers."):
            new[name] = old[name]
            continue
        _, number, part = name.split(".", 2)
        layer = int(number)
        attention, kept = ATTENTIONS[layer]
        if part.startswith(("self_attn.", "input_layernorm.")):
            new[name] = old[f"layers.{attention}.{part}"]
            if part.startswith("self_attn.o_proj") and not kept:
                new[name] = torch.zeros_like(like)
        elif shape.is_moe(layer):
            new[name] = old[f"layers.{layer // 2}.{part}"]
        elif part.startswith("feed_forward.down_proj"):
            new[name] = torch.zeros_like(like)
        else:
            dense = part.replace("feed_forward.", "feed_forward.shared_expert.")
            new[name] = old[f"layers.{layer // 2}.{dense}"]
    return new


def deepen(four: Path, eight: Path) -> None:
    trained = tokenizer.load(four / "tokenizer.json")
    shape = Shape(trained.get_vocab_size())
    shallow = Llama4(replace(shape, layers=4, moe_interval=1))
    read_weights(four, shallow)
    eight.mkdir(parents=True)
    old = {name: weight.detach() for name, weight in shallow.named_parameters()}
    write(eight, shape, deepened(old, shape), trained)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("four", type=Path)
    parser.add_argument("eight", type=Path)
    options = parser.parse_args()
    deepen(options.four, options.eight)
