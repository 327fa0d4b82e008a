"""`l4 bench`: measures how fast a model runs on this machine."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from l4cli import console
from l4cli.commands import completion, options
from l4cli.errors import EngineError, L4Error, ModelLoadError

if TYPE_CHECKING:
    from l4cli.bench.machine import Memory
    from l4cli.bench.measure import Timing

Model = Annotated[
    str | None,
    typer.Argument(
        autocompletion=completion.models,
        metavar="NAME|FILE",
        envvar="L4_MODEL",
        help="A GGUF file, or a name from `l4 models` (default: the model that it marks with *).",
        show_default=False,
    ),
]
Depth = Annotated[
    str | None,
    typer.Option(
        metavar="N,…", help="Measure with this many tokens already in the context: 0,4k,16k."
    ),
]
Batch = Annotated[
    str | None, typer.Option(metavar="N,…", help="Decode this many sequences at once: 1,4,16.")
]
Ubatch = Annotated[
    str | None,
    typer.Option(
        metavar="N,…",
        help="Prefill this many tokens per step of computation (n_ubatch): 128,512.",
    ),
]
_MOST = 10**9  # of tokens, or of repeats: more than anybody waits for
Prompt = Annotated[
    int | None,
    typer.Option(min=1, max=_MOST, metavar="N", help="Tokens to prefill in each measurement."),
]
Gen = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=_MOST,
        metavar="N",
        help="Tokens to decode in each sequence, per measurement.",
    ),
]
Repeat = Annotated[
    int | None,
    typer.Option(
        min=1, max=_MOST, metavar="N", help="Repeats of each measurement; the median counts."
    ),
]
Seconds = Annotated[
    float,
    typer.Option(
        min=1,
        metavar="S",
        help="Aim for about S seconds in all, by choosing the options that are not given.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON instead of a table.")]


def bench(
    model: Model = None,
    yes: options.Yes = False,
    depth: Depth = None,
    batch: Batch = None,
    ubatch: Ubatch = None,
    prompt: Prompt = None,
    gen: Gen = None,
    repeat: Repeat = None,
    seconds: Seconds = 60.0,
    json: Json = False,
    experts: options.Experts = None,
    threads: options.Threads = None,
    gpu_layers: options.GpuLayers = "-1",
    cpu_moe: options.CpuMoe = None,
    tensor_split: options.TensorSplit = None,
    kv_type: options.KvType = "f16",
    force: options.Force = False,
) -> None:
    """Measure how fast a model prefills and decodes on this machine.

    Depths, batches and repeats that you do not give are chosen to take about a
    minute. Tokens per second are the median of the repeats; ± is half the
    difference between the fastest and the slowest. Memory is what is needed in
    addition to the model's file. Other commands estimate times from the last
    bench that ran while nothing else was computing on this machine. Ctrl-C
    shows the results so far.
    """
    from l4cli.bench.grid import Asked
    from l4cli.commands.open_model import find_file, open_model

    asked = Asked(
        depths=options.parse_counts(depth, "--depth", least=0),
        batches=options.parse_counts(batch, "--batch", of="sequences", most=options.MOST_SEQUENCES),
        ubatches=options.parse_counts(ubatch, "--ubatch"),
        n_prompt=prompt,
        n_gen=gen,
        repeat=repeat,
    )
    loading = options.loading(
        threads, gpu_layers, cpu_moe, tensor_split, kv_type, force, experts=experts
    )
    file = find_file(model, yes=yes)  # convert the demo model before the time to load is measured

    from l4cli.bench import report
    from l4cli.bench.machine import busy_note
    from l4cli.bench.session import bench_of, facts, reach_of
    from l4cli.engine.llamacpp import LlamaModel
    from l4cli.signals import catch_interrupts
    from l4cli.speeds import LoadTime, OtherWork, is_busy, remember

    others = OtherWork()
    started = time.perf_counter()
    with open_model(file, loading.but(elastic=True)) as llm:
        load_seconds = time.perf_counter() - started
        assert isinstance(llm.vocabulary, LlamaModel)
        settings = llm.conditions
        run = bench_of(llm.vocabulary, settings)
        found: list[Timing] = []
        failure: L4Error | None = None
        with (
            console.status("warming up") as run.show,
            catch_interrupts(run.interrupt, console.show_stopping, is_last=True) as interrupts,
        ):
            run.stopping = lambda: interrupts.count
            try:
                found += run.run(asked, seconds=seconds)
            except (EngineError, ModelLoadError) as error:
                failure = error  # the results before the failure are still shown
        load = others.load()
        learnt = (LoadTime(load_seconds), reach_of(llm.vocabulary), *facts(found))
        kept = remember(settings, *learnt, busy=is_busy(load))
    value = {
        "model": llm.name,
        "n_threads": settings.n_threads,
        "n_gpu_layers": settings.n_gpu_layers,
        "n_cpu_moe": settings.n_cpu_moe,
        "kv_type": settings.kv_type,
        "other_load": None if load is None else round(load, 2),
        "kept": kept,
        "load_seconds": round(load_seconds, 3),
        "memory": report.memory_json(run.memory),
        **report.as_json(found),
        "interrupted": bool(interrupts),
    }
    if json:
        console.data_json(value)
    else:
        _show(value, found, run.memory)
    if note := busy_note(load, kept=kept):
        console.warn(note)
    if failure:
        raise failure
    if interrupts:
        console.warn(
            "stopped: only what the table shows was measured"
            if found
            else "stopped before anything was measured"
        )
        raise typer.Exit(interrupts.exit_code)


def _show(value: dict[str, Any], found: Sequence[Timing], memory: Sequence[Memory]) -> None:
    """Write the results to stdout as text.

    value: the results as --json writes them.
    found: the timings for the table.
    memory: what each context took.
    """
    from l4cli.bench import report

    width = shutil.get_terminal_size().columns if console.stdout_is_terminal() else None
    layers = "all" if value["n_gpu_layers"] < 0 else value["n_gpu_layers"]
    gpu = f", {layers} layers on the GPU" if value["n_gpu_layers"] else ""
    if value["n_cpu_moe"]:
        gpu += f" except the experts of {value['n_cpu_moe']}"
    threads = f"{value['n_threads']} thread{'s' if value['n_threads'] > 1 else ''}"
    console.data(
        f"{value['model']} · {threads}{gpu} · KV cache {value['kv_type']} · "
        f"loaded in {value['load_seconds']:.2g} s"
    )
    if found:
        rows = report.rows(found, width=width)
        console.table(report.columns(with_bar=len(rows[0]) > len(report.COLUMNS)), rows)
    if line := report.memory_line(memory):
        console.data(line)
