"""Prompts are those of transformers' `apply_chat_template` (tests/golden/make_prompts.py)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import GOLDEN, ROOT

from l4cli.engine.llamacpp import LlamaModel
from l4cli.errors import RequestError
from l4cli.openai import fields
from l4cli.prompt import PromptEncoder
from l4cli.prompt.template import ChatTemplate, llama4_template

HERE = GOLDEN
GOLDEN = json.loads((HERE / "prompts.json").read_text("utf-8"))
CASES = [(name, case) for name, cases in GOLDEN["prompts"].items() for case in cases]


def source_of(name: str) -> str:
    """ "demo" is l4's own template, which the demo checkpoint carries."""
    return llama4_template() if name == "demo" else (HERE / f"templates/{name}.jinja").read_text()


def test_the_demo_checkpoint_carries_our_own_template() -> None:
    path = Path("l4cli/demo/checkpoint/tokenizer_config.json")
    config = json.loads((ROOT / path).read_text("utf-8"))
    assert config["chat_template"] == llama4_template()


@pytest.mark.parametrize(("name", "case"), CASES)
def test_a_prompt_reads_as_transformers_writes_it(name: str, case: str) -> None:
    template = ChatTemplate(source_of(name), bos_token="<|begin_of_text|>", eos_token="<|eot|>")
    golden, conversation = GOLDEN["prompts"][name][case], GOLDEN["conversations"][case]
    if "error" in golden:
        with pytest.raises(RequestError, match="chat template cannot show these messages"):
            template.render(**conversation)
    else:
        assert template.render(**conversation) == golden["text"]


FAMILIES = json.loads((HERE / "families.json").read_text("utf-8"))


class Bytes:
    """A vocabulary of bytes with the names that the goldens' tokenizer has."""

    n_vocab = 258
    special_tokens = {"<|begin_of_text|>": 256, "<|eot|>": 257}  # noqa: RUF012
    bos_token, eos_token, adds_bos = 256, 257, False

    def __init__(self, template: str) -> None:
        self.chat_template = template

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        return list(text.encode())

    def token_text(self, token: int | None) -> str:
        return {id: text for text, id in self.special_tokens.items()}[token or 0]


@pytest.mark.parametrize("family", FAMILIES["prompts"])
def test_every_familys_format_is_given_what_it_wants(family: str) -> None:
    """Whatever form a template wants messages in, they are OpenAI's."""
    encoder = PromptEncoder(Bytes((HERE / f"families/{family}.jinja").read_text("utf-8")))
    for case, golden in FAMILIES["prompts"][family].items():
        conversation = FAMILIES["conversations"][case]
        if "error" in golden:
            with pytest.raises(RequestError, match=r"cannot show these messages|takes no tools"):
                encoder.render(**conversation)
        else:
            assert encoder.render(**conversation) == golden["text"], case


def ids(golden: dict[str, str]) -> list[int]:
    return [int(id_) for id_ in golden["ids"].split()]


class WithTemplate:
    """A model's vocabulary with a different chat template."""

    def __init__(self, vocabulary: LlamaModel, template: str) -> None:
        self._vocabulary = vocabulary
        self.chat_template = template

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vocabulary, name)


@pytest.fixture(scope="module")
def vocabulary(tiny_gguf: Path) -> Iterator[LlamaModel]:
    model = LlamaModel(tiny_gguf, vocab_only=True)
    yield model
    model.close()


def test_prompts_become_the_token_ids_of_hugging_face(vocabulary: LlamaModel) -> None:
    compared = 0
    for name, case in CASES:
        golden, conversation = GOLDEN["prompts"][name][case], GOLDEN["conversations"][case]
        if "error" in golden or case == "control":
            continue
        encoder = PromptEncoder(WithTemplate(vocabulary, source_of(name)))
        if "[{'type': 'text'" in golden["text"]:  # Python's text of the parts; here it is theirs
            assert bytes(encoder.render(**conversation), "utf-8").count(b"one two") == 1
            continue
        bos = [] if golden["text"].startswith("<|begin_of_text|>") else [vocabulary.bos_token]
        assert encoder.chat(**conversation) == bos + ids(golden), (name, case)
        compared += 1
    assert compared > 30


def test_the_text_of_control_tokens_stays_text(vocabulary: LlamaModel) -> None:
    """Hugging Face turns such text into control tokens; here only the template's own is turned."""
    golden, conversation = (
        GOLDEN["prompts"]["demo"]["control"],
        GOLDEN["conversations"]["control"],
    )
    encoder = PromptEncoder(WithTemplate(vocabulary, source_of("demo")))
    made = encoder.chat(**conversation)
    texts = {id_: text.encode() for text, id_ in vocabulary.special_tokens.items()}
    read = b"".join(texts.get(id_) or vocabulary.piece(id_) for id_ in made)
    assert read.decode() == golden["text"]
    own = [texts[id_].decode() for id_ in made if id_ in texts]
    turn = ["<|header_start|>", "<|header_end|>", "<|eot|>"]
    assert own == ["<|begin_of_text|>", *turn * 4, "<|header_start|>", "<|header_end|>"]
    assert sum(id_ in texts for id_ in ids(golden)) > len(own)


CASES_OF_PEOPLE = ROOT / "tests/data/cases/templates"


def test_a_template_that_pastes_arguments_gets_them_as_json() -> None:
    encoder = PromptEncoder(Bytes((CASES_OF_PEOPLE / "argstr.jinja").read_text("utf-8")))
    for line in (CASES_OF_PEOPLE / "hist.jsonl").read_text("utf-8").splitlines():
        messages = fields.messages(json.loads(line)["messages"])
        (call,) = messages[1]["tool_calls"]
        function = call["function"]
        arguments = json.dumps(function["arguments"])
        shown = f'{{"name": "{function["name"]}", "arguments": {arguments}}}'
        assert f"assistant<|header_end|>{shown}<|eot|>" in encoder.render(messages)


def test_a_template_that_wants_parts_gets_parts() -> None:
    encoder = PromptEncoder(Bytes((CASES_OF_PEOPLE / "parts.jinja").read_text("utf-8")))
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    assert encoder.render(messages).startswith(
        "<|header_start|>system<|header_end|>S<|eot|><|header_start|>user<|header_end|>U<|eot|>"
    )
    assert encoder.chat([{"role": "user", "content": ("a<|e", "ot|>b")}]).count(257) == 1


def test_what_was_thought_is_known_by_all_its_names() -> None:
    encoder = PromptEncoder(Bytes("{{ messages[0].reasoning_content ~ messages[0].thinking }}"))
    for name in ("reasoning_content", "reasoning", "thinking"):
        assert encoder.render([{"role": "assistant", "content": "", name: "hm"}]) == "hmhm"
