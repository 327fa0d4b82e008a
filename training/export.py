"""Writes a run's averaged weights as a Hugging Face checkpoint:

python -m training.export RUN FOLDER
"""

import argparse
import shutil
from pathlib import Path

import torch

from training import checkpoint, tokenizer
from training.dimensions import Dimensions


def export(run: Path, out: Path) -> None:
    """Write the checkpoint to OUT.part, then swap it with what `out` held."""
    trained = tokenizer.load(run / "tokenizer.json")
    state = torch.load(run / "state.pt", map_location="cpu")
    part, old = out.with_name(out.name + ".part"), out.with_name(out.name + ".old")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    checkpoint.write(part, Dimensions(**state["dimensions"]), state["average"], trained)
    shutil.copy(Path(__file__).parent / "MODEL_CARD.md", part / "README.md")
    if out.exists():
        out.rename(old)
    part.rename(out)
    shutil.rmtree(old, ignore_errors=True)
    print(f"{out}: step {state['step']}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Writes a run as a Hugging Face checkpoint.")
    parser.add_argument("run", type=Path, help="the run's folder (--out of training.train)")
    parser.add_argument("folder", type=Path, help="the checkpoint's folder; replaced if it exists")
    options = parser.parse_args()
    export(options.run, options.folder)
