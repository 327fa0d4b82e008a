"""Make the golden of experts with transformers, in float32. Needs the `train` extra.

    python tests/golden/make_experts.py

experts.npz holds, for each tiny checkpoint with experts: NAME `tokens` [n], `experts` [layers, n,
per token] in ascending order, -1 in layers without experts, and the checkpoint's `fingerprint`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from make_logits import tiny_tokens
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import checkpoints  # noqa: E402
import decoders  # noqa: E402

KINDS = ("scout", "maverick", "mixtral", "qwen3moe")


def main() -> None:
    golden: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for kind in KINDS:
            path, tokens = Path(scratch) / kind, tiny_tokens(40)
            if kind in decoders.KINDS:
                decoders.write_decoder(path, kind)
            else:
                checkpoints.write_checkpoint(path, kind=kind)
            golden[f"{kind} tokens"] = np.asarray(tokens, np.int32)
            golden[f"{kind} experts"] = chosen_experts(path, tokens)
            golden[f"{kind} fingerprint"] = np.asarray(checkpoints.fingerprint(path))
            print(kind, golden[f"{kind} experts"].shape)
    np.savez_compressed(HERE / "experts.npz", **golden)


@torch.no_grad()
def chosen_experts(path: Path, tokens: list[int]) -> NDArray[np.int16]:
    """Return what the model's own routers choose."""
    options: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": "eager"}
    model = AutoModelForCausalLM.from_pretrained(path, **options).eval()
    per_token: int = model.config.num_experts_per_tok
    layers = model.model.layers
    found = np.full((len(layers), len(tokens), per_token), -1, np.int16)

    def watch(layer: int) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            found[layer] = np.sort(indices(output, per_token).numpy(), axis=1)

        return hook

    for number, layer in enumerate(layers):
        for name, module in layer.named_modules():
            if name.rpartition(".")[2] in ("router", "gate"):
                module.register_forward_hook(watch(number))
    model(torch.tensor([tokens]))
    return found


def indices(output: Any, per_token: int) -> torch.Tensor:
    """Return the experts that a router's output names [tokens, per token]."""
    parts = output if isinstance(output, tuple) else (output,)
    whole = [part for part in parts if not part.is_floating_point()]
    if whole:
        return whole[0].reshape(-1, per_token)
    # Llama 4's scores are 0 but for the chosen experts; a plain gate gives logits.
    scores = parts[0].reshape(-1, parts[0].shape[-1])
    return scores.topk(per_token, dim=-1).indices


if __name__ == "__main__":
    main()
