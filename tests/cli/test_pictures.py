"""The pictures in the README show what l4 writes now."""

from __future__ import annotations

import importlib.util
from difflib import SequenceMatcher
from types import ModuleType

import pytest
from conftest import ROOT

EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def pictures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pictures", EXAMPLES / "pictures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize(("name", "session"), [("l4.svg", "commands"), ("chat.svg", "chat")])
def test_a_picture_is_of_the_present_state(
    name: str, session: str, pictures: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    now = [line.plain for line in getattr(pictures, session)()]
    shown, wanted = pictures.text_of(EXAMPLES / name), pictures.without_numbers(now)
    changes = SequenceMatcher(None, shown, wanted, autojunk=False).get_opcodes()
    different = [(shown[a:b], wanted[c:d]) for tag, a, b, c, d in changes if tag != "equal"]
    assert different == [], "stale: make pictures"
