"""`l4 config` and `l4 models alias`: settings and names that are kept in files."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest
from commands_here import run_here
from conftest import ROOT

CONFIG, MODELS = "config.toml", "models.toml"


def own_file(name: str, text: str | None = None) -> Path:
    """The user's file of this name, with this text."""
    path = Path(os.environ["XDG_CONFIG_HOME"]) / "l4" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if text is not None:
        path.write_text(text)
    return path


def source_of(key: str) -> tuple[object, str]:
    """A setting's value, and where `l4 config` says that it comes from."""
    shown = run_here(["config", "--json"])
    assert shown.wrong is None
    (found,) = [each for each in json.loads(shown.out) if each["key"] == key]
    return found["value"], found["source"]


def test_every_setting_says_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    own_file(CONFIG, '[defaults]\nctx = "32k"\nmax-tokens = 9\n[run]\nmax-tokens = 5\n')
    own_file(MODELS, "[models.demo]\nsampling = { top_p = 0.5 }\n")
    assert source_of("max-tokens") == (9, "config.toml [defaults]")
    assert source_of("run.max-tokens") == (5, "config.toml")
    assert source_of("top-p") == (0.5, "models.toml, demo")
    assert source_of("model") == ("demo", "models.toml")
    assert source_of("kv-type") == ("f16", "default")
    assert source_of("ctx") == ("32k", "config.toml [defaults]")
    assert source_of("eval.ctx") == (None, "default")  # tokens of a chunk
    monkeypatch.setenv("L4_CTX", "8k")
    assert source_of("ctx") == ("8k", "L4_CTX")


def test_defaults_hold_for_all_commands_that_take_them(tiny_gguf: Path) -> None:
    config = f'[defaults]\nmodel = "{tiny_gguf}"\nmax-tokens = 2\nctx = "auto"\n'
    own_file(CONFIG, config + "[chat]\nmax-tokens = 1\n")
    rows = own_file("rows.jsonl", '{"prompt": "hello", "temperature": 0}\n')
    run = run_here(["run", "--raw", str(rows)])
    assert json.loads(run.out)["usage"]["completion_tokens"] == 2
    # `l4 plan` knows no --ctx auto, and its model is an argument: neither is given to it.
    assert run_here(["plan", "--ram", "64G", "demo:Q8_0"]).code == 0
    assert run_here(["rm"]).code == 2


@pytest.mark.parametrize(("table", "n_ctx"), [("defaults", 512), ("eval", 256)])
def test_a_default_context_is_not_the_length_of_a_text_s_chunk(
    table: str, n_ctx: int, tiny_gguf: Path
) -> None:
    own_file(CONFIG, f'[{table}]\nctx = "256"\n')
    text = own_file("text.txt", "the lamp is green. " * 400)
    measured = run_here(["eval", str(tiny_gguf), "--text", str(text), "--chunks", "2", "--json"])
    assert json.loads(measured.out)["models"][0]["n_ctx"] == n_ctx


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[defaults]\n\nctxx = 3",
            "line 3: [defaults] has no option 'ctxx': no command has it; did",
        ),
        (
            '[defaults]\nctx = "abc"',
            "line 2: defaults.ctx is 'abc': 'abc' is not a number of tokens",
        ),
        (
            "[run]\nmax-tokns = 2",
            "line 2: [run] has no option 'max_tokns'; did you mean max-tokens?",
        ),
        ("[rnu]\na = 2", "line 1: 'rnu' is not a command; did you mean run?"),
        ("[run]\nout = 8", "line 2: [run] out is 8: it is not a text"),
        (
            '[docs.add]\nstore-limit = "20"',
            "line 2: [docs.add] store-limit is '20': '20' has no unit",
        ),
        ("defaults = 3", "defaults is 3, not a table"),
    ],
)
def test_a_wrong_config_toml_is_one_line_that_names_the_line(text: str, said: str) -> None:
    own_file(CONFIG, text)
    ended = run_here(["models"])
    assert ended.code == 2
    assert ended.wrong is None
    assert said in ended.err
    assert run_here(["config", "path"]).code == 0  # what mends it still works


def test_the_group_models_reads_the_options_of_its_list() -> None:
    own_file(CONFIG, "[models]\njson = true\n")
    assert json.loads(run_here(["models"]).out)[0]["name"] == "demo"


def test_set_and_unset_keep_what_else_is_in_the_file() -> None:
    path = own_file(CONFIG, "# mine\n[run]  # rows\nmax_tokens = 3  # few\n")
    assert run_here(["config", "set", "run.max-tokens", "512"]).code == 0
    assert run_here(["config", "set", "ctx", "32k"]).code == 0
    assert run_here(["config", "set", "docs.add.store-limit", "20G"]).code == 0
    assert run_here(["config", "set", "convert.type", "Q8_0", "Q4_K_M"]).code == 0
    text = path.read_text()
    assert text.startswith("# mine\n[run]  # rows\nmax_tokens = 512  # few\n")
    for line in (
        '[defaults]\nctx = "32k"',
        '[docs.add]\nstore-limit = "20G"',
        '["Q8_0", "Q4_K_M"]',
    ):
        assert line in text
    assert run_here(["config", "unset", "ctx"]).code == 0
    assert "32k" not in path.read_text()
    assert "does not set ctx" in run_here(["config", "unset", "ctx"]).err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ctxx", "3"], "no command has an option --ctxx; did you mean ctx?"),
        (["run.max-tokns", "3"], "l4 run has no option --max-tokns; did you mean max-tokens?"),
        (["runn.ctx", "3"], "no command runn; did you mean run?"),
        (["ctx", "abc"], "'abc' is not a number of tokens"),
        (["max-tokens", "many"], "max-tokens cannot be 'many'"),
        (["max-tokens", "1", "2"], "takes one value, not 2"),
    ],
)
def test_set_refuses_what_no_command_takes(words: list[str], said: str) -> None:
    ended = run_here(["config", "set", *words])
    assert ended.code == 2
    assert said in ended.err
    assert not own_file(CONFIG).exists()


@pytest.mark.parametrize("name", ["temperature", "max-tokens", "threads"])
def test_numbers_of_too_many_digits_are_told_with_their_line(name: str) -> None:
    own_file(CONFIG, f"[run]\n{name} = -1{'0' * 400}\n")
    ended = run_here(["models"])
    assert (ended.code, ended.wrong) == (2, None)
    assert f"line 2: [run] {name} is -1" in ended.err
    assert "it has too many digits" in ended.err


def test_edit_begins_a_file_and_checks_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDITOR", "true")
    for name in (CONFIG, MODELS):
        assert run_here(["config", "edit", name]).code == 0
        assert "# " in own_file(name).read_text()
    assert run_here(["models"]).wrong is None  # the templates are right
    monkeypatch.setenv("EDITOR", "sed -i 's/defaults/default/'")
    ended = run_here(["config", "edit"])
    assert (ended.code, ended.wrong) == (2, None)
    assert f"{own_file(CONFIG)}: line 4: 'default' is not a command" in ended.err
    monkeypatch.setenv("EDITOR", str(tmp_path / "none"))
    assert "set EDITOR" in run_here(["config", "edit", "models"]).err


def test_the_files_in_the_documentation_are_right() -> None:
    page = (ROOT / "docs" / "config.md").read_text("utf-8")
    config, models = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    own_file(CONFIG, config)
    own_file(MODELS, models)
    assert run_here(["config"]).wrong is None
    assert source_of("model") == ("small", "config.toml [defaults]")


def test_a_model_gets_a_name(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = own_file(MODELS, "# mine\n")
    monkeypatch.chdir(tiny_gguf.parent)
    assert run_here(["models", "alias", "tiny", tiny_gguf.name]).code == 0
    assert models.read_text() == f'# mine\n\n[aliases]\ntiny = "{tiny_gguf}"\n'
    assert json.loads(run_here(["models", "alias", "--json"]).out) == {"tiny": str(tiny_gguf)}
    assert "tiny" in run_here(["models"]).out
    asked = run_here(["run", "-m", "tiny", "--raw", str(own_file("r.jsonl", '{"prompt": "a"}'))])
    assert json.loads(asked.out)["finish_reason"]
    assert run_here(["info", "tiny"]).code == 0
    assert run_here(["models", "alias", "--rm", "tiny"]).code == 0
    assert models.read_text().strip() == "# mine"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a", "no.gguf"], "no.gguf: no such file"),
        (["a", "scuot"], "did you mean scout"),
        (["scout", "demo"], "scout is the name of a model that l4 knows"),
        (["a/b", "demo"], "cannot be a name"),
        (["a", "https://example.org/x.gguf"], "is a web address"),
        (["a"], "l4 models alias a MODEL"),
        (["a", "a"], "a cannot stand for itself"),
        (["--rm", "a"], "a is not a name that you gave"),
    ],
)
def test_a_wrong_alias_is_one_line(words: list[str], said: str) -> None:
    ended = run_here(["models", "alias", *words])
    assert (ended.code, ended.wrong) == (2, None)
    assert said in ended.err
    assert not own_file(MODELS).exists()


def starred() -> list[str]:
    """The names with a star in `l4 models`."""
    return [line.split()[0] for line in run_here(["models"]).out.splitlines() if " * " in line]


def test_the_star_stands_at_the_model_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert starred() == ["demo"]
    own_file(MODELS, 'default = "mine"\n[aliases]\nmine = "scout:Q8_0"\n')
    assert starred() == ["mine"]
    own_file(CONFIG, '[defaults]\nmodel = "smollm2:Q4_K_M"\n[run]\nmodel = "demo"\n')
    assert starred() == ["smollm2"]
    said = run_here(["models"]).err
    assert "used without --model: smollm2:Q4_K_M (config.toml); " in said
    assert "default of l4 run: demo (config.toml)\n" in said
    monkeypatch.setenv("L4_MODEL", "/x/y.gguf")
    assert starred() == []
    assert run_here(["models"]).err == "default: /x/y.gguf (L4_MODEL)\n"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (CONFIG, '[defaults]\nmodel = "a"\n', "(config.toml): first `l4 config unset model`"),
        (CONFIG, '[run]\nmodel = "a:Q8_0"\n', "(config.toml): first `l4 config unset run.model`"),
        (MODELS, 'default = "a"\n', "(models.toml): first change default in models.toml"),
        (MODELS, "", "b stands for a: first `l4 models alias --rm b`"),
    ],
)
def test_a_name_in_use_is_not_removed(name: str, text: str, said: str) -> None:
    aliases = '[aliases]\na = "demo"\nb = "a"\n'
    own_file(MODELS, aliases)
    own_file(name, text + (aliases if name == MODELS else ""))
    ended = run_here(["models", "alias", "--rm", "a"])
    assert (ended.code, ended.wrong) == (2, None)
    assert said in ended.err
    assert "a =" in own_file(MODELS).read_text()


def test_a_model_that_is_missing_is_told_with_the_place_that_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert run_here(["config", "set", "model", "nonsense"]).err.endswith(", behemoth\n")
    asked = ["chat", "-p", "hi", "-n", "1"]
    ended = run_here(asked)
    assert (ended.code, ended.wrong) == (2, None)
    assert "'nonsense'" in ended.err
    assert "(the default model is nonsense, from config.toml)" in ended.err
    assert "default" not in run_here([*asked, "-m", "other"]).err
    monkeypatch.setenv("L4_MODEL", "/no/x.gguf")
    assert run_here(asked).err.endswith("(the default model is /no/x.gguf, from L4_MODEL)\n")
    monkeypatch.delenv("L4_MODEL")
    assert run_here(["config", "unset", "model"]).code == 0
    own_file(MODELS, 'default = "/no/y.gguf"\n')
    assert run_here(asked).err.endswith("(the default model is /no/y.gguf, from models.toml)\n")


def test_an_answer_names_the_model_as_the_user_does(
    tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    own_file(MODELS, f'[aliases]\nmine = "{tiny_gguf}"\n')
    answer = run_here(["chat", "-m", "mine", "-p", "hi", "-n", "1", "--json"])
    assert json.loads(answer.out)["model"] == "mine"


def test_config_shows_what_is_set_and_all_only_when_asked() -> None:
    own_file(CONFIG, '[defaults]\nctx = "32k"\n')
    assert [line.split()[0] for line in run_here(["config"]).out.splitlines()[1:]] == [
        "ctx",
        "model",
        "temperature",
    ]
    assert "kv-type" in run_here(["config", "--all"]).out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["temp", "1"], "did you mean temperature?"),
        (["num_ctx", "1"], "did you mean ctx?"),
        (["temperature", "hot"], "temperature cannot be 'hot': it is not a number"),
        (["chat.json", "perhaps"], "it is not true or false"),
    ],
)
def test_set_says_in_plain_words_what_is_wrong(words: list[str], said: str) -> None:
    assert said in run_here(["config", "set", *words]).err


def test_get_prints_the_value_alone_and_sets_what_has_an_equals_sign() -> None:
    assert run_here(["config", "set", "temperature=0.25"]).code == 0
    got = run_here(["config", "get", "temperature"])
    assert (got.code, got.out, got.err) == (0, "0.25\n", "from config.toml [defaults]\n")
    own_file(CONFIG, "[defaults]\nthreads = 2\n[run]\nthreads = 1\n")
    assert run_here(["config", "get", "run.threads"]).out == "1\n"
    rows = [line.split() for line in run_here(["config", "get", "threads"]).out.splitlines()]
    assert rows[1:] == [
        ["threads", "2", "config.toml", "[defaults]"],
        ["run.threads", "1", "config.toml"],
    ]
    unset = run_here(["config", "get", "schema"])
    assert (unset.code, unset.out) == (0, "")
    assert "schema is not set" in unset.err
    assert "did you mean" in run_here(["config", "get", "temprature"]).err
