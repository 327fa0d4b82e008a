"""The model class for lm-evaluation-harness, on a stand-in for the harness's base class."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from l4cli.errors import UsageError
from l4cli.eval import harness


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, type]]:
    """Modules with the names of the harness that the class uses; yields what is registered."""

    class Registry(dict[str, Any]):
        def register(self, name: str) -> Any:
            return lambda found: self.setdefault(name, found)

    class LM:
        def __init__(self) -> None:
            self.is_begun = True

    registered = Registry()
    contents: dict[str, dict[str, Any]] = {
        "lm_eval": {},
        "lm_eval.api": {},
        "lm_eval.api.model": {"LM": LM},
        "lm_eval.api.registry": {"model_registry": registered},
        "lm_eval.models": {},
    }
    for name, attributes in contents.items():
        module = ModuleType(name)
        vars(module).update(attributes, __path__=[])
        monkeypatch.setitem(sys.modules, name, module)
    harness.model_class.cache_clear()
    yield registered
    harness.model_class.cache_clear()


@pytest.fixture
def lm(registry: dict[str, type], tiny_gguf: Path) -> Iterator[Any]:
    harness.register()
    found = registry["l4"](model=str(tiny_gguf), threads=1, max_length=64, batch_size=1)
    yield found
    found.close()


def asked(*args: Any) -> SimpleNamespace:
    return SimpleNamespace(args=args)


def test_the_class_is_registered_once_and_begins_its_base(lm: Any, registry: Any) -> None:
    harness.register()
    assert list(registry) == ["l4"]
    assert lm.is_begun
    assert lm.tokenizer_name == "tiny"


def test_requests_come_back_in_their_order(lm: Any) -> None:
    requests = [
        asked("one two", " three"), asked("five", " six seven"),
        asked("one two", " four five six"), asked("", "eight"),
    ]  # fmt: skip
    together = lm.loglikelihood(requests)
    alone = [lm.loglikelihood([request])[0] for request in requests]
    assert [greedy for _, greedy in together] == [greedy for _, greedy in alone]
    assert [value for value, _ in together] == pytest.approx(
        [value for value, _ in alone], rel=1e-3
    )
    assert all(value < 0 for value, _ in together)


def test_a_long_context_loses_its_beginning(lm: Any) -> None:
    long = "word " * 200 + "the end"
    [(cut, _)] = lm.loglikelihood([asked(long, " of it")])
    [(same, _)] = lm.loglikelihood([asked("other " * 300 + long, " of it")])
    assert cut == pytest.approx(same, rel=1e-3)
    with pytest.raises(UsageError, match="max_length is 64"):
        lm.loglikelihood([asked("a", " word" * 100)])


def test_rolling_windows_score_every_token_once(lm: Any) -> None:
    ids = list(range(1, 200))
    windows = list(lm._windows(ids))
    assert [token for _, scored in windows for token in scored] == ids
    assert all(1 <= len(before) + len(scored) <= 65 for before, scored in windows)
    short, long = lm.loglikelihood_rolling([asked("one two"), asked("one two three " * 60)])
    assert long < short < 0


def test_answers_end_at_a_stop_string(lm: Any) -> None:
    whole, cut = lm.generate_until(
        [
            asked("hello", {"until": [], "max_gen_toks": 8}),
            asked("hello", {"until": ["zzz"], "max_gen_toks": 4, "do_sample": False}),
        ]
    )
    assert whole.startswith(cut)
    if whole:
        [none] = lm.generate_until([asked("hello", {"until": whole[0], "max_gen_toks": 8})])
        assert none == ""
    assert lm.generate_until([]) == []


def test_a_conversation_is_written_by_the_models_template(lm: Any) -> None:
    text = lm.apply_chat_template([{"role": "user", "content": "hi there"}])
    assert "hi there" in text
    assert not text.startswith("<|begin_of_text|>")
    ids = lm._pair(text, " yes")[0]
    assert set(ids) & set(lm._model.special_tokens.values())


def test_an_unknown_argument_is_named(registry: Any, tiny_gguf: Path) -> None:
    harness.register()
    with pytest.raises(UsageError, match="has no argument 'modle'"):
        registry["l4"](modle=str(tiny_gguf))


def test_without_the_harness_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    harness.model_class.cache_clear()
    for name in ("lm_eval", "lm_eval.api", "lm_eval.api.model"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=r"pip install 'l4\[eval\]'"):
        harness.register()
