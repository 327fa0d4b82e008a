"""The short form of a schema, and the other forms that --schema takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer

from l4cli.batch.input import constraint_of
from l4cli.engine.guidance.translate import to_llguidance
from l4cli.errors import InputError
from l4cli.prompt.short_schema import schema_of

MOOD = {"type": "string", "enum": ["good", "bad"]}
WHOLE = {"type": "integer", "minimum": -(10**15) + 1, "maximum": 10**15 - 1}
NUMBER = {**WHOLE, "type": "number", "multipleOf": 1e-9}
STARS = {"type": "integer", "minimum": 1, "maximum": 5}
STRINGS = {"type": "array", "items": {"type": "string"}}


@pytest.mark.parametrize(
    ("text", "properties"),
    [
        ("name", {"name": {"type": "string"}}),
        ("name, age int", {"name": {"type": "string"}, "age": WHOLE}),
        (" a float ,b bool,", {"a": NUMBER, "b": {"type": "boolean"}}),
        ("tags [str]", {"tags": STRINGS}),
        (
            "s string, t text, n number, d double, i Integer, b boolean, l [string]",
            {
                **{name: {"type": "string"} for name in "st"},
                **dict.fromkeys("nd", NUMBER),
                "i": WHOLE,
                "b": {"type": "boolean"},
                "l": STRINGS,
            },
        ),
        (
            "medium text|number",  # words, and none of them l4's own name of a type
            {"medium": {"type": "string", "enum": ["text", "number"]}},
        ),
        (
            "grid [[int]]",
            {"grid": {"type": "array", "items": {**STRINGS, "items": WHOLE}}},
        ),
        ("mood good|bad: how", {"mood": {**MOOD, "description": "how"}}),
        ("mood good | bad, n int", {"mood": MOOD, "n": WHOLE}),
        ("moods [good|bad]", {"moods": {"type": "array", "items": MOOD}}),
        ("name: the dog's name", {"name": {"type": "string", "description": "the dog's name"}}),
        (
            "name: first, and last\nage int: in years: whole ones\n\n",
            {
                "name": {"type": "string", "description": "first, and last"},
                "age": {**WHOLE, "description": "in years: whole ones"},
            },
        ),
        ("stars 1..5: how good", {"stars": {**STARS, "description": "how good"}}),
        ("t -5 .. 40", {"t": {"type": "integer", "minimum": -5, "maximum": 40}}),
        ("all [1..5]", {"all": {"type": "array", "items": STARS}}),
        ("p 0..1.0", {"p": {"type": "number", "minimum": 0, "maximum": 1, "multipleOf": 1e-9}}),
        ("名前 str", {"名前": {"type": "string"}}),
    ],
)
def test_the_short_form(text: str, properties: dict[str, Any]) -> None:
    schema = schema_of(text)
    assert schema["properties"] == properties
    assert schema["required"] == list(properties)
    assert not schema["additionalProperties"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name, age year", "field 2, 'age year': no type 'year'; a type is str, int"),
        ("age intt", "field 1, 'age intt': no type 'intt'; did you mean int?"),
        ("age strng", "no type 'strng'; did you mean str?"),
        ("age int?", "no type 'int?'; did you mean int?"),
        ("tags list", "no type 'list'; did you mean [str]?"),
        ("tags List[int]", "no type 'List[int]'; did you mean [int]?"),
        ("tags int[]", "no type 'int[]'; did you mean [int]?"),
        ("int age", "field 1, 'int age': a type follows its name: age int"),
        ("age integer|null", "'integer' cannot be one of a choice"),
        ("tags [", "field 1, 'tags [': no type '['"),
        ("tags []", "no type '[]'"),
        ("tags [dict]", "no type 'dict'"),
        ("age int years", "'years' is too much; a description follows a colon"),
        ("a, b, a int", "field 3, 'a int': 'a' is there already"),
        (": a name", "a field needs a name before the colon"),
        ("[str] tags", "is not a name"),
        ("good|bad", "'good|bad' is not a name"),
        ("mood good|", "a word is missing beside a |"),
        ("mood |", "'mood|' is not a name"),
        ("mood good|bad|good", "a word is there twice"),
        ("age int|str", "'int' cannot be one of a choice"),
        ("mood [good|bad", "'[good' cannot be one of a choice"),
        ("stars 1..", "'1..' is no range; a range is as in 1..5 or 0.0..1.0"),
        ("stars 1...5", "'1...5' is no range"),
        ("stars low..high", "is no range"),
        ("stars 5..1", "5 is above 1; give the smaller number first"),
        ("n 1..10000000000000000", "a bound has more than 15 digits"),
        (" , ", "no field in it"),
        ("", "no field in it"),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        constraint_of(text, None)
    assert str(caught.value).startswith("--schema: ")
    assert said in str(caught.value)


@pytest.mark.parametrize("kind", ["int", "float", "1..5", "0.5..1.5", "-2.25..-1"])
def test_a_number_ends_by_itself(kind: str) -> None:
    """A model that writes digits as long as it may still completes its JSON."""
    guide = constraint_of(f"n {kind}", None)
    assert guide
    for digit in b"0123456789":
        matcher = LLMatcher(LLTokenizer("byte"), to_llguidance(guide))
        assert matcher.try_consume_tokens(list(b'{"n":')) == 5
        begun = [b"-", b"1", b"0", b"-1", b"-2"] if kind[0] in "-if" else [b"1", b"0"]
        for head in begun:
            each = matcher.deep_copy()
            if each.try_consume_tokens(list(head)) == len(head):
                each.try_consume_tokens([digit] * 100)
                each.try_consume_tokens(list(b"."))
                assert each.try_consume_tokens([digit] * 100) < 25
                assert not each.try_consume_tokens([digit] * 2) or digit == 0


def test_a_schema_is_given_in_line_in_a_file_or_in_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    schema = schema_of("name, age int")
    Path("dog.json").write_text(json.dumps(schema))
    Path("my schema").write_text(json.dumps(schema))
    forms = ("name, age int", json.dumps(schema), "dog.json", "my schema", Path("dog.json"))
    made = [constraint_of(form, None) for form in forms]
    assert made[0] is not None
    assert made == [made[0]] * len(forms)
    for odd, said in (("cat.json", "cat.json: No such file"), ('{"type": ', "--schema: not JSON")):
        with pytest.raises(InputError, match=said):
            constraint_of(odd, None)
