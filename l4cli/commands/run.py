"""`l4 run`: a file of prompts in, a file of answers out."""

from __future__ import annotations

import math

from l4cli.commands import options
from l4cli.commands import run_options as own
from l4cli.commands import sampling_options as sampler
from l4cli.commands.find_gguf import refuse_unknown
from l4cli.errors import UsageError


def run(
    input: own.Input = "-",
    text: own.Text = False,
    csv: own.Csv = False,
    template_row: own.TemplateRow = None,
    raw: own.Raw = False,
    lenient: own.Lenient = False,
    no_cache: own.NoCache = False,
    out: own.Out = None,
    resume: own.Resume = False,
    retry_errors: own.RetryErrors = False,
    overwrite: own.Overwrite = False,
    unordered: own.Unordered = False,
    row_timeout: own.RowTimeout = None,
    timings: own.Timings = True,
    expert_counts: own.ExpertCounts = False,
    dry_run: own.DryRun = False,
    json: own.Json = False,
    verify: own.Verify = 0,
    price_per_hour: own.PricePerHour = None,
    model: options.Model = None,
    yes: options.Yes = False,
    experts: options.Experts = None,
    system: options.System = None,
    max_tokens: sampler.MaxTokens = None,
    temperature: sampler.Temperature = None,
    top_p: sampler.TopP = None,
    top_k: sampler.TopK = None,
    min_p: sampler.MinP = None,
    seed: sampler.Seed = None,
    schema: sampler.Schema = None,
    grammar: own.Grammar = None,
    ignore_eos: own.IgnoreEos = False,
    parallel: own.Parallel = "auto",
    ctx: own.Ctx = "auto",
    deterministic: own.Deterministic = False,
    threads: options.Threads = None,
    gpu_layers: options.GpuLayers = "-1",
    cpu_moe: options.CpuMoe = None,
    tensor_split: options.TensorSplit = None,
    kv_type: options.KvType = "f16",
    store_limit: options.StoreLimit = None,
    force: options.Force = False,
) -> None:
    """Answer a file of prompts: one JSON line in, one JSON line out.

    A row is {"prompt": "..."}, {"messages": [...]}, {"document": "file",
    "questions": [...]} or a request in OpenAI's Batch format. It may have
    its own id, tools and sampling settings. Answers go to stdout or --out, in
    the order of the input; a row that fails becomes an error row in its place.
    With --out, --resume continues an interrupted run where it stopped.

    A document that `l4 ask` or an earlier run has read is restored, not
    computed again. Documents that are long or have several questions are
    saved for later.

    Exit code: 0 if every row was answered, 1 if some rows are errors, 2 if
    nothing could be run.
    """
    if (resume or retry_errors) and out is None:
        name = "--retry-errors" if retry_errors else "--resume"
        raise UsageError(f"{name} continues an output file: name it with -o")
    if overwrite and out is None:
        raise UsageError("--overwrite replaces an output file: name it with -o")
    if overwrite and (resume or retry_errors):
        name = "--retry-errors" if retry_errors else "--resume"
        raise UsageError(f"--overwrite begins a new file, and {name} continues one: give one")
    if json and not dry_run:
        raise UsageError("--json is for the report of --dry-run; answers are always JSON")
    if row_timeout is not None and not row_timeout > 0:  # NaN is not
        raise UsageError("--row-timeout must be above 0 seconds")
    if price_per_hour is not None and not 0 <= price_per_hour < math.inf:
        raise UsageError("--price-per-hour must be a price")

    from l4cli.batch.input import RowsInput, constraint_of, refuse_model, source_of
    from l4cli.batch.retry import refuse_output

    refuse_model(input)
    sampling = {
        **sampler.given(max_tokens, temperature, top_p, top_k, min_p, seed),
        "constraint": constraint_of(schema, grammar),
        "ignore_eos": ignore_eos or None,
    }
    reading = RowsInput(
        input, source_of(input, text, csv), options.read_text_option(template_row), lenient
    )
    system = options.read_text_option(system)
    with reading.open(out) as lines:
        rows = reading.rows(lines)
        if out is not None and not dry_run:
            refuse_output(out, resume=resume, retry_errors=retry_errors, overwrite=overwrite)
        refuse_unknown(model)

        from l4cli.batch.requests import LOOK_AHEAD, BatchOptions
        from l4cli.batch.session import RunSession, open_output
        from l4cli.commands import run_show as show
        from l4cli.commands.open_model import open_model, open_vocabulary
        from l4cli.signals import catch_interrupts

        batch = BatchOptions(
            system=system,
            raw=raw,
            sampling={name: value for name, value in sampling.items() if value is not None},
            unordered=unordered,
            row_timeout=row_timeout,
            timings=timings,
            expert_counts=expert_counts,
            look_ahead=LOOK_AHEAD if reading.is_file else 1,
            use_store=not (no_cache or deterministic),
            limit_name="--max-tokens",
            context_name="--ctx",
        )
        loading = options.loading(
            threads,
            gpu_layers,
            cpu_moe,
            tensor_split,
            kv_type,
            force,
            store_limit,
            experts=experts,
        ).but(
            ctx=ctx,
            parallel=parallel,
            elastic=True,
            deterministic=deterministic,
            expert_counts=expert_counts,
            store=batch.use_store,
        )
        if dry_run:
            with open_vocabulary(model, loading, yes=yes) as llm:
                show.dry_run_report(llm, rows, batch, json=json)
            return
        with (
            open_model(model, loading, yes=yes) as llm,
            open_output(out, llm, batch, reading, resume, retry_errors, overwrite) as output,
            catch_interrupts(llm.interrupt, is_last=True) as interrupts,
        ):
            session = RunSession(llm, batch, output, interrupts, num_verified=verify)
            with show.progress(session, out, reading.count):
                session.answer(rows)
            session.verify()
    show.report(session, reading, out, price_per_hour)
