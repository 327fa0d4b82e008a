"""Files for --schema that are odd: one line that names the file, before a model is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from l4cli.batch.input import constraint_of
from l4cli.errors import InputError

ODD: dict[str, tuple[bytes, str]] = {
    "twice": (b'{"type": "object", "type": "string"}', "states 'type' twice"),
    "twice inside": (b'{"properties": {"a": {}, "a": {}}}', "states 'a' twice"),
    "NaN": (b'{"const": NaN}', "NaN is not a JSON number"),
    "1e999": (b'{"const": 1e999}', "a number too large to read"),
    "deep": (b'{"a":' * 100_000, "nested too deeply"),
    "a list": (b"[]", "must be an object"),
    "half of a character": (b'{"const": "\\ud800"}', "half of a character"),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_schema_is_named(kind: str, tmp_path: Path) -> None:
    data, said = ODD[kind]
    path = tmp_path / "schema.json"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        constraint_of(path, None)
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
