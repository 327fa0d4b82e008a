"""Trains the demo model: python -m training.train --out FOLDER --steps N (see README.md)."""

import argparse
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import torch

from training import batches, optimizer
from training.backdrop import Memory
from training.batches import Batch
from training.passes import quick_check, run
from training.render import Renderer
from training.results import Results
from training.state import Run
from training.team import Team, shares, work_together


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
    """Warm up, stay, and fall to nothing over the last two thirds: with batches as small as these,
    what is learnt shows as the rate falls."""
    return peak * min(1.0, (step + 1) / 100) * min(1.0, max(0.02, (1 - progress) / 0.67))


def longest_at(progress: float, shortest: int, longest: int) -> int:
    """The reading documents grow from the first limit to the longest over the first 80%."""
    return int(shortest * (longest / shortest) ** min(1.0, progress / 0.8))


def learn(run_: Run, team: Team, step_data: list[Batch], memory: Memory) -> tuple[Results, list]:
    """This process's part of a step, whole batches, forward and backward: what was right, and the
    experts' load."""
    totals = (
        sum(len(batch.answers) for batch in step_data),
        sum(batch.tokens for batch in step_data),
    )
    parts = shares([batch.cost for batch in step_data], team.size)
    results, load = Results(), torch.zeros(())
    for batch in (step_data[i] for i in parts[team.rank]):
        recall = memory.recall(batch.backdrops, batch.kept)
        found, own = run(run_.model, batch, totals, recall, run_.carry)
        memory.add(recall.noted)
        results.add(found)
        load = load + own / len(step_data)
    return results, load.tolist()


def update(run_: Run, team: Team, optimizers: list[torch.optim.Optimizer]) -> None:
    for opt in optimizers:
        opt.step()
    run_.note_average(team)


def keep(
    run_: Run,
    team: Team,
    optimizers: list[torch.optim.Optimizer],
    schedule: Schedule,
    renderer: Renderer,
) -> None:
    """Saves the run, and reports what its averaged weights get right."""
    run_.save(team, optimizers, schedule.elapsed())
    if team.rank == 0:
        report(run_.step, schedule, quick_check(run_.averaged(), renderer, run_.seed))


def report(step: int, schedule: Schedule, line: dict) -> None:
    shown = {name: str(value) for name, value in sorted(line.items())}
    print(f"{step} {schedule.elapsed() / 60:.1f}min {shown}", flush=True)


def train(run_: Run, team: Team, options: argparse.Namespace, stop: Event) -> None:
    """One process's loop; the first one tells how far it is, and reports."""
    team.begin()
    schedule = Schedule(options.steps, options.minutes, run_.spent)
    optimizers = run_.optimizers(team, options.lr)
    renderer, memory, sums = Renderer(run_.tokenizer), Memory(), Results()
    tokens, since = 0, time.monotonic()
    while (progress := team.agree(2.0 if stop.is_set() else schedule.progress(run_.step))) < 1:
        longest = longest_at(progress, options.shortest, options.longest)
        data = batches.step_batches(
            renderer, options.seed, run_.step, options.tokens, longest, team.size
        )
        optimizer.set_rate(optimizers, learning_rate(options.lr, run_.step, progress))
        every = team.gather(learn(run_, team, data, memory))
        team.update(lambda: update(run_, team, optimizers))
        run_.step += 1
        tokens += sum(batch.tokens for batch in data)
        for results, _ in every:
            sums.add(results)
        if team.rank == 0 and run_.step % 20 == 0:
            load = torch.tensor([own for _, own in every]).sum(0)
            speed = f"{tokens / (time.monotonic() - since):.0f}/s"
            spread = f"{load.min():.1%}-{load.max():.1%}"
            report(run_.step, schedule, {**sums, "~speed": speed, "~load": spread})
            sums.clear()
            tokens, since = 0, time.monotonic()
        if run_.step % 200 == 0:
            keep(run_, team, optimizers, schedule, renderer)
    keep(run_, team, optimizers, schedule, renderer)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the run; goes on if there"
    )
    parser.add_argument("--start", type=Path, help="a checkpoint whose weights to begin from")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--minutes", type=float, help="end after so many, whatever the steps")
    parser.add_argument("--tokens", type=int, default=2560, help="tokens a step, at least")
    parser.add_argument("--shortest", type=int, default=160, help="where that length begins")
    parser.add_argument("--longest", type=int, default=1024, help="longest reading document")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--restart-schedule", action="store_true", help="keep weights, begin anew")
    return parser.parse_args()


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    run_ = Run(options.out, options.seed, options.start)
    if options.restart_schedule:
        run_.step, run_.spent = 0, 0.0
    stop = Event()  # the first process's; the others learn of it there
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    named = run_.named()
    work_together(
        options.processes,
        [weight for _, weight in named],
        len(run_.average),
        [optimizer.cost(name, weight) for name, weight in named],
        lambda team: train(run_, team, options, stop),
    )


if __name__ == "__main__":
    main()
