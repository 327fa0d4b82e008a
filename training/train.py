"""Trains the demo model, from nothing or from a checkpoint (see README.md):

    python -m training.train --out FOLDER

A run that was stopped continues when it is started again with the same options.
"""

import argparse
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import torch

from training import batches, optimizer
from training.batches import Batch
from training.dimensions import Dimensions
from training.forward_backward import forward_backward, quick_check
from training.key_value_memory import KeyValueMemory
from training.render import Renderer
from training.results import Results
from training.run_folder import Run
from training.workers import Worker, distribute, run_workers

REPORT_STEPS, SAVE_STEPS = 20, 200  # a report, and a save, after so many steps each

Load = list[list[float]]  # each expert's share of the tokens, by layer with experts


@dataclass
class Schedule:
    """The progress of training: by steps, or by minutes if that is further.

    minutes: the limit in time, or None.
    spent: seconds of training before this process started.
    """

    steps: int
    minutes: float | None
    spent: float = 0.0

    def __post_init__(self) -> None:
        self.began = time.monotonic()

    def elapsed(self) -> float:
        """Return the seconds of training so far."""
        return self.spent + time.monotonic() - self.began

    def progress(self, step: int) -> float:
        """Return 0 at the beginning and 1 or more at the end."""
        by_time = self.elapsed() / 60 / self.minutes if self.minutes else 0.0
        return max(step / self.steps, by_time)


def learning_rate(peak: float, step: int, progress: float) -> float:
    """Return the rate: 100 steps of warm-up, then the peak, then to zero over the last two thirds.

    With batches as small as these, what was learnt shows only as the rate falls.
    """
    return peak * min(1.0, (step + 1) / 100) * min(1.0, max(0.02, (1 - progress) / 0.67))


def longest_at(progress: float, shortest: int, longest: int) -> int:
    """Return the longest reading document; it grows to the full length over the first 80%."""
    return int(shortest * (longest / shortest) ** min(1.0, progress / 0.8))


def learn(
    run: Run, worker: Worker, data: list[Batch], memory: KeyValueMemory
) -> tuple[Results, Load]:
    """Pass this process's batches of a step forward and backward."""
    totals = sum(len(batch.answers) for batch in data), sum(batch.tokens for batch in data)
    parts = distribute([batch.cost for batch in data], worker.size)
    results, load = Results(), torch.zeros(())
    for batch in (data[i] for i in parts[worker.rank]):
        access = memory.access(batch.fillings, batch.kept)
        found, own = forward_backward(run.model, batch, totals, access, run.probes)
        memory.add(access.new)
        results.add(found)
        load = load + own / len(data)
    return results, load.tolist()


def update(run: Run, worker: Worker, optimizers: list[torch.optim.Optimizer]) -> None:
    """Update this process's share of the weights and of their averages."""
    for opt in optimizers:
        opt.step()
    run.update_average(worker)


def report(step: int, schedule: Schedule, values: Mapping[str, object]) -> None:
    """Print a line: step, minutes, and for each skill the loss and the share of right answers."""
    shown = {name: str(value) for name, value in sorted(values.items())}
    print(f"{step} {schedule.elapsed() / 60:.1f}min {shown}", flush=True)


def train(run: Run, worker: Worker, options: argparse.Namespace, stop: Event) -> None:
    """Train in one process. The first process decides when to stop, reports and checks."""
    worker.begin()
    schedule = Schedule(options.steps, options.minutes, run.spent)
    optimizers = run.optimizers(worker, options.lr)
    renderer, memory, sums = Renderer(run.tokenizer), KeyValueMemory(), Results()
    tokens, since = 0, time.monotonic()

    def save() -> None:
        run.save(worker, optimizers, schedule.elapsed())
        if worker.rank == 0 and options.check:
            found = quick_check(run.averaged(), renderer, options.seed, options.check)
            report(run.step, schedule, found)

    while True:
        progress = worker.from_first(2.0 if stop.is_set() else schedule.progress(run.step))
        if progress >= 1:
            break
        longest = longest_at(progress, options.shortest, options.longest)
        data = batches.step_batches(
            renderer, options.seed, run.step, options.tokens, longest, worker.size
        )
        optimizer.set_rate(optimizers, learning_rate(options.lr, run.step, progress))
        every = worker.gather(learn(run, worker, data, memory))
        worker.update(lambda: update(run, worker, optimizers))
        run.step += 1
        tokens += sum(batch.tokens for batch in data)
        for results, _ in every:
            sums.add(results)
        if worker.rank == 0 and run.step % REPORT_STEPS == 0:
            load = torch.tensor([own for _, own in every]).sum(0)
            speed = f"{tokens / (time.monotonic() - since):.0f}/s"
            spread = f"{load.min():.1%}-{load.max():.1%}"
            report(run.step, schedule, {**sums, "~speed": speed, "~load": spread})
            sums.clear()
            tokens, since = 0, time.monotonic()
        if run.step % SAVE_STEPS == 0:
            save()
    save()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Trains the demo model.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, help="the run's folder; a run in it continues")
    add("--start", type=Path, help="a checkpoint whose weights and tokenizer a new run begins with")
    add("--steps", type=int, default=4000, help="end after this many steps")
    add("--minutes", type=float, help="end after this many minutes, if --steps takes longer")
    add("--tokens", type=int, default=2560, help="the fewest tokens of a step")
    add("--shortest", type=int, default=160, help="tokens of the longest document at the beginning")
    add("--longest", type=int, default=1024, help="tokens of the longest document at the end")
    add("--lr", type=float, default=2e-3, help="the highest learning rate")
    add("--seed", type=int, default=4, help="of tokenizer, initial weights and data")
    add("--processes", type=int, default=2, help="processes that share the work; one a core")
    add("--width", type=int, default=Dimensions.hidden, help="hidden size of a model from nothing")
    add("--check", type=int, default=24, help="size of the check after each save; 0: none")
    return parser.parse_args()


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    run = Run(options.out, options.seed, options.start, options.width)
    stop = Event()  # set in the first process only; the others learn of it by `from_first`
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    named = run.named()
    run_workers(
        options.processes,
        [weight for _, weight in named],
        len(run.average),
        [optimizer.cost(name, weight) for name, weight in named],
        lambda worker: train(run, worker, options, stop),
    )


if __name__ == "__main__":
    main()
