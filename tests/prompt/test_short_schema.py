"""The short form of a schema, and the other forms that --schema takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from l4cli.batch.input import constraint_of
from l4cli.errors import InputError
from l4cli.prompt.short_schema import schema_of

MOOD = {"type": "string", "enum": ["good", "bad"]}
STRINGS = {"type": "array", "items": {"type": "string"}}


@pytest.mark.parametrize(
    ("text", "properties"),
    [
        ("name", {"name": {"type": "string"}}),
        ("name, age int", {"name": {"type": "string"}, "age": {"type": "integer"}}),
        (" a float ,b bool,", {"a": {"type": "number"}, "b": {"type": "boolean"}}),
        ("tags [str]", {"tags": STRINGS}),
        (
            "s string, t text, n number, d double, i Integer, b boolean, l [string]",
            {
                **{name: {"type": "string"} for name in "st"},
                **{name: {"type": "number"} for name in "nd"},
                "i": {"type": "integer"},
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
            {"grid": {"type": "array", "items": {**STRINGS, "items": {"type": "integer"}}}},
        ),
        ("mood good|bad: how", {"mood": {**MOOD, "description": "how"}}),
        ("mood good | bad, n int", {"mood": MOOD, "n": {"type": "integer"}}),
        ("moods [good|bad]", {"moods": {"type": "array", "items": MOOD}}),
        ("name: the dog's name", {"name": {"type": "string", "description": "the dog's name"}}),
        (
            "name: first, and last\nage int: in years: whole ones\n\n",
            {
                "name": {"type": "string", "description": "first, and last"},
                "age": {"type": "integer", "description": "in years: whole ones"},
            },
        ),
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
        (" , ", "no field in it"),
        ("", "no field in it"),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        constraint_of(text, None)
    assert str(caught.value).startswith("--schema: ")
    assert said in str(caught.value)


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
