"""Weights and vocabulary of one GGUF file."""

from __future__ import annotations

import ctypes
import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import llama_cpp

from convert.errors import ConvertError
from convert.gguf.vetting import vet
from l4cli.engine.channels import Channels
from l4cli.engine.llamacpp import library, slow_runs
from l4cli.engine.llamacpp.deep_stack import with_deep_stack
from l4cli.engine.llamacpp.devices import devices, expert_patterns, on_cpu
from l4cli.engine.llamacpp.pages import ask_for_huge_pages
from l4cli.engine.llamacpp.words import PRE_TOKENIZERS, Words
from l4cli.engine.rollback import AttentionKind
from l4cli.engine.thoughts import shown_tags
from l4cli.engine.types import Constraint
from l4cli.engine.wordpiece import WordPiece
from l4cli.errors import ModelLoadError, RequestError
from l4cli.native import selftest

if TYPE_CHECKING:
    from l4cli.engine.llamacpp.constraint import Compiler, Matcher

# LLAMA_TOKEN_ATTR_… of llama.h
_UNKNOWN, _UNUSED, _CONTROL, _USER_DEFINED = 1 << 0, 1 << 1, 1 << 3, 1 << 4
_DEFAULT_UNKNOWN = 100  # llama.cpp's special_unk_id for BERT's vocabularies
_T = TypeVar("_T")


class VocabularyFacts:
    """Facts about a file's vocabulary, shared by all models that are loaded from the file.

    A large vocabulary takes long to examine. The maker must have vetted the file at `path`; the
    file is not vetted again while its size and modification time stay the same.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._version = path, _version(path)
        self._found: dict[str, Any] = {}

    def holds(self, path: Path) -> bool:
        """Whether the facts are true of the file that is at `path` now."""
        return self._version is not None and (self._path, self._version) == (path, _version(path))

    def get(self, name: str, find: Callable[[], _T]) -> _T:
        """The fact `name`; `find` determines it the first time."""
        if name not in self._found:
            self._found[name] = find()
        value: _T = self._found[name]
        return value


class LlamaModel:
    """A loaded GGUF: its vocabulary, metadata and (unless `vocab_only`) its weights.

    n_gpu_layers: layers on graphics cards; -1 means as many as the build can put there.
    cpu_moe: the routed experts of this many first layers stay in RAM.
    tensor_split: the share of each card, if there are several.
    repack: whether weights in RAM are copied into the CPU kernels' order; otherwise they stay in
        the mapped file, in its order.
    overrides: numbers of the metadata, by their keys, that count instead of the file's own.
    on_progress: called with 0..1 while loading; an exception that it raises ends the loading.
    vocabulary: facts from an earlier model of the same file, which are reused. A model that makes
        embeddings is loaded only with facts of its file, whose maker let it pass.

    Raises ModelLoadError with llama.cpp's own reason. Close it after every context made from it.
    """

    def __init__(
        self,
        path: Path,
        *,
        n_gpu_layers: int = -1,
        cpu_moe: int = 0,
        tensor_split: Sequence[float] = (),
        repack: bool = True,
        overrides: Mapping[str, int] | None = None,
        vocab_only: bool = False,
        on_progress: Callable[[float], None] | None = None,
        vocabulary: VocabularyFacts | None = None,
    ) -> None:
        self.path = path
        if vocabulary is None or not vocabulary.holds(path):
            _vet(path)
            vocabulary = VocabularyFacts(path)
        self.vocabulary = vocabulary
        library.start()
        library.forget_log()
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = n_gpu_layers
        params.vocab_only = vocab_only
        params.use_extra_bufts = repack
        placed = on_cpu(expert_patterns(range(cpu_moe)))
        if cpu_moe:
            params.tensor_buft_overrides = ctypes.addressof(placed)
        shares = (ctypes.c_float * llama_cpp.llama_max_devices())(*tensor_split)
        if tensor_split:
            params.tensor_split = shares

        self.overrides = dict(overrides or {})
        told = _overrides(self.overrides)
        if self.overrides:
            params.kv_overrides = told

        raised: list[BaseException] = []

        @llama_cpp.llama_progress_callback  # type: ignore[untyped-decorator, unused-ignore]
        def report(progress: float, _user_data: ctypes.c_void_p) -> bool:
            # ctypes would lose an exception raised here; False makes llama.cpp stop loading.
            try:
                if not progress:  # the buffers exist, and nothing is in them yet
                    ask_for_huge_pages()
                if on_progress:
                    on_progress(progress)
            except BaseException as error:
                raised.append(error)
            return not raised

        params.progress_callback = report
        self.handle = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
        if raised:
            self.close()
            raise raised[0]
        if not self.handle:
            raise ModelLoadError(f"{path}: {_why(library.last_complaint())}")
        self.vocab = llama_cpp.llama_model_get_vocab(self.handle)
        self.rounding = _rounding(n_gpu_layers, cpu_moe, tensor_split, repack)

    def close(self) -> None:
        """Free weights and vocabulary; idempotent."""
        if self.handle:
            llama_cpp.llama_model_free(self.handle)
            self.handle = None
            self.vocab = None

    # Facts from the file's metadata.

    @property
    def n_ctx_train(self) -> int:
        """Tokens of context the model was trained for; 0 if the file does not say."""
        architecture = self.metadata("general.architecture")
        value = self.metadata(f"{architecture}.context_length")  # known with vocab_only, too
        return _number(value)

    @property
    def n_layers(self) -> int:
        """Number of blocks; 0 if the file does not say."""
        value = self.metadata(f"{self.metadata('general.architecture')}.block_count")
        return _number(value)

    @property
    def n_params(self) -> int:
        return int(llama_cpp.llama_model_n_params(self.handle))

    @property
    def n_vocab(self) -> int:
        return int(llama_cpp.llama_vocab_n_tokens(self.vocab))

    @property
    def chat_template(self) -> str | None:
        """The Jinja source of the chat template in the file, if it has one."""
        text = llama_cpp.llama_model_chat_template(self.handle, None)
        return text.decode("utf-8", errors="replace") if text else None

    def metadata(self, key: str) -> str | None:
        """A scalar metadata value as text; None if absent."""
        size = 256
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = llama_cpp.llama_model_meta_val_str(self.handle, key.encode(), buffer, size)
            if length < 0:
                return None
            if length < size:
                return buffer.value.decode("utf-8", errors="replace")
            size = length + 1

    @property
    def attention(self) -> tuple[AttentionKind, int]:
        """The rollback rule that applies, and its window in tokens (0 if there is none)."""
        if llama_cpp.llama_model_is_recurrent(self.handle) or llama_cpp.llama_model_is_hybrid(
            self.handle
        ):
            return "recurrent", 0
        window = int(llama_cpp.llama_model_n_swa(self.handle))
        if not window:
            return "full", 0
        is_chunked = self.metadata("general.architecture") == "llama4"
        return ("chunked" if is_chunked else "sliding"), window

    @property
    def has_states(self) -> bool:
        """Whether parts of sequences can be saved: not if the cache holds only a window of them."""
        return self.attention[0] in ("full", "chunked") and selftest.outcome().states

    @property
    def can_move(self) -> bool:
        """Whether sequences can be moved between a pool and regions (`moving.py`)."""
        return selftest.outcome().moving

    # Text to token ids and back.

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of `text`, with no BOS added.

        Only with `special` does text such as `<|eot|>` become a control token. RequestError if the
        text has a lone surrogate, which UTF-8 cannot encode.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise RequestError(
                f"the text holds a lone surrogate at character {error.start}"
            ) from None
        if self._words and not special:
            return self._words.ids(text)
        if self._wordpiece and not special:
            return self._wordpiece.ids(text)
        if self._cuts_digits and not special:
            parts = slow_runs.parts(text)
            return [token for part in parts for token in self._tokenize(part, special=False)]
        slow_runs.check(self._pre_tokenizer, text)
        return self._tokenize(text, special)

    @functools.cached_property
    def _pre_tokenizer(self) -> str | None:
        return self.metadata("tokenizer.ggml.pre")

    @functools.cached_property
    def _cuts_digits(self) -> bool:
        return slow_runs.cuts_digits(self._pre_tokenizer, self.user_defined_tokens)

    @functools.cached_property
    def _words(self) -> Words | None:
        """The faster tokenizer, if it gives the same ids for this vocabulary."""

        def tokenize(text: str) -> list[int]:
            return self._tokenize(text, special=False)

        is_bpe = self.metadata("tokenizer.ggml.model") == "gpt2"
        if not is_bpe or self._pre_tokenizer not in PRE_TOKENIZERS:
            return None
        if any(attribute & _USER_DEFINED for attribute in self._attributes):
            return None
        return Words(tokenize) if len(tokenize("\n")) == len(tokenize("0")) == 1 else None

    @functools.cached_property
    def _wordpiece(self) -> WordPiece | None:
        """BERT's tokenizer, where llama.cpp's gives other ids; None for other vocabularies."""
        if not self._is_wordpiece:
            return None
        tokens = (
            (self.token_text(id_), id_)
            for id_, attribute in enumerate(self._attributes)
            if not attribute & (_CONTROL | _UNKNOWN | _UNUSED)
        )
        lowercase = self.metadata("tokenizer.ggml.normalizer.lowercase") != "false"
        strips = self.metadata("tokenizer.ggml.normalizer.strip_accents")
        return WordPiece(
            tokens,
            self._unknown_token,
            lowercase=lowercase,
            strips_accents=lowercase if strips is None else strips == "true",
        )

    @property
    def _unknown_token(self) -> int:
        """The token for words that BERT cannot take apart; 100, if the file names none."""
        stated = self.metadata("tokenizer.ggml.unknown_token_id")
        return _DEFAULT_UNKNOWN if stated is None else _number(stated)

    def _tokenize(self, text: str, special: bool) -> list[int]:
        data = text.encode("utf-8")
        size = len(data) + 8  # each token takes a byte or more, except a space put in front
        ids = (llama_cpp.llama_token * size)()
        count = with_deep_stack(
            text,
            lambda: llama_cpp.llama_tokenize(
                self.vocab, data, len(data), ids, size, False, special
            ),
        )
        if count < 0:
            raise RequestError(f"the text of {len(data)} bytes is too long to tokenize")
        return list(ids[:count])

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for; none for control tokens but those around a thought."""
        return self._pieces(token)

    @functools.cached_property
    def _pieces(self) -> Callable[[int], bytes]:
        vocab, tags = self.vocab, shown_tags(self.special_tokens)

        @functools.lru_cache(maxsize=65536)
        def piece(token: int) -> bytes:
            if token in tags:
                return tags[token]
            size = 64
            while True:
                buffer = ctypes.create_string_buffer(size)
                n = llama_cpp.llama_token_to_piece(vocab, token, buffer, size, 0, False)
                if n >= 0:
                    return buffer.raw[:n]
                size = -n

        return piece

    @property
    def eog_tokens(self) -> frozenset[int]:
        return self.vocabulary.get("eog_tokens", self._find_eog_tokens)

    def _find_eog_tokens(self) -> frozenset[int]:
        return frozenset(
            token
            for token in range(self.n_vocab)
            if llama_cpp.llama_vocab_is_eog(self.vocab, token)
        )

    @property
    def special_tokens(self) -> dict[str, int]:
        """Text and id of every control token: plain text must never turn into one of them."""
        return self.vocabulary.get("special_tokens", self._find_special_tokens)

    @functools.cached_property
    def channels(self) -> Channels | None:
        """The tokens between which answers have channels; None if there are none."""
        return Channels.of({**self.user_defined_tokens, **self.special_tokens})

    def _find_special_tokens(self) -> dict[str, int]:
        return self._tokens_with(_CONTROL)

    @property
    def user_defined_tokens(self) -> dict[str, int]:
        """Text and id of the tokens that llama.cpp finds in any text, before it takes it apart."""
        return self.vocabulary.get("user_defined_tokens", lambda: self._tokens_with(_USER_DEFINED))

    def _tokens_with(self, wanted: int) -> dict[str, int]:
        found = {}
        for token, attribute in enumerate(self._attributes):
            if attribute & wanted:
                text = llama_cpp.llama_vocab_get_text(self.vocab, token)
                found[text.decode("utf-8", errors="replace")] = token
        return found

    @property
    def _attributes(self) -> list[int]:
        """Each token's LLAMA_TOKEN_ATTR bits."""
        return self.vocabulary.get("attributes", self._find_attributes)

    def _find_attributes(self) -> list[int]:
        tokens = range(self.n_vocab)
        return [llama_cpp.llama_vocab_get_attr(self.vocab, token) for token in tokens]

    def matcher(self, constraint: Constraint) -> Matcher:
        """A matcher that follows an answer through its language; RequestError if it is unusable.

        CompileAbortedError after `interrupt`.
        """
        return self._constraints.matcher(constraint)

    def interrupt(self) -> None:
        """Make `matcher` raise CompileAbortedError if it is at work. Safe from any thread."""
        from l4cli.engine.guidance import trial

        trial.interrupt()

    @functools.cached_property
    def _constraints(self) -> Compiler:
        from l4cli.engine.llamacpp.constraint import Compiler

        return Compiler(self)  # takes a second for a large vocabulary

    @property
    def bos_token(self) -> int | None:
        token = int(llama_cpp.llama_vocab_bos(self.vocab))
        return token if token >= 0 else None

    @property
    def eos_token(self) -> int | None:
        token = int(llama_cpp.llama_vocab_eos(self.vocab))
        return token if token >= 0 else None

    @property
    def text_begin(self) -> tuple[int, ...]:
        """What an embedding model wants before every text: BOS, or BERT's [CLS]."""
        bos = self.bos_token
        wants = self._is_wordpiece or self.adds_bos
        return (bos,) if wants and bos is not None else ()

    @property
    def text_end(self) -> tuple[int, ...]:
        """What an embedding model wants behind every text: EOS, or BERT's [SEP]."""
        if self._is_wordpiece:
            end = int(llama_cpp.llama_vocab_sep(self.vocab))
            return (end,) if end >= 0 else ()
        eos = self.eos_token
        wants = bool(llama_cpp.llama_vocab_get_add_eos(self.vocab))
        return (eos,) if wants and eos is not None else ()

    @property
    def _is_wordpiece(self) -> bool:
        return self.metadata("tokenizer.ggml.model") == "bert"

    @property
    def added_bos(self) -> int | None:
        """The BOS that this vocabulary wants before every text; None if it wants none."""
        return self.bos_token if self.adds_bos else None

    @property
    def adds_bos(self) -> bool:
        """Whether this vocabulary wants a BOS before every text."""
        return bool(llama_cpp.llama_vocab_get_add_bos(self.vocab))

    def token_text(self, token: int | None) -> str:
        """The text of a token as templates write it, "" for None."""
        if token is None:
            return ""
        text: bytes = llama_cpp.llama_vocab_get_text(self.vocab, token)
        return text.decode("utf-8", errors="replace")


def _overrides(values: Mapping[str, int]) -> Any:
    """Return whole numbers as llama.cpp's list of overrides, which an empty key ends."""
    listed = (llama_cpp.llama_model_kv_override * (len(values) + 1))()
    for entry, (key, value) in zip(listed, values.items(), strict=False):
        entry.tag = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_INT
        entry.key = key.encode()
        entry.value.val_i64 = value
    return listed


def _rounding(n_gpu_layers: int, cpu_moe: int, tensor_split: Sequence[float], repack: bool) -> str:
    """A description of the devices and layout on which the rounding of sums depends.

    States are exact only if this description and the weights are the same.
    """
    cards = [f"{card.id} {card.name}" for card in devices()] if n_gpu_layers else []
    if cards:
        return f"{n_gpu_layers} layers, {cpu_moe} without experts, on {cards} {list(tensor_split)}"
    return f"weights {'reordered' if repack else 'as in the file'}"


def _version(path: Path) -> tuple[int, int] | None:
    """The size and time of the file at `path`, to notice changes; None if they are unknown."""
    try:
        stat = path.stat()
    except OSError:  # opening the file will report this better
        return None
    return stat.st_size, stat.st_mtime_ns


def _number(value: str | None) -> int:
    """A number of the metadata; 0 if it is none."""
    return int(value) if value and re.fullmatch("[0-9]{1,19}", value) else 0


def _vet(path: Path) -> None:
    """Check the file first: llama.cpp would report its faults less plainly, or end the process."""
    try:
        vet(path)
    except ConvertError as error:
        raise ModelLoadError(str(error)) from None


def _why(complaint: str) -> str:
    """llama.cpp's complaint in words for the person who has the file."""
    text = complaint.partition(": ")[2] or complaint
    if "not within" in text or "corrupted or incomplete" in text or "failed to read" in text:
        return f"the file is damaged or not downloaded whole ({text})"
    return f"llama.cpp cannot load it ({text or 'it gave no reason; try --verbose'})"
