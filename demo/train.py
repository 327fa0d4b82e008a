"""Trains the demo model: python -m demo.train --out FOLDER --steps N (see README.md)."""

import argparse
import json
import signal
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from threading import Event

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from demo import batches, corpus, optimizer, tokenizer
from demo.backdrop import Memory, Recall
from demo.batches import Batch
from demo.carry import NONE, Carry, Taps, answered
from demo.corpus import guide, reading, words
from demo.export import read_weights
from demo.model import Balance, Llama4, Shape
from demo.render import Renderer

BALANCE = 0.03
ECHO = 0.2  # what an echo counts beside an answer's token
CARRY = 0.3  # and a token of a value that is to be carried
FOUND = 0.5  # and an answer's, of what the looking layer has found
EMA = 0.99


@dataclass
class Schedule:
    """How far training is: by steps, or by minutes where a limit in time is given."""

    steps: int
    minutes: float | None
    spent: float = 0.0  # seconds in earlier runs

    def __post_init__(self) -> None:
        self.began = time.monotonic()

    def elapsed(self) -> float:
        return self.spent + time.monotonic() - self.began

    def progress(self, step: int) -> float:
        by_time = self.elapsed() / 60 / self.minutes if self.minutes else 0.0
        return max(step / self.steps, by_time)


def learning_rate(peak: float, step: int, progress: float) -> float:
    """Warm up, stay, and fall to nothing over the last two fifths."""
    return peak * min(1.0, (step + 1) / 100) * min(1.0, max(0.02, (1 - progress) / 0.4))


def longest_at(progress: float, shortest: int, longest: int) -> int:
    """The reading documents grow from the first limit to the longest over the first 80%."""
    return int(shortest * (longest / shortest) ** min(1.0, progress / 0.8))


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


@dataclass
class Result:
    """Sums over learnt tokens and answers; an answer is right if greedy decoding would write it."""

    loss: float = 0.0
    tokens: int = 0
    right: int = 0
    answers: int = 0

    def add(self, other: "Result") -> None:
        self.loss += other.loss
        self.tokens += other.tokens
        self.right += other.right
        self.answers += other.answers

    def __str__(self) -> str:
        right = self.right / max(1, self.answers)
        return f"{self.loss / max(1, self.tokens):.3f} {right:.1%}"


class Results(defaultdict[str, Result]):
    """A result a skill."""

    def __init__(self) -> None:
        super().__init__(Result)

    def add(self, other: "Results") -> None:
        for skill, result in other.items():
            self[skill].add(result)


def run(
    model: Llama4,
    batch: Batch,
    totals: tuple[int, int] | None,
    recall: Recall | None = None,
    carry: Carry | None = None,
) -> tuple[Results, Tensor]:
    """Forward, and backward where the step's totals of learnt and of all tokens are given. Returns
    what was right, and the experts' load [layer, expert]."""
    balance = Balance()
    taps = None
    if carry and len(batch.carried):
        taps = Taps(
            batch.carried, batch.origins, batch.values,
            batch.looking, batch.sources, batch.ids[batch.looking + 1],
        )  # fmt: skip
    carried, pointed, found = torch.zeros(()), torch.zeros(()), torch.zeros(())
    results = Results()
    # Threads share the weights, and would share the cache of their casts.
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        hidden = model(
            batch.ids, batch.positions, batch.starts, balance, batch.wanted, recall, taps
        )
        logits = model.lm_head(hidden[batch.learn])
        if carry and taps:
            carried, right = carry(taps, model.lm_head.weight)
            pointed = torch.stack(taps.pointed + taps.looked).sum()
            count = int((batch.values != NONE).sum())
            both = float(carried.detach()) / len(taps.found)
            results["~carried"].add(Result(both, count, int(right), count))
            at_value, at_thing = (
                float(torch.stack(losses).mean().detach()) for losses in (taps.pointed, taps.looked)
            )
            results["~pointed"].add(Result(at_value, count, 0, count))
            results["~looked"].add(Result(at_thing, len(batch.looking), 0, len(batch.looking)))
            found, right = answered(taps, model.early)
            count = len(batch.looking)
            results["~answered"].add(Result(float(found.detach()), count, int(right), count))
    every = nn.functional.cross_entropy(logits.float(), batch.targets, reduction="none")
    losses, echoes = every.tensor_split([len(batch.answers)])
    if totals is not None:
        learnt, tokens = totals
        share = batch.tokens / tokens
        loss = (
            losses.sum() + ECHO * echoes.sum() + CARRY * (carried + pointed) + FOUND * found
        ) / learnt
        (loss + BALANCE * balance.loss() * share).backward()
    wrong = logits[: len(losses)].argmax(-1) != batch.targets[: len(losses)]
    results.add(outcome(batch, losses.detach(), echoes.detach(), wrong))
    return results, balance.load()


def outcome(batch: Batch, losses: Tensor, echoes: Tensor, wrong: Tensor) -> Results:
    """From each learnt token's loss and whether it would have been wrong."""
    count = len(batch.skills)
    mistakes = torch.zeros(count).index_add_(0, batch.answers, wrong.float())
    sums = torch.zeros(count).index_add_(0, batch.answers, losses)
    lengths = torch.bincount(batch.answers, minlength=count)
    results = Results()
    per_answer = zip(batch.skills, sums.tolist(), lengths.tolist(), mistakes.tolist(), strict=True)
    for skill, loss, length, missed in per_answer:
        results[skill].add(Result(loss, length, int(missed == 0), 1))
    results["~echo"].add(Result(float(echoes.sum()), len(echoes)))
    return results


def train_step(
    model: Llama4,
    optimizers: list,
    carry: Carry,
    step_data: list[Batch],
    memory: Memory,
    lr: float,
    pool: ThreadPoolExecutor,
) -> tuple[Results, Tensor]:
    """One update. Each thread takes whole batches, the largest first, and computes alone: threads
    within an operation would wait for each other at each."""
    learnt = sum(len(batch.answers) for batch in step_data)
    tokens = sum(batch.tokens for batch in step_data)
    largest_first = sorted(step_data, key=lambda batch: -batch.tokens)
    recalls = [memory.recall(batch.backdrops, batch.kept) for batch in largest_first]
    results, load = Results(), torch.zeros(())
    for found, own in pool.map(
        lambda batch, recall: run(model, batch, (learnt, tokens), recall, carry),
        largest_first,
        recalls,
    ):
        results.add(found)
        load = load + own / len(step_data)
    for recall in recalls:
        memory.add(recall.noted)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for opt in optimizers:
        for group in opt.param_groups:
            group["lr"] = lr
    list(pool.map(lambda opt: opt.step(), optimizers))
    for opt in optimizers:
        opt.zero_grad()
    return results, load


@torch.no_grad()
def quick_check(model: Llama4, renderer: Renderer, seed: int, count: int = 24) -> Results:
    """The held-out side, and the guide's trained wordings, by teacher forcing: a watch on training.
    The figures that count come from `evaluate.py`, through the product."""
    rng = Random(f"{seed}/check")
    found = Results()
    drawn = [("known", guide.turn(*pair)) for pair in rng.sample(list(guide.known()), count)]
    drawn += [("unseen", guide.turn(*pair)) for pair in rng.sample(list(guide.unseen()), count)]
    samples = [(name, renderer.sample({"messages": messages})) for name, messages in drawn]
    for skill in ("extraction", "tools", "manner"):
        for _ in range(2 * count):
            item = corpus.conversation(skill, rng, corpus.HELD_OUT)
            samples.append((skill, renderer.sample(item)))
    for tokens in (250, 1000, 4000):
        for _ in range(count // 6):
            item = reading.conversation(rng, corpus.HELD_OUT, tokens, questions=12)
            samples.append((f"reading{tokens}", renderer.sample(item)))
    for items in batches.group(samples, batches.PACKED):
        found.add(run(model, batches.pack(items), None)[0])
    return found


class Run:
    """A training run in a folder: its tokenizer, weights, averages, and what it needs to go on."""

    def __init__(self, out: Path, seed: int, lr: float, start: Path | None = None) -> None:
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
        self.optimizers = optimizer.make(self.model, self.carry, lr)
        self.average = {name: w.detach().clone() for name, w in self.model.named_parameters()}
        self.step, self.spent = 0, 0.0
        if (out / "state.pt").exists():
            self._resume()

    def _resume(self) -> None:
        state = torch.load(self.out / "state.pt")
        self.model.load_state_dict(state["model"])
        self.carry.load_state_dict(state["carry"])
        for opt, saved in zip(self.optimizers, state["optimizers"], strict=True):
            opt.load_state_dict(saved)
        self.average, self.step, self.spent = state["average"], state["step"], state["spent"]

    def note_average(self) -> None:
        decay = min(EMA, (self.step + 1) / (self.step + 10))
        current = [w.detach() for w in self.model.parameters()]
        torch._foreach_lerp_(list(self.average.values()), current, 1 - decay)

    def averaged(self) -> Llama4:
        """A model of the averaged weights: what is checked and exported."""
        model = Llama4(self.model.shape)
        model.load_state_dict(self.average)
        return model

    def save(self, spent: float) -> None:
        state = {
            "model": self.model.state_dict(),
            "carry": self.carry.state_dict(),
            "optimizers": [opt.state_dict() for opt in self.optimizers],
            "average": self.average,
            "step": self.step,
            "spent": spent,
        }
        torch.save(state, self.out / "state.pt.part")
        (self.out / "state.pt.part").replace(self.out / "state.pt")


def report(step: int, schedule: Schedule, line: dict) -> None:
    shown = {name: str(value) for name, value in sorted(line.items())}
    print(f"{step} {schedule.elapsed() / 60:.1f}min {shown}", flush=True)


def train(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    run_ = Run(options.out, options.seed, options.lr, options.start)
    if options.restart_schedule:
        run_.step, run_.spent = 0, 0.0
    schedule = Schedule(options.steps, options.minutes, run_.spent)
    renderer = Renderer(run_.tokenizer)
    pool = ThreadPoolExecutor(options.threads)
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    memory = Memory()
    sums = Results()
    tokens, since = 0, time.monotonic()
    while (progress := schedule.progress(run_.step)) < 1 and not stop.is_set():
        data = batches.step_batches(
            renderer, options.seed, run_.step, options.tokens,
            longest_at(progress, options.shortest, options.longest),
        )  # fmt: skip
        lr = learning_rate(options.lr, run_.step, progress)
        results, load = train_step(run_.model, run_.optimizers, run_.carry, data, memory, lr, pool)
        sums.add(results)
        run_.note_average()
        run_.step += 1
        tokens += sum(batch.tokens for batch in data)
        if run_.step % 20 == 0:
            speed = f"{tokens / (time.monotonic() - since):.0f}/s"
            spread = f"{load.min():.1%}-{load.max():.1%}"
            report(run_.step, schedule, {**sums, "~speed": speed, "~load": spread})
            sums.clear()
            tokens, since = 0, time.monotonic()
        if run_.step % 100 == 0:
            report(run_.step, schedule, quick_check(run_.averaged(), renderer, options.seed))
            run_.save(schedule.elapsed())
    run_.save(schedule.elapsed())
    report(run_.step, schedule, quick_check(run_.averaged(), renderer, options.seed))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the run; goes on if there"
    )
    parser.add_argument("--start", type=Path, help="a checkpoint whose weights to begin from")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--minutes", type=float, help="end after so many, whatever the steps")
    parser.add_argument("--tokens", type=int, default=2560, help="tokens a step")
    parser.add_argument("--shortest", type=int, default=160, help="where that length begins")
    parser.add_argument("--longest", type=int, default=1024, help="longest reading document")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--restart-schedule", action="store_true", help="keep weights, begin anew")
    return parser.parse_args()


if __name__ == "__main__":
    train(parse())
