"""A role that the template does not know by name is an error, not an answer as if nothing were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands_here import run_here
from conftest import GOLDEN

from l4cli.prompt.encode import _named_roles


def test_an_unknown_role_is_that_rows_error(tiny_gguf: Path, tmp_path: Path) -> None:
    roles = ["bob", "user", "User", "", "ipython", "developer"]
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(
            json.dumps({"messages": [{"role": role, "content": "Hi"}], "max_tokens": 1}) + "\n"
            for role in roles
        )
    )
    done = run_here(["run", "-m", str(tiny_gguf), str(rows)])
    errors = [json.loads(line).get("error") for line in done.out.splitlines()]
    assert [error is None for error in errors] == [False, True, False, False, True, True]
    assert "messages[0] has the role 'bob'" in json.dumps(errors[0])
    assert "known: assistant, system, tool, user" in json.dumps(errors[0])


@pytest.mark.parametrize(
    ("family", "role"),
    [("gpt_oss", "developer"), ("gemma3", "assistant")],
)
def test_roles_that_a_template_names_are_known(family: str, role: str) -> None:
    assert role in _named_roles((GOLDEN / "families" / f"{family}.jinja").read_text())


def test_roles_in_a_list_are_known() -> None:
    source = "{% if message['role'] in ['critic', \"judge\"] %}{% elif m.role not in ('a', 'b') %}"
    assert _named_roles(source) == {"critic", "judge", "a", "b"}
