"""Checks that llama.cpp computes correctly on this machine, with a small model made here.

`python -m l4cli.engine.llamacpp.selftest` is the child process of `l4cli/native/selftest.py`. It
prints a line of JSON after each step, so that the parent knows in which step it died. Everything is
computed on the CPU. Each step relies on details of one version of llama.cpp that nothing else in l4
checks at run time:

    library   llama.cpp loads; reports its build and the graphics cards it sees
    defaults  the last fields of its parameter structs have the defaults of llama.h
    plain     a prompt and single tokens, over weights in the file's order
    extra     the same over repacked and AMX weights, with the same results
    states    a sequence saved to a file and loaded gives the same logits (`states.py`)
    moving    a sequence moved from a pool into a region gives the same logits (`moving.py`)
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_EMBD, _HEADS, _EXPERTS, _N_CTX = 256, 4, 2, 512
_PROMPT = 45  # tokens: one and a half of AMX's blocks of 32 rows
_SINGLE = 2  # tokens decoded one by one after it
_N_VOCAB = 288  # three control tokens, 256 bytes, and others to make whole tiles
# Largest mean square of the differences, relative to that of the logits. test-backend-ops.cpp
# allows 5e-4 for one multiplication; sums over garbage come to about 1.
_NMSE = 2e-2
_MOST_SECONDS = 90

Logits = npt.NDArray[np.float32]


def write_model(path: Path) -> None:
    """Write a GGUF of 0.5 MB: one block with two routed experts, in the types that are repacked."""
    import gguf

    from convert.kernels.quantize import quantize_rows

    random = np.random.default_rng(4)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(_N_CTX)
    writer.add_embedding_length(_EMBD)
    writer.add_feed_forward_length(_EMBD)
    writer.add_head_count(_HEADS)
    writer.add_rope_dimension_count(_EMBD // _HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_expert_count(_EXPERTS)
    writer.add_expert_used_count(_EXPERTS)  # all: with fewer, a near-tie could go either way
    texts = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    texts += [f"word{n}" for n in range(_N_VOCAB - len(texts))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(texts)
    writer.add_token_scores([0.0] * _N_VOCAB)
    writer.add_token_types([2, 3, 3, *[6] * 256, *[1] * (_N_VOCAB - 259)])

    def add(name: str, qtype: str, *shape: int) -> None:
        weights = random.normal(0, shape[-1] ** -0.5, shape).astype(np.float32)
        if qtype == "F32":
            writer.add_tensor(name, weights)
            return
        kind = gguf.GGMLQuantizationType[qtype]
        block, n_bytes = gguf.GGML_QUANT_SIZES[kind]
        out = np.empty((*shape[:-1], shape[-1] // block * n_bytes), np.uint8)
        rows = weights.reshape(-1, shape[-1])
        quantize_rows(qtype, rows, out.reshape(len(rows), -1))
        writer.add_tensor(name, out, raw_dtype=kind)

    add("token_embd.weight", "Q8_0", _N_VOCAB, _EMBD)
    add("output.weight", "Q8_0", _N_VOCAB, _EMBD)
    add("blk.0.attn_q.weight", "Q8_0", _EMBD, _EMBD)
    add("blk.0.attn_k.weight", "Q4_K", _EMBD, _EMBD)
    add("blk.0.attn_v.weight", "Q6_K", _EMBD, _EMBD)
    add("blk.0.attn_output.weight", "Q4_0", _EMBD, _EMBD)
    add("blk.0.ffn_gate_inp.weight", "F32", _EXPERTS, _EMBD)
    add("blk.0.ffn_gate_exps.weight", "Q4_K", _EXPERTS, _EMBD, _EMBD)
    add("blk.0.ffn_up_exps.weight", "Q8_0", _EXPERTS, _EMBD, _EMBD)
    add("blk.0.ffn_down_exps.weight", "Q6_K", _EXPERTS, _EMBD, _EMBD)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(_EMBD, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _library() -> dict[str, Any]:
    import llama_cpp

    from l4cli.engine.llamacpp import library
    from l4cli.engine.llamacpp.devices import cpu_features, devices, has_gpu_support

    library.start()
    return {
        "version": llama_cpp.__version__,
        "system_info": llama_cpp.llama_print_system_info().decode(errors="replace").strip(),
        "features": sorted(cpu_features()),
        "gpu_support": has_gpu_support(),
        "gpus": [
            {"id": card.id, "name": card.name, "total": card.total, "free": card.free}
            for card in devices()
        ],
    }


def _defaults() -> dict[str, Any]:
    """Check the structs' last fields: with a field more or less, they would read another one."""
    import llama_cpp

    context = llama_cpp.llama_context_default_params()
    model = llama_cpp.llama_model_default_params()
    held = (
        (context.n_ctx, 512),
        (context.n_batch, 2048),
        (context.n_ubatch, 512),
        (context.n_seq_max, 1),
        (context.flash_attn_type, -1),
        (context.type_k, 1),
        (context.type_v, 1),
        (context.offload_kqv, True),
        (context.no_perf, True),
        (context.op_offload, True),
        (context.swa_full, True),
        (context.kv_unified, False),
        (bool(context.samplers), False),
        (context.n_samplers, 0),
        (model.n_gpu_layers, -1),
        (model.vocab_only, False),
        (model.use_extra_bufts, True),
        (model.no_host, False),
        (model.no_alloc, False),
        (model.load_mtp, False),
    )
    return {"ok": all(found == expected for found, expected in held)}


class _Trial:
    """The model's file, and the results computed with it."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path, self.folder = path, folder
        self.tokens = [1, *((7 * n) % 200 + 3 for n in range(_PROMPT + _SINGLE - 1))]
        self.plain: Logits | None = None

    def run(self, *, repack: bool) -> Logits:
        """Logits [1 + _SINGLE, n_vocab]: after the prompt, and after each single token."""
        from l4cli.engine.llamacpp.context import LlamaBackend
        from l4cli.engine.llamacpp.model import LlamaModel

        model = LlamaModel(self.path, n_gpu_layers=0, repack=repack)
        backend = LlamaBackend(model, n_ctx=_N_CTX, n_threads=2)
        rows = []
        for start, stop in self._steps():
            rows.append(self._decode(backend, start, stop))
        backend.close()
        model.close()
        return np.stack(rows)

    def check_plain(self) -> dict[str, Any]:
        self.plain = self.run(repack=False)
        return {"ok": bool(np.isfinite(self.plain).all() and self.plain.std() > 0)}

    def check_extra(self) -> dict[str, Any]:
        """Compute with repacked weights; if no buffer is repacked here, the results are equal."""
        assert self.plain is not None
        found = self.run(repack=True)
        error = float(np.mean((found - self.plain) ** 2) / np.mean(self.plain**2))
        return {"ok": bool(error <= _NMSE), "nmse": error if np.isfinite(error) else None}

    def check_states(self) -> dict[str, Any]:
        """Save a sequence's state to a file, and load it into another sequence."""
        from l4cli.engine.llamacpp.context import LlamaBackend
        from l4cli.engine.llamacpp.model import LlamaModel

        model = LlamaModel(self.path, n_gpu_layers=0, repack=False)
        backend = LlamaBackend(model, n_ctx=_N_CTX, n_seq_max=2, n_threads=2, with_states=True)
        assert backend.states is not None
        file = self.folder / "state"
        self._decode(backend, 0, _PROMPT)
        backend.states.save(0, 0, self.tokens[:_PROMPT], file)
        expected = self._decode(backend, _PROMPT, _PROMPT + 1)
        backend.states.load(1, 0, self.tokens[:_PROMPT], file)
        found = self._decode(backend, _PROMPT, _PROMPT + 1, seq_id=1)
        backend.close()
        model.close()
        return {"ok": _are_alike(found, expected)}

    def check_moving(self) -> dict[str, Any]:
        """Move a sequence from a pool into a region; llama.cpp must refuse a wrong state."""
        from l4cli.engine.llamacpp.context import LlamaBackend
        from l4cli.engine.llamacpp.model import LlamaModel
        from l4cli.engine.llamacpp.moving import move_to_region
        from l4cli.errors import EngineError

        model = LlamaModel(self.path, n_gpu_layers=0, repack=False)
        pool = LlamaBackend(model, n_ctx=_N_CTX, n_seq_max=2, n_threads=2)
        regions = LlamaBackend(model, n_ctx=_N_CTX, n_seq_max=2, n_threads=2, unified=False)
        self._decode(pool, 0, _PROMPT, seq_id=1)
        refused = False
        try:
            move_to_region(pool.handle, regions.handle, 1, 3, to=1)  # it has two regions, not three
        except EngineError:
            refused = True
        expected_from = LlamaBackend(model, n_ctx=_N_CTX, n_threads=2)
        self._decode(expected_from, 0, _PROMPT)
        expected = self._decode(expected_from, _PROMPT, _PROMPT + 1)
        pool.hand_over(1, regions)
        found = self._decode(regions, _PROMPT, _PROMPT + 1, seq_id=1)
        for backend in (pool, regions, expected_from):
            backend.close()
        model.close()
        return {"ok": refused and _are_alike(found, expected)}

    def _steps(self) -> list[tuple[int, int]]:
        return [(0, _PROMPT), *((_PROMPT + n, _PROMPT + n + 1) for n in range(_SINGLE))]

    def _decode(self, backend: Any, start: int, stop: int, seq_id: int = 0) -> Logits:
        """Compute tokens `start` to `stop` of a sequence; return the logits after the last."""
        from l4cli.engine.types import BatchItem

        backend.decode([BatchItem(seq_id, start, self.tokens[start:stop], True)])
        row: Logits = backend.logits(0).copy()
        return row


def _are_alike(found: Logits, expected: Logits) -> bool:
    """Whether two rows of logits are equal, except for the order in which sums are rounded."""
    return bool(np.mean((found - expected) ** 2) <= 1e-4 * np.mean(expected**2))


def main() -> None:
    """Run the steps. A step that raises is reported as not ok, and the next ones still run."""
    if hasattr(signal, "alarm"):
        signal.alarm(_MOST_SECONDS)  # if llama.cpp hangs, the parent may be gone already
    with tempfile.TemporaryDirectory(prefix="l4-self-test-") as name:
        trial = _Trial(Path(name) / "model.gguf", Path(name))
        _report("library", _library)
        _report("defaults", _defaults)
        write_model(trial.path)
        _report("plain", trial.check_plain)
        _report("extra", trial.check_extra)
        _report("states", trial.check_states)
        _report("moving", trial.check_moving)
    sys.stdout.flush()
    os._exit(0)  # skips closing the libraries: their faults there are not part of the check


def _report(step: str, check: Callable[[], dict[str, Any]]) -> None:
    try:
        found = check()
    except Exception as error:
        found = {"ok": False, "error": f"{type(error).__name__}: {error}"}
    print(json.dumps({"step": step, **found}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
