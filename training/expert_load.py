"""How evenly the experts of an exported checkpoint are used, on a mixture of all skills' held-out
side: python -m training.expert_load FOLDER"""

import argparse
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from training import batches, corpus, tokenizer
from training.export import read_weights
from training.model import Balance, Llama4, Shape
from training.render import Renderer

COUNT = 80  # conversations a skill
READING_TOKENS = 600


@torch.no_grad()
def load(folder: Path, seed: int) -> Tensor:
    """[layer that routes, expert] share of the tokens."""
    trained = tokenizer.load(folder / "tokenizer.json")
    renderer = Renderer(trained)
    model = Llama4(Shape(trained.get_vocab_size()))
    read_weights(folder, model)
    rng = Random(f"{seed}/load")
    drawn = [
        (skill, renderer.sample(corpus.conversation(skill, rng, corpus.HELD_OUT, READING_TOKENS)))
        for skill in corpus.SKILLS
        for _ in range(COUNT if skill != "reading" else COUNT // 4)
    ]
    taken, tokens = torch.zeros(()), 0
    for items in batches.group(drawn, batches.PACKED):
        batch, balance = batches.pack(items), Balance()
        model(batch.ids, batch.positions, batch.starts, balance)
        taken = taken + balance.load() * batch.tokens
        tokens += batch.tokens
    return taken / tokens


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=4)
    options = parser.parse_args()
    routing = filter(Shape(0).is_moe, range(Shape(0).layers))
    for layer, shares in zip(routing, load(options.folder, options.seed), strict=True):
        print(f"layer {layer}: {shares.min():.1%} to {shares.max():.1%}")
