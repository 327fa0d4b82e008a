"""A training run in a folder: its tokenizer, weights, averages, and what it needs to go on."""

import json
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer

from training import corpus, optimizer, tokenizer
from training.carry import Carry
from training.corpus import guide, words
from training.export import read_weights
from training.model import Llama4, Shape
from training.team import Team

EMA = 0.99


def make_tokenizer(seed: int) -> Tokenizer:
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
    """A run as it stands: begun anew or from the checkpoint `start`, or gone on with where `out`
    holds one. Its weights and averages are what all processes share."""

    def __init__(self, out: Path, seed: int, start: Path | None = None) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.out, self.seed = out, seed
        path = out / "tokenizer.json"
        if start:
            path.write_bytes((start / "tokenizer.json").read_bytes())
        elif not path.exists():
            path.write_text(make_tokenizer(seed).to_str(), "utf8")
        self.tokenizer = tokenizer.load(path)
        words.use_pieces(self.tokenizer.decode([i]) for i in range(self.tokenizer.get_vocab_size()))
        torch.manual_seed(seed)
        self.model = Llama4(Shape(self.tokenizer.get_vocab_size()))
        if start:
            read_weights(start, self.model)
        self.carry = Carry(self.model.shape)
        self.step, self.spent = 0, 0.0
        named = self.model.named_parameters()
        self.average = {name: w.detach().clone().share_memory_() for name, w in named}
        if (out / "state.pt").exists():
            self._resume()

    def _resume(self) -> None:
        state = torch.load(self.out / "state.pt")
        self.model.load_state_dict(state["model"])
        self.carry.load_state_dict(state["carry"])
        for name, average in self.average.items():
            average.copy_(state["average"][name])
        self.step, self.spent = state["step"], state["spent"]

    def named(self) -> list[tuple[str, torch.nn.Parameter]]:
        """The weights: the model's, then those of the auxiliary losses."""
        return [*self.model.named_parameters(), *self.carry.named_parameters(prefix="carry")]

    def optimizers(self, team: Team, lr: float) -> list[torch.optim.Optimizer]:
        """Of the process's own weights, as they were left with the weights at hand."""
        named = self.named()
        own = [named[i] for i in team.own]
        made = optimizer.make(own, lr)
        path = self._optimizers_path(team)
        saved = torch.load(path) if path.exists() else None
        if saved and (saved["step"], saved["names"]) == (self.step, [name for name, _ in own]):
            for opt, state in zip(made, saved["states"], strict=True):
                opt.load_state_dict(state)
        elif self.step:
            print(f"{path} is not of step {self.step}: momentum begins anew", flush=True)
        return made

    def note_average(self, team: Team) -> None:
        """Of the process's own weights."""
        decay = min(EMA, (self.step + 1) / (self.step + 10))
        averages = list(self.average.values())
        own = [i for i in team.own if i < len(averages)]
        current = [team.weights[i].detach() for i in own]
        torch._foreach_lerp_([averages[i] for i in own], current, 1 - decay)

    def averaged(self) -> Llama4:
        """A model of the averaged weights: what is checked and exported."""
        model = Llama4(self.model.shape)
        model.load_state_dict(self.average)
        return model

    def save(self, team: Team, optimizers: list[torch.optim.Optimizer], spent: float) -> None:
        """Each process its optimizers; the first one all else."""
        names = [self.named()[i][0] for i in team.own]
        states = [opt.state_dict() for opt in optimizers]
        own = {"step": self.step, "names": names, "states": states}
        _write(own, self._optimizers_path(team))
        if team.rank:
            return
        state = {
            "model": self.model.state_dict(),
            "carry": self.carry.state_dict(),
            "average": self.average,
            "step": self.step,
            "spent": spent,
        }
        _write(state, self.out / "state.pt")

    def _optimizers_path(self, team: Team) -> Path:
        return self.out / f"optimizers-{team.rank}-of-{team.size}.pt"


def _write(state: object, path: Path) -> None:
    part = path.with_name(path.name + ".part")
    torch.save(state, part)
    part.replace(path)
