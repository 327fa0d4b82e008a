"""Compares our model with transformers' Llama 4 on an exported checkpoint, in float32:
python -m training.check_against_transformers FOLDER"""

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from training.export import read_weights
from training.model import Balance, Llama4, Shape

LENGTHS = (1, 37, 700, 8300)  # the last crosses a chunk


@torch.no_grad()
def main(folder: Path) -> None:
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = Llama4(Shape(len(tokenizer)))
    read_weights(folder, model)
    torch.manual_seed(0)
    for length in LENGTHS:
        ids = torch.randint(0, len(tokenizer), (2, length))
        expected = theirs(ids).logits.flatten(0, 1)
        positions = torch.arange(length).repeat(2)
        got = model.lm_head(model(ids.flatten(), positions, [0, length], Balance()))
        error = (got - expected).norm() / expected.norm()
        same = (got.argmax(-1) == expected.argmax(-1)).float().mean()
        print(f"{length} tokens: relative error {error:.1e}, same argmax {same:.2%}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
