"""Compares a document that is computed as a whole with its second half before a backdrop of its
first: the hidden states must be the same, but for the memory's bfloat16.
python -m training.check_backdrop FOLDER"""

import sys
from pathlib import Path
from random import Random

import torch

from training import corpus, tokenizer
from training.backdrop import Backdrop, Memory
from training.export import read_weights
from training.model import Balance, Llama4, Shape
from training.render import Renderer

TOKENS = 360  # the first half is at most what a chunk's queries see of a backdrop


@torch.no_grad()
def main(folder: Path) -> None:
    trained = tokenizer.load(folder / "tokenizer.json")
    model = Llama4(Shape(trained.get_vocab_size()))
    read_weights(folder, model)
    conversation = corpus.conversation("reading", Random(4), corpus.HELD_OUT, 2 * TOKENS)
    ids = torch.tensor(Renderer(trained).sample(conversation).ids[: 2 * TOKENS])
    positions = torch.arange(len(ids))
    memory = Memory()
    recall = memory.recall([None], positions)
    whole = model(ids, positions, [0], Balance(), recall=recall)
    memory.add(recall.noted)
    drawn = (torch.arange(TOKENS) + 0.5) / len(ids)
    first = Backdrop(positions[:TOKENS], drawn, each=1.0)
    recall = memory.recall([first], positions[:0])
    second = model(ids[TOKENS:], positions[TOKENS:], [0], Balance(), recall=recall)
    errors = (second - whole[TOKENS:]).norm(dim=-1) / whole[TOKENS:].norm(dim=-1)
    print(f"{len(errors)} tokens: median error {errors.median():.1e}, largest {errors.max():.1e}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
