"""What is seen of llama.cpp's computations, and that seeing changes nothing."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import fingerprint, write_checkpoint
from decoders import KINDS, write_decoder
from hypothesis import given
from hypothesis import strategies as st

import convert
from l4cli.engine.llamacpp import LlamaBackend, LlamaModel, tensors
from l4cli.engine.llamacpp.routing import RoutingWatcher
from l4cli.engine.llamacpp.tensors import Tensor
from l4cli.engine.types import BatchItem
from l4cli.engine.ubatches import Placed, ubatches
from l4cli.errors import EngineError, L4Error

GOLDEN = Path(__file__).parent.parent / "golden" / "experts.npz"


class Chosen:
    """The experts of every token, by layer, sequence and position."""

    def __init__(self) -> None:
        self.found: dict[tuple[int, int, int], list[int]] = {}
        self.tokens: dict[tuple[int, int], int] = {}
        self.watcher = RoutingWatcher(self._take)

    def _take(self, layer: int, placed: Placed, chosen: np.ndarray) -> None:
        for token, seq, pos, row in zip(
            placed.tokens, placed.seq_ids, placed.positions, chosen, strict=True
        ):
            assert (layer, seq, pos) not in self.found
            self.found[layer, int(seq), int(pos)] = sorted(row.tolist())
            self.tokens[int(seq), int(pos)] = int(token)


class Inputs:
    """A watcher of the inputs of matrix products, as an importance matrix needs them."""

    names: tuple[bytes, ...] = ()
    ops = frozenset({"MUL_MAT", "MUL_MAT_ID"})

    def __init__(self) -> None:
        self.sums: dict[str, np.ndarray] = {}
        self.experts: dict[str, np.ndarray] = {}

    def wants(self, tensor: Tensor) -> bool:
        weights = tensor.source(0)
        return weights is not None and weights.name.startswith("blk.")

    def see(self, tensor: Tensor, ubatch: Placed) -> None:
        weights, inputs, ids = map(tensor.source, range(3))
        assert weights is not None
        assert inputs is not None
        numbers = inputs.numbers()
        assert len(ubatch.of_columns(numbers.shape[1 if ids else 2])) or not ids
        self.sums[weights.name] = (numbers.astype(np.float64) ** 2).sum((0, 1, 2))
        if ids is not None:
            self.experts[weights.name] = ids.numbers()[0, 0].copy()


def logits_of(model: LlamaModel, tokens: list[int], **options: Any) -> np.ndarray:
    backend = LlamaBackend(model, n_ctx=256, n_batch=128, n_outputs=128, n_threads=2, **options)
    backend.decode([BatchItem(0, 0, tokens, True, wants_all=True)])
    prompt = backend.kept().copy()
    backend.decode([BatchItem(0, len(tokens), tokens[:1], True)])
    found = np.concatenate([prompt, backend.kept()])
    backend.close()
    return found


def test_logits_are_the_same_bits_with_a_watcher(model: LlamaModel) -> None:
    tokens = model.tokenize("one two three, 27 and 4: {x}\n" * 5)[:100]
    plain = logits_of(model, tokens)
    chosen, inputs = Chosen(), Inputs()
    assert np.array_equal(plain, logits_of(model, tokens, watcher=chosen.watcher))
    assert np.array_equal(plain, logits_of(model, tokens, watcher=inputs))
    assert np.array_equal(plain, logits_of(model, tokens, n_ubatch=128, watcher=inputs))
    assert len(chosen.found) == 4 * (len(tokens) + 1)
    assert {"blk.0.attn_q.weight", "blk.3.ffn_down_exps.weight"} <= inputs.sums.keys()
    assert inputs.sums["blk.0.attn_q.weight"].shape == (256,)
    # All matrices that read the same input saw the same numbers.
    assert np.array_equal(inputs.sums["blk.1.attn_q.weight"], inputs.sums["blk.1.attn_k.weight"])
    last = inputs.experts["blk.3.ffn_gate_exps.weight"]
    assert last.tolist() == [chosen.found[3, 0, len(tokens)]]


@pytest.mark.parametrize("kind", ["scout", "maverick", "mixtral", "qwen3moe"])
def test_experts_are_those_of_transformers_router(kind: str, tmp_path: Path) -> None:
    golden = np.load(GOLDEN)
    path = tmp_path / "model"
    if kind in KINDS:
        write_decoder(path, kind)
    else:
        write_checkpoint(path, kind=kind)
    assert fingerprint(path) == str(golden[f"{kind} fingerprint"])
    convert.convert(convert.plan(path, "F32"), tmp_path / "model.gguf")
    model = LlamaModel(tmp_path / "model.gguf")
    tokens, expected = golden[f"{kind} tokens"].tolist(), golden[f"{kind} experts"]
    chosen = Chosen()
    backend = LlamaBackend(model, n_ctx=256, n_outputs=64, watcher=chosen.watcher)
    backend.decode([BatchItem(0, 0, tokens, True, wants_all=True)])
    backend.close()
    model.close()
    for layer, rows in enumerate(expected):
        for pos, row in enumerate(rows):
            own = chosen.found.get((layer, 0, pos), [-1] * len(row))
            assert own == row.tolist(), (layer, pos)


@pytest.mark.parametrize("unified", [True, False])
def test_each_token_of_several_sequences_is_known(model: LlamaModel, unified: bool) -> None:
    """Together in one decode, in several ubatches, as each sequence alone."""
    texts = ["one two three four five six seven", "12 345 6789", "{a: [b, c]}", "x y z " * 9]
    ids = [model.tokenize(text) for text in texts]
    chosen = Chosen()
    options: dict[str, Any] = {"n_ctx": 512, "n_seq_max": 4, "n_outputs": 256, "unified": unified}
    backend = LlamaBackend(model, n_ubatch=8, n_batch=256, watcher=chosen.watcher, **options)
    items = [BatchItem(seq, 0, own, True, wants_all=True) for seq, own in enumerate(ids)]
    backend.decode(items)
    backend.decode([BatchItem(seq, len(own), [7], True) for seq, own in enumerate(ids)])
    backend.close()
    for seq, own in enumerate(ids):
        alone = Chosen()
        backend = LlamaBackend(model, n_ctx=128, n_outputs=128, watcher=alone.watcher)
        backend.decode([BatchItem(0, 0, own, True, wants_all=True)])
        backend.decode([BatchItem(0, len(own), [7], True)])
        backend.close()
        mine = {(at, pos): row for (at, of, pos), row in chosen.found.items() if of == seq}
        assert mine == {(at, pos): row for (at, _, pos), row in alone.found.items()}
        assert [chosen.tokens[seq, pos] for pos in range(len(own) + 1)] == [*own, 7]


def test_the_last_layer_has_only_the_tokens_whose_logits_are_kept(model: LlamaModel) -> None:
    chosen, tokens = Chosen(), model.tokenize("one two three four")
    backend = LlamaBackend(model, n_ctx=128, watcher=chosen.watcher)
    backend.decode([BatchItem(0, 0, tokens, True)])
    backend.close()
    last = len(tokens) - 1
    assert [pos for layer, _, pos in chosen.found if layer == 3] == [last]
    assert sum(layer == 0 for layer, _, _ in chosen.found) == len(tokens)


class Broken:
    """A watcher that fails at one tensor."""

    names, ops = (b"ffn_moe_topk",), frozenset[str]()

    def __init__(self, at: str, in_wants: bool) -> None:
        self.at, self.in_wants, self.num_seen = at, in_wants, 0

    def wants(self, tensor: Tensor) -> bool:
        if self.in_wants and tensor.name == self.at:
            raise ZeroDivisionError("in wants")
        return True

    def see(self, tensor: Tensor, _ubatch: Placed) -> None:
        self.num_seen += 1
        if tensor.name == self.at:
            raise ZeroDivisionError("in see")


@pytest.mark.parametrize("in_wants", [True, False])
def test_what_a_watcher_raises_arrives_and_nothing_is_kept(
    model: LlamaModel, in_wants: bool
) -> None:
    tokens = model.tokenize("one two three four five")
    plain = logits_of(model, tokens, n_ubatch=4)
    watcher = Broken("ffn_moe_topk-1", in_wants)
    backend = LlamaBackend(model, n_ctx=256, n_batch=128, n_ubatch=4, n_outputs=128, n_threads=2,
                           watcher=watcher)  # fmt: skip
    with pytest.raises(ZeroDivisionError):
        backend.decode([BatchItem(0, 0, tokens, True, wants_all=True)])
    assert backend.num_computed(0) == 0
    assert watcher.num_seen <= 2
    watcher.at = ""
    backend.decode([BatchItem(0, 0, tokens, True, wants_all=True)])
    assert np.array_equal(backend.kept(), plain[: len(tokens)])
    backend.close()


def test_another_form_of_tensors_is_one_line(
    model: LlamaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the library had another field somewhere in front."""
    head = list(tensors._Struct._fields_)
    fields: Any
    for at in range(1, len(head)):
        fields = (*head[:at], ("other", ctypes.c_int64), *head[at:])
        other = type("_Other", (ctypes.Structure,), {"_fields_": fields})
        monkeypatch.setattr(tensors, "_Struct", other)
        tensors.check_layout.cache_clear()
        with pytest.raises(L4Error, match="keeps tensors in another form than l4 knows"):
            LlamaBackend(model, n_ctx=128, watcher=Chosen().watcher)
    monkeypatch.undo()
    tensors.check_layout.cache_clear()
    tensors.check_layout()


def test_a_library_without_the_functions_is_one_line(
    model: LlamaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str, *_: object) -> Callable[..., Any]:
        raise AttributeError(f"undefined symbol: {name}")

    monkeypatch.setattr(tensors, "_function", missing)
    tensors.check_layout.cache_clear()
    with pytest.raises(L4Error, match="undefined symbol: ggml_init"):
        LlamaBackend(model, n_ctx=128, watcher=Chosen().watcher)
    tensors.check_layout.cache_clear()


def placed(lengths: list[int]) -> Placed:
    seq_ids = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    positions = np.concatenate([np.arange(n, dtype=np.int32) for n in lengths])
    tokens = np.arange(len(seq_ids), dtype=np.int32)
    return Placed(tokens, seq_ids, positions, np.zeros(len(tokens), np.int8))


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(1, 16), st.booleans())
def test_ubatches_have_every_token_once(lengths: list[int], n_ubatch: int, unified: bool) -> None:
    n_ubatch = max(n_ubatch, len(lengths))
    batch = placed(lengths)
    found = list(ubatches(batch, n_ubatch, unified=unified))
    assert sorted(np.concatenate([one.tokens for one in found])) == list(range(len(batch)))
    assert all(0 < len(one) <= n_ubatch for one in found)
    for seq in range(len(lengths)):
        order = np.concatenate([one.positions[one.seq_ids == seq] for one in found])
        assert order.tolist() == list(range(lengths[seq]))


def test_columns_of_other_numbers_are_refused() -> None:
    with pytest.raises(EngineError, match="has 3 columns, but 5 tokens"):
        placed([5]).of_columns(3)


@pytest.fixture(autouse=True)
def _checked_again() -> Iterator[None]:
    yield
    tensors.check_layout.cache_clear()
