"""What `l4 info` shows: one screen of at most 80 columns, or JSON."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from l4cli import console
from l4cli.amounts import counted, human_size

if TYPE_CHECKING:
    from convert import Description
    from l4cli.eval.keeping import Kept

_WIDTH = 80
_LABEL = 13
_MOST_EVALUATIONS = 4
_SHOWN = 3  # most tensor names to list


def screen(found: Description, kept: Sequence[Kept], *, tensors: bool) -> None:
    """Write the facts, a table of the tensors by purpose, and the findings.

    kept: what evaluations found.
    tensors: also list every tensor.
    """
    console.paragraph(_heading(found))
    for label, text in (*_facts(found), *_evaluations(found, kept)):
        console.paragraph(text, first=f"  {label:{_LABEL}}", rest=" " * (_LABEL + 2), width=_WIDTH)
    console.data("")
    console.table(
        ["TENSORS", "COUNT", "WEIGHTS", "SIZE", "BITS", "TYPES"],
        [
            [
                group.name,
                str(group.n_tensors),
                count(group.n_params),
                human_size(group.n_bytes),
                f"{group.bits_per_weight:.2f}",
                ", ".join(f"{n} {type_}" for type_, n in group.types.items()),
            ]
            for group in found.groups
        ],
    )
    if tensors:
        console.data("")
        console.table(
            ["TENSOR", "SHAPE", "TYPE", "SIZE", "FILE"],
            [
                [t.name, "x".join(map(str, t.shape)), t.type, human_size(t.n_bytes), t.file]
                for t in found.tensors
            ],
        )
    if found.findings:
        console.data("")
    for finding in found.findings:
        console.paragraph(f"{finding.level}: {_plain(finding.message)}", width=_WIDTH)


def as_json(found: Description, kept: Sequence[Kept], *, tensors: bool) -> None:
    """Write everything that is known as JSON, except arrays in the metadata."""
    tokenizer = found.tokenizer
    recognized = found.recognized
    value: dict[str, Any] = {
        "path": str(found.path),
        "format": "checkpoint" if found.is_checkpoint else "gguf",
        "files": [str(file) for file in found.files],
        "n_bytes": found.n_bytes,
        "architecture": found.architecture,
        "name": found.name,
        "n_params": found.n_params,
        "n_params_active": found.n_params_active,
        "bits_per_weight": round(found.bits_per_weight, 3),
        "shape": found.shape,
        "rope": {key: _finite(each) for key, each in found.rope.items()},
        "type": recognized and recognized.ftype,
        "type_is_stated": recognized and recognized.is_stated,
        "unlike_recipe": recognized and recognized.others,
        "tokenizer": tokenizer
        and {
            "model": tokenizer.model,
            "pre": tokenizer.pre,
            "n_tokens": tokenizer.n_tokens,
            "n_merges": tokenizer.n_merges,
            "special": {
                kind: {"id": id_, "text": text} for kind, (id_, text) in tokenizer.special.items()
            },
            "template_digest": tokenizer.template_digest,
            "template": tokenizer.template,
        },
        "sampling": found.sampling,
        "groups": [
            {
                "name": group.name,
                "n_tensors": group.n_tensors,
                "n_params": group.n_params,
                "n_bytes": group.n_bytes,
                "bits_per_weight": round(group.bits_per_weight, 3),
                "types": group.types,
            }
            for group in found.groups
        ],
        "findings": [vars(finding) for finding in found.findings],
        "evaluations": [asdict(one) for one in kept],
        "metadata": {key: _finite(each) for key, each in found.metadata.items()},
    }
    if tensors:
        value["tensors"] = [
            {
                "name": tensor.name,
                "shape": tensor.shape,
                "type": tensor.type,
                "n_bytes": tensor.n_bytes,
                "file": tensor.file,
            }
            for tensor in found.tensors
        ]
    console.data_json(value)


def _finite(value: Any) -> Any:
    """NaN and infinity as strings, since JSON has neither; other values unchanged."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def count(n: int) -> str:
    """A number of weights in three digits with a unit, as in names of models: 109B."""
    for unit, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if n >= scale:
            return f"{n / scale:.3g}{unit}" if n < 999.5 * scale else f"{n / scale:.0f}{unit}"
    return str(n)


def _heading(found: Description) -> str:
    name = f" {_plain(found.name)!r}" if found.name else ""
    type_ = f", {found.recognized.ftype}" if found.recognized else " checkpoint"
    files = f" in {len(found.files)} files" if len(found.files) > 1 else ""
    return (
        f"{found.path.name or found.path}: {_plain(found.architecture)}{name}{type_}, "
        f"{human_size(found.n_bytes)}{files}"
    )


def _facts(found: Description) -> Iterator[tuple[str, str]]:
    shape = found.shape
    yield (
        "parameters",
        f"{count(found.n_params)}, {count(found.n_params_active)} active per token; "
        f"{found.bits_per_weight:.2f} bits per weight",
    )
    if shape["n_layers"]:
        yield "layers", f"{shape['n_layers']}{_of(shape, 'hidden_size', ', {:,} wide')}"
    if shape["n_heads"]:
        yield "attention", _attention(found)
    if shape["n_experts"]:
        yield "experts", _experts(shape)
    if shape["n_ctx_train"]:
        yield "context", f"{shape['n_ctx_train']:,} tokens"
    if found.rope:
        yield "RoPE", _rope(found.rope)
    yield "tokenizer", _tokenizer(found)
    yield "template", _template(found)
    if found.sampling:
        yield "sampling", ", ".join(f"{key} {value:g}" for key, value in found.sampling.items())
    if found.recognized:
        yield "recipe", _recipe(found)
    if found.recognized and (made_by := found.metadata.get("l4.version")):
        yield "made by", f"l4 {_plain(str(made_by))}"


def _evaluations(found: Description, kept: Sequence[Kept]) -> Iterator[tuple[str, str]]:
    """What is known from evaluations on this machine, or else from the file's metadata."""
    from convert.gguf.figures import figures_in

    if not kept and (figures := figures_in(found.metadata)):
        yield (
            "evaluated",
            f"PPL {figures['ppl']:.4f} ± {figures['ppl_error']:.4f}, KLD {figures['kld']:.4f} ± "
            f"{figures['kld_error']:.4f}, same top {figures['same_top']:.1%} against "
            f"{_plain(figures['against'])}; {_plain(figures['text'])}, {figures['tokens']:,} "
            f"tokens in chunks of {figures['n_ctx']:,}; {_plain(figures['date'])}, says the file",
        )
    for number, one in enumerate(kept[:_MOST_EVALUATIONS]):
        stopped = ", stopped" if one.is_partial else ""
        text = f"PPL {one.ppl:.4f} ± {one.ppl_error:.4f}"
        if one.kld is not None:
            text += f", KLD {one.kld:.4f} ± {one.kld_error or 0:.4f}"
            if one.same_top is not None:
                text += f", same top {one.same_top:.1%}"
            text += f" against {_plain(one.reference)}"
        text += f"; {_plain(one.text)}, {counted(one.chunks, 'chunk')} of {one.n_ctx:,}{stopped}"
        yield "" if number else "evaluated", f"{text}; {one.date}"
    if (more := len(kept) - _MOST_EVALUATIONS) > 0:
        yield "", f"and {more} more (--json)"


def _of(shape: Any, key: str, pattern: str) -> str:
    return pattern.format(shape[key]) if shape[key] else ""


def _attention(found: Description) -> str:
    shape = found.shape
    text = f"{shape['n_heads']} heads, {shape['n_kv_heads']} KV heads, {shape['head_dim']} wide"
    if found.architecture == "llama4" and shape["sliding_window"] != 0:
        return f"{text}; three chunked layers (8,192 tokens) per global one"
    return text + _of(shape, "sliding_window", "; sliding window of {:,} tokens")


def _experts(shape: Any) -> str:
    text = f"{shape['n_experts']}, {shape['n_experts_used']} used per token"
    if shape["expert_size"]:
        text += f"; {shape['expert_size']:,} wide"
    if shape["n_moe_layers"] != shape["n_layers"]:
        text += f"; in {shape['n_moe_layers']} of {shape['n_layers']} layers"
    return text


def _rope(rope: Any) -> str:
    parts = [f"base {rope['base']:,.10g}"] if isinstance(rope.get("base"), float) else []
    if "scaling" in rope:
        factor = rope.get("factor")
        factor = f", factor {factor:g}" if isinstance(factor, float) else ""
        parts.append(f"scaling {_plain(str(rope['scaling']))}{factor}")
    else:
        parts.append("no scaling")
    if "n_dims" in rope:
        parts.append(f"{rope['n_dims']} dimensions")
    return ", ".join(parts)


def _tokenizer(found: Description) -> str:
    tokenizer = found.tokenizer
    if tokenizer is None:
        return "none"
    kind = "/".join(_plain(part) for part in (tokenizer.model, tokenizer.pre) if part)
    text = f"{kind}, {tokenizer.n_tokens:,} tokens"
    if tokenizer.n_merges:
        text += f", {tokenizer.n_merges:,} merges"
    ends = {kind: text for kind, (_, text) in tokenizer.special.items()}
    shown = [
        f"{kind} {_plain(ends[kind])}" for kind in ("bos", "eos", "eot", "eom") if kind in ends
    ]
    return f"{text}; {', '.join(shown)}" if shown else text


def _template(found: Description) -> str:
    template = found.tokenizer.template if found.tokenizer else None
    if not template or found.tokenizer is None:
        return "none"
    start = textwrap.shorten(_plain(" ".join(template.split())), 48, placeholder=" …")
    return f"{found.tokenizer.template_digest}, {len(template):,} characters: {start}"


def _recipe(found: Description) -> str:
    recognized = found.recognized
    assert recognized is not None
    said = "" if recognized.is_stated else " (not stated in the file; the best match)"
    if not recognized.others:
        return f"{recognized.ftype}, as llama-quantize makes it{said}"
    names = list(recognized.others)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (
        f"{recognized.ftype}{said}, except for {len(names)} of {len(found.tensors)} tensors: "
        f"{', '.join(names[:_SHOWN])}{more}"
    )


def _plain(text: str) -> str:
    """Text from a file with unprintable characters replaced, safe to show on a terminal."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
