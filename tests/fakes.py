"""A fake backend without weights, for tests that do not need them: scheduling, batch, chat, CLI.

Token ids are bytes; 256 is BOS, 257 ends a turn. The fake answers with the last line of its prompt
in upper case, so a test can tell which request an answer belongs to. It counts KV cells exactly,
and raises where llama.cpp would fail or would silently compute something wrong.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

from l4cli.engine.channels import Channels
from l4cli.engine.types import BatchItem, DecodeAbortedError, Sampled, SamplingParams, TokenLogprob
from l4cli.errors import EngineError

BOS, EOG = 256, 257


class FakeSampler:
    def __init__(self, backend: FakeBackend) -> None:
        self.backend = backend
        backend.num_open_samplers += 1
        self._open = True

    def sample(self, output: int) -> Sampled:
        return Sampled(self.backend.next_token(self.backend.outputs[output]))

    def close(self) -> None:
        if self._open:
            self.backend.num_open_samplers -= 1
        self._open = False


class FakeBackend:
    """Keeps each sequence's cells as a list of tokens.

    answer: maps a prompt's text to the answer. fail_on: a token that makes `decode` raise.
    """

    min_prefill = None
    routes = None
    channels: Channels | None = None

    def __init__(
        self,
        n_ctx: int = 1024,
        n_batch: int = 64,
        n_seq_max: int = 4,
        answer: Callable[[str], str] | None = None,
        unified: bool = True,
        with_states: bool = False,
    ) -> None:
        self.n_ctx, self.n_batch, self.n_seq_max = n_ctx, n_batch, n_seq_max
        self.n_ubatch = n_batch
        self.n_ctx_seq = n_ctx
        self.unified = unified
        self.states = FakeStates(self) if with_states else None
        self.answer = answer or (lambda prompt: prompt.splitlines()[-1].upper() if prompt else "")
        self.cells: dict[int, list[int]] = {}
        self.outputs: list[int] = []
        self.num_open_samplers = 0
        self.num_decoded_tokens = 0
        self.batch_sizes: list[int] = []
        self.fail_on: int | None = None
        self.interrupted = False
        self.closed = False

    def decode(self, items: Sequence[BatchItem]) -> None:
        if self.interrupted:
            self.interrupted = False
            raise DecodeAbortedError
        assert sum(len(item.tokens) for item in items) <= self.n_batch
        assert len({item.seq_id for item in items}) == len(items)
        if any(self.fail_on in item.tokens for item in items):
            raise EngineError("llama_decode failed with code -3")
        self.outputs = []
        for item in items:
            cells = self.cells.setdefault(item.seq_id, [])
            assert item.pos == len(cells), "a position was skipped or computed twice"
            assert item.tokens
            cells.extend(item.tokens)
            self.num_decoded_tokens += len(item.tokens)
            if item.wants_logits:
                self.outputs += [item.seq_id] * (len(item.tokens) if item.wants_all else 1)
        self.batch_sizes.append(sum(len(item.tokens) for item in items))
        assert self.num_used_cells() <= self.n_ctx, "no KV slot"

    def num_used_cells(self) -> int:
        """Return the number of used cells if sequences share the cells of equal prefixes."""
        prefixes = set[int]()
        for cells in self.cells.values():
            prefix = 0
            for token in cells:
                prefix = hash((prefix, token))
                prefixes.add(prefix)
        return len(prefixes)

    def next_token(self, seq_id: int) -> int:
        """Return the next byte of the answer, or EOG at its end."""
        text = bytes(token for token in self.cells[seq_id] if token < BOS)
        head, _, said = text.partition(b"\0")
        answer = self.answer(head.decode(errors="replace")).encode()
        return answer[len(said)] if len(said) < len(answer) else EOG

    def sampler(self, params: SamplingParams, prompt: Sequence[int] = ()) -> FakeSampler:
        return FakeSampler(self)

    def logprob(self, output: int, token: int, num_top: int) -> TokenLogprob:
        return TokenLogprob(token, self.piece(token), -1.0)

    def piece(self, token: int) -> bytes:
        return bytes([token]) if token < BOS else b""

    def is_eog(self, token: int) -> bool:
        return token == EOG

    def num_computed(self, seq_id: int) -> int:
        return len(self.cells.get(seq_id, []))

    def exact_prefix(self, seq_id: int, length: int) -> int:
        return length

    def fork(self, src: int, dst: int, length: int) -> None:
        assert not self.cells.get(dst), "forked onto a sequence in use"
        assert length <= len(self.cells[src]), "forked more than was computed"
        self.cells[dst] = self.cells[src][:length]

    def truncate(self, seq_id: int, length: int) -> None:
        del self.cells.setdefault(seq_id, [])[length:]

    def interrupt(self) -> None:
        self.interrupted = True

    def close(self) -> None:
        self.closed = True


class FakeStates:
    """State files: llama.cpp's header with the tokens, then the tokens again as the state."""

    key = "fake"

    def __init__(self, backend: FakeBackend) -> None:
        self.backend = backend
        self.num_loaded = self.num_settled = 0

    def size(self, seq_id: int, start: int, stop: int) -> int:
        return 12 + 8 * (stop - start)

    def save(self, seq_id: int, start: int, tokens: Sequence[int], path: Path) -> int:
        assert self.backend.cells[seq_id][start : start + len(tokens)] == list(tokens)
        ids = array("i", tokens).tobytes()
        return path.write_bytes(struct.pack("<4sII", b"fake", 1, len(tokens)) + ids + ids)

    def load(self, seq_id: int, start: int, tokens: Sequence[int], path: Path) -> None:
        cells = self.backend.cells.setdefault(seq_id, [])
        assert len(cells) == start, "a part was skipped"
        data = path.read_bytes()
        (count,) = struct.unpack_from("<I", data, 8)
        stored = list(array("i", data[12 : 12 + 4 * count]))
        assert stored[: len(tokens)] == list(tokens)
        cells.extend(tokens)
        self.num_loaded += len(tokens)

    def settle(self, seq_id: int) -> None:
        self.num_settled += 1


def prompt_tokens(text: str) -> tuple[int, ...]:
    """Return a prompt for FakeBackend: BOS, the text's bytes, and a 0 before the answer."""
    return (BOS, *text.encode(), 0)


class FakeVocabulary:
    """A vocabulary of bytes. Its chat template ends with the 0 that FakeBackend expects."""

    n_vocab = 258
    special_tokens = {"<|bos|>": BOS, "<|eot|>": EOG, "<|answer|>": 0}  # noqa: RUF012
    bos_token: int | None = BOS
    eos_token: int | None = EOG
    adds_bos = True
    chat_template: str | None = (
        "{{ bos_token }}{% for t in tools or [] %}{{ t.function.name }}\n{% endfor %}"
        "{% for m in messages %}{{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}<|answer|>{% endif %}"
    )

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        return list(text.encode())

    def token_text(self, token: int | None) -> str:
        return {id: text for text, id in self.special_tokens.items()}.get(token, "")
