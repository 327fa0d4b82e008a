"""Compares our model with transformers' Llama 4 on an exported checkpoint, in float32:
python -m demo.check_against_transformers FOLDER"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from demo.export import checkpoint_name
from demo.model import Llama4, Shape

LENGTHS = (1, 37, 700)


def ours(folder: Path, shape: Shape) -> Llama4:
    stored = {k: v for path in folder.glob("*.safetensors") for k, v in load_file(path).items()}
    model = Llama4(shape)
    names = [name for name, _ in model.named_parameters()]
    model.load_state_dict({name: stored[checkpoint_name(name)].float() for name in names})
    return model


@torch.no_grad()
def main(folder: Path) -> None:
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = ours(folder, Shape(len(tokenizer)))
    torch.manual_seed(0)
    for length in LENGTHS:
        ids = torch.randint(0, len(tokenizer), (2, length))
        expected = theirs(ids).logits
        got = model.lm_head(model(ids, torch.ones_like(ids, dtype=torch.bool)))
        error = (got - expected).norm() / expected.norm()
        same = (got.argmax(-1) == expected.argmax(-1)).float().mean()
        print(f"{length} tokens: relative error {error:.1e}, same argmax {same:.2%}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
