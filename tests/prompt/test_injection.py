"""Text of users, files and tools never becomes a control token, whatever templates do with it."""

from __future__ import annotations

import os

import pytest
from injections import PLACES, Bytes, control_tokens, conversation, templates
from marks import slow_but

from l4cli.prompt import PromptEncoder

MEMBERS = int(os.environ.get("L4_MEMBERS", "250"))  # of each template
TEMPLATES = templates()


@pytest.mark.parametrize("name", slow_but([*TEMPLATES][::3], TEMPLATES))
def test_injected_text_adds_no_control_token(name: str) -> None:
    encoder = PromptEncoder(Bytes(TEMPLATES[name]))
    places = set()
    for seed in range(MEMBERS):
        place, injected, twin = conversation(seed)
        if (control := control_tokens(encoder, injected)) is not None:
            assert control == control_tokens(encoder, twin), (seed, place, injected)
            places.add(place)
    assert len(places) > len(PLACES) / 4


def test_the_text_is_all_there() -> None:
    encoder = PromptEncoder(Bytes("{% for m in messages %}{{ m.content }}{% endfor %}"))
    for seed in range(MEMBERS):
        _, injected, _ = conversation(seed)
        said = [m["content"] for m in injected["messages"]]
        texts = [t if isinstance(t, str) else "".join(p["text"] for p in t) for t in said]
        markers = {id: text.encode() for text, id in Bytes.user_defined_tokens.items()}
        read = [markers.get(id) or bytes([id]) for id in encoder.chat(injected["messages"])]
        assert b"".join(read).decode() == "".join(texts)


def test_a_role_is_the_templates_only_if_it_is_one() -> None:
    encoder = PromptEncoder(Bytes(TEMPLATES["role"]))
    user, end = (Bytes.special_tokens[text] for text in ("<|user|>", "<|end|>"))
    assert encoder.chat([{"role": "user", "content": "a"}]) == [user, *b"a", end]
    assert encoder.chat([{"role": "end", "content": "a"}]) == [*b"<|end|>a", end]


def test_an_answer_keeps_the_markers_that_the_model_wrote() -> None:
    template = "<think></think>{% for m in messages %}{{ m.content }}{% endfor %}"
    encoder = PromptEncoder(Bytes(template))
    think, end = (Bytes.user_defined_tokens[text] for text in ("<think>", "</think>"))
    said = encoder.chat([{"role": "assistant", "content": "<think>a</think>b"}])
    assert said == [think, end, think, *b"a", end, *b"b"]
    asked = encoder.chat([{"role": "user", "content": "<think>a</think>b"}])
    assert asked == [think, end, *b"<think>a</think>b"]
