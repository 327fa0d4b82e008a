"""`l4 experts`: which experts of a mixture of experts a text uses."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from l4cli import console
from l4cli.commands import chunk_options, completion, options
from l4cli.errors import L4Error, UsageError

if TYPE_CHECKING:
    from l4cli.experts.report import Result, Text
    from l4cli.experts.sections import Section
    from l4cli.loading.file import ModelFile
    from l4cli.loading.llm import LLM
    from l4cli.loading.options import LoadOptions


Model = Annotated[
    str | None,
    typer.Argument(
        autocompletion=completion.models,
        envvar="L4_MODEL",
        metavar="NAME|FILE",
        help="A GGUF file, or a name from `l4 models` (default: the model that it marks with *).",
        show_default=False,
    ),
]
TextFile = Annotated[
    Path | None,
    typer.Argument(
        parser=options.parse_file,
        metavar="TEXT",
        help="A text, or rows if its name ends in .jsonl (default: l4's own text of several "
        "languages, code, JSON and dialogue).",
        show_default=False,
    ),
]
Prompt = Annotated[
    str | None,
    typer.Option("--prompt", "-p", metavar="TEXT", help="Count for this prompt, as a chat has it."),
]
With = Annotated[
    Path | None,
    typer.Option(
        "--with",
        parser=options.parse_file,
        metavar="TEXT",
        help="Count for a second text, too, and tell how alike both use the experts.",
    ),
]
Ctx = Annotated[
    int | None,
    typer.Option(
        "--ctx",
        parser=options.parse_tokens,
        metavar="N",
        help=f"Most tokens that stand in one context; a longer text is cut (default: "
        f"{chunk_options.DEFAULT_CTX}).",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON, with every figure.")]


def show_experts(
    model: Model = None,
    text: TextFile = None,
    yes: options.Yes = False,
    prompt: Prompt = None,
    other: With = None,
    ctx: Ctx = None,
    json: Json = False,
    experts: options.Experts = None,
    threads: options.Threads = None,
    gpu_layers: options.GpuLayers = "-1",
    cpu_moe: options.CpuMoe = None,
    tensor_split: options.TensorSplit = None,
    kv_type: options.KvType = "f16",
    force: options.Force = False,
) -> None:
    """Show which experts a text uses, layer by layer.

    For a mixture of experts: counts to which experts its routers send each
    token, and tells how even that is, which experts are hottest or never
    used, what words, numbers and code prefer, and what keeping only the
    hottest experts in fast memory would save. --with compares two texts.
    Ctrl-C shows what was counted so far.
    """
    chunk_options.check(ctx)
    if text and prompt is not None:
        raise UsageError(f"-p and {text} cannot be given together: choose one")
    loading = options.loading(
        threads, gpu_layers, cpu_moe, tensor_split, kv_type, force, experts=experts
    )

    from l4cli.commands.open_model import find_file

    sources = [_read(text, prompt), *([_read(other, None)] if other else [])]
    file = find_file(model, yes=yes)
    _require_experts(file)
    file = file.with_experts(experts)
    run = _Run(file, loading.but(elastic=True), ctx)
    failure: L4Error | None = None
    try:
        run.all(sources)
    except L4Error as error:
        failure = error  # what was counted before is still shown
    if result := run.result():
        _tell(result, run, json=json)
    if failure:
        raise failure
    if run.exit_code:
        console.warn(run.stopped_line)
        raise typer.Exit(run.exit_code)


@dataclass(frozen=True, slots=True)
class _Source:
    """What is to be counted: a text, a prompt or rows."""

    name: str
    content: str = ""
    prompt: str | None = None
    rows: tuple[object, ...] | None = None

    def sections(self, llm: LLM) -> list[Section]:
        from typing import cast

        from l4cli.engine.llamacpp import LlamaModel
        from l4cli.experts import sections

        assert isinstance(llm.vocabulary, LlamaModel)
        if self.prompt is not None:
            return sections.of_prompt(llm.vocabulary, self.prompt)
        if self.rows is not None:
            rows = cast("tuple[sections.Row, ...]", self.rows)
            return sections.of_rows(llm.vocabulary, rows, self.name)
        return sections.of_text(llm.vocabulary, self.content, self.name)


def _read(path: Path | None, prompt: str | None) -> _Source:
    from l4cli.eval import texts

    if prompt is not None:
        if not prompt:
            raise UsageError("-p is empty: there is nothing to count")
        return _Source("the prompt", prompt=prompt)
    if path is None:
        built_in = texts.built_in_text()
        return _Source(built_in.name, built_in.content)
    if path.suffix == ".jsonl":
        return _Source(str(path), rows=texts.read_rows(path).rows)
    found = texts.read_text_file(path)
    if not found.content:
        raise UsageError(f"{path}: it is empty: there is nothing to count")
    return _Source(found.name, found.content)


def _require_experts(file: ModelFile) -> None:
    if not file.shape.n_experts or not file.shape.routed_bytes:
        raise UsageError(
            f"{file.name} has no experts: every token passes all its weights; `l4 models` lists "
            "models, and `l4 info` tells which have experts"
        )


@dataclass(slots=True)
class _Run:
    """The counting of one command.

    measured: tokens per second of one answer on this machine; None if they are not known.
    exit_code: of the signal that ended it; 0 if none did.
    """

    file: ModelFile
    loading: LoadOptions
    n_ctx: int | None
    texts: list[Text] = field(default_factory=list)
    measured: float | None = None
    exit_code: int = 0

    def all(self, sources: list[_Source]) -> None:
        """Fill `texts`, in the order of `sources`; L4Error if one fails."""
        from l4cli.commands.open_model import load_shown
        from l4cli.signals import GivenUpError
        from l4cli.speeds import recall

        try:
            with load_shown(self.file, self.loading) as llm:
                # All texts are encoded first: a wrong row is told before anything is computed.
                with console.status("reading the text"):
                    found = [(source, source.sections(llm)) for source in sources]
                self.measured = recall(llm.conditions).decode_tps()
                for source, sections in found:
                    self._one(llm, source, sections)
                    if self.exit_code:
                        return
        except GivenUpError as given_up:
            self.exit_code = given_up.exit_code

    def _one(self, llm: LLM, source: _Source, sections: list[Section]) -> None:
        from l4cli.engine.llamacpp import LlamaModel
        from l4cli.experts.report import Text
        from l4cli.experts.session import Counting, num_tokens
        from l4cli.signals import catch_interrupts

        model = llm.vocabulary
        assert isinstance(model, LlamaModel)
        trained = model.n_ctx_train or chunk_options.DEFAULT_CTX
        chunk_options.refuse_beyond(self.n_ctx, trained, llm.name)
        n_ctx = chunk_options.length(self.n_ctx, trained)
        layers = [at for at, block in enumerate(self.file.shape.blocks) if block.routed.total]
        total = num_tokens(sections, n_ctx, model.added_bos)
        counting = Counting(
            llm.name, model, llm.conditions, sections, layers, self.file.shape.n_experts, n_ctx
        )
        try:
            with (
                console.token_progress(llm.name, total) as show,
                catch_interrupts(
                    counting.interrupt, console.show_stopping, is_last=True
                ) as interrupts,
            ):
                counting.stopping = lambda: interrupts.count
                counting.show = show
                counting.run()
        finally:
            if counting.found.num_tokens:
                has_rows = source.rows is not None
                self.texts.append(Text(source.name, sections, counting.found, has_rows))
        self.exit_code = interrupts.exit_code if interrupts else 0

    def result(self) -> Result | None:
        """What was counted; None if nothing was."""
        from l4cli.experts import keeping
        from l4cli.experts.report import Result
        from l4cli.fit.hardware import probe
        from l4cli.fit.memory import ContextSpec

        if not self.texts:
            return None
        text, *others = self.texts
        shape, hardware = self.file.shape, probe()
        fast = keeping.fast_memory(hardware)
        base = keeping.whole_tps(shape, ContextSpec(chunk_options.DEFAULT_CTX), hardware)
        if self.measured and not hardware.gpus and shape.n_bytes <= hardware.ram_usable:
            base = self.measured  # with all weights in RAM
        counts = text.counts
        kept = keeping.keepings(counts.total, counts.layers, shape, base, fast, hardware)
        other = others[0] if others else None
        return Result(self.file.name, shape.n_experts_used, text, other, kept, fast)

    @property
    def stopped_line(self) -> str:
        if not self.texts:
            return "stopped before anything was counted"
        text = self.texts[-1]
        return f"stopped: of {text.name}, only {text.counts.num_tokens:,} tokens were counted"


def _tell(result: Result, run: _Run, *, json: bool) -> None:
    """Write the result to stdout."""
    from l4cli.commands import experts_show
    from l4cli.experts.report import as_json

    if json:
        console.data_json(as_json(result, interrupted=bool(run.exit_code)))
    else:
        experts_show.show(result)
