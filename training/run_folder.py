"""A training run in a folder: its tokenizer, its weights, and what it needs to continue."""

import json
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import torch
from tokenizers import Tokenizer

from training import checkpoint, corpus, optimizer, tokenizer
from training.auxiliary_losses import Probes
from training.corpus import guide, words
from training.dimensions import Dimensions
from training.model import Llama4
from training.workers import Worker

AVERAGE_DECAY = 0.99  # of the moving average of the weights


def make_tokenizer(seed: int) -> Tokenizer:
    """Train the tokenizer on conversations of all skills to train on."""
    rng = Random(f"{seed}/tokenizer")
    texts = [text for pair in guide.known() for text in pair]
    counts = {"guide": 4000, "reading": 1500, "extraction": 4000, "tools": 3000, "manner": 4000}
    for skill, count in counts.items():
        for _ in range(count):
            conversation = corpus.conversation(skill, rng, corpus.TRAIN)
            texts += [message["content"] for message in conversation["messages"]]
            texts += [json.dumps(tool) for tool in conversation.get("tools", [])]
            texts += ["assistant", "user", "system", "ipython", "\n\n"]
    return tokenizer.train(texts)


class Run:
    """A training run, continued if its folder holds one, else new.

    All processes share its weights and their moving averages.
    """

    def __init__(
        self,
        out: Path,
        seed: int,
        start: Path | None = None,
        width: int = Dimensions.hidden,
    ) -> None:
        """Open or begin the run.

        out: the run's folder.
        seed: of the tokenizer's texts, the initial weights and the data.
        start: a checkpoint whose tokenizer and weights a new run begins with; None: from nothing.
        width: of the hidden states and of experts and MLPs, if the run begins from nothing.
        """
        out.mkdir(parents=True, exist_ok=True)
        self.out = out
        path, state_path = out / "tokenizer.json", out / "state.pt"
        if start and not path.exists():
            path.write_bytes((start / path.name).read_bytes())
        elif not path.exists():
            path.write_text(make_tokenizer(seed).to_str(), "utf8")
        self.tokenizer = tokenizer.load(path)
        size = self.tokenizer.get_vocab_size()
        words.use_pieces(self.tokenizer.decode([i]) for i in range(size))
        torch.manual_seed(seed)
        state = torch.load(state_path) if state_path.exists() else None
        if state:
            self.model = Llama4(Dimensions(**state["dimensions"]))
        elif start:
            self.model = checkpoint.read(start)
        else:
            self.model = Llama4(
                Dimensions(size, hidden=width, expert_width=width, dense_width=width)
            )
        self.probes = Probes(self.model.dimensions)
        self.step, self.spent = 0, 0.0
        named = self.model.named_parameters()
        self.average = {name: w.detach().clone().share_memory_() for name, w in named}
        if state:
            self._load(state)

    def _load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.probes.load_state_dict(state["probes"])
        for name, average in self.average.items():
            average.copy_(state["average"][name])
        self.step, self.spent = state["step"], state["spent"]

    def named(self) -> list[tuple[str, torch.nn.Parameter]]:
        """Return the weights by name: the model's, then those of the probes."""
        return [*self.model.named_parameters(), *self.probes.named_parameters(prefix="probes")]

    def optimizers(self, worker: Worker, lr: float) -> list[torch.optim.Optimizer]:
        """Return the optimizers of the process's own weights, with their saved state."""
        named = self.named()
        own = [named[i] for i in worker.own]
        made = optimizer.make(own, lr)
        path = self._optimizers_path(worker)
        saved = torch.load(path) if path.exists() else None
        if saved and (saved["step"], saved["names"]) == (self.step, [name for name, _ in own]):
            for opt, state in zip(made, saved["states"], strict=True):
                opt.load_state_dict(state)
        elif self.step:
            print(f"{path} is not of step {self.step}: momentum starts from zero", flush=True)
        return made

    def update_average(self, worker: Worker) -> None:
        """Move the averages of the process's own weights towards the weights."""
        decay = min(AVERAGE_DECAY, (self.step + 1) / (self.step + 10))
        averages = list(self.average.values())
        own = [i for i in worker.own if i < len(averages)]
        current = [worker.weights[i].detach() for i in own]
        torch._foreach_lerp_([averages[i] for i in own], current, 1 - decay)

    def averaged(self) -> Llama4:
        """Return a model of the averaged weights, which are what is checked and exported."""
        model = Llama4(self.model.dimensions)
        model.load_state_dict(self.average)
        return model

    def save(self, worker: Worker, optimizers: list[torch.optim.Optimizer], spent: float) -> None:
        """Save the process's optimizers; in the first process everything else, too.

        spent: the seconds of training so far.
        """
        names = [self.named()[i][0] for i in worker.own]
        states = [opt.state_dict() for opt in optimizers]
        own = {"step": self.step, "names": names, "states": states}
        _write(own, self._optimizers_path(worker))
        if worker.rank:
            return
        state = {
            "dimensions": asdict(self.model.dimensions),
            "model": self.model.state_dict(),
            "probes": self.probes.state_dict(),
            "average": self.average,
            "step": self.step,
            "spent": spent,
        }
        _write(state, self.out / "state.pt")

    def _optimizers_path(self, worker: Worker) -> Path:
        return self.out / f"optimizers-{worker.rank}-of-{worker.size}.pt"


def _write(state: object, path: Path) -> None:
    part = path.with_name(path.name + ".part")
    torch.save(state, part)
    part.replace(path)
