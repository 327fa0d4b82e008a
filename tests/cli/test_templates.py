"""Templates: saved by a command line, filled in, and asked by `l4 chat` and `l4 ask`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from chat_support import Chat, write_reciter
from commands_here import run_here
from conftest import L4
from hypothesis import given
from hypothesis import strategies as st
from terminal import CTRL_D, ENTER, Terminal

from l4cli.errors import UsageError
from l4cli.templates.files import load_template, save_template, template_path
from l4cli.templates.template import Template

ARGS = ("-n", "2", "--temperature", "0")


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reciter(tmp_path_factory.mktemp("reciter"), ends=True)


def write(name: str, text: str) -> Path:
    """A template's file with this text."""
    path = template_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def asked(l4: L4, session: str) -> str:
    """The system message and the question of a session, as people read them."""
    shown: str = l4("sessions", "show", session).stdout
    return shown[shown.index("\n\n## ") : shown.index("\n\n## Model")]


def test_what_a_command_line_gives_is_asked_by_name(l4: L4, brief: Path, tmp_path: Path) -> None:
    (tmp_path / "system.txt").write_text("Be $tone.\nSay it for $$1.\n")
    saved = l4(
        "chat", "Translate to $lang: $input", "-m", brief.name, "--system", "@system.txt",
        "-P", "lang=French", "-n", "7", "--ctx", "512", "-c", "--save-template", "tr",
        cwd=_with(tmp_path, brief),
    )  # fmt: skip
    assert (saved.returncode, saved.stdout) == (0, "")
    assert "a template does not keep --continue, --ctx" in saved.stderr
    template = load_template("tr")
    assert template.model == str(tmp_path / brief.name)  # from any folder
    assert (template.sampling, template.defaults) == ({"max_tokens": 7}, {"lang": "French"})

    done = l4("chat", "-t", "tr", "-P", "tone=kind", "--session", "a", stdin="Hello\n")
    assert (done.returncode, len(done.stdout)) == (0, 8)  # bytes are tokens; and a line break
    assert asked(l4, "a") == (
        "\n\n## System\n\nBe kind.\nSay it for $1.\n\n## You\n\nTranslate to French: Hello"
    )
    # The command line wins: one token, another system message, another language; `words` is input.
    done = l4(
        "chat", "-t", "tr", "-P", "lang=Greek", "-P", "tone=x", "-n", "1", "--system", "No.",
        "--session", "b", "Good night",
    )  # fmt: skip
    assert (done.returncode, len(done.stdout)) == (0, 2)
    assert asked(l4, "b") == "\n\n## System\n\nNo.\n\n## You\n\nTranslate to Greek: Good night"


def _with(folder: Path, file: Path) -> Path:
    (folder / file.name).symlink_to(file)
    return folder


@pytest.mark.parametrize(
    ("args", "stdin", "complaint"),
    [
        (["-t", "two"], "x", "template two needs a value for a and b: give -P a=VALUE -P b=VALUE"),
        (["-t", "two", "-P", "a=1", "-P", "bb=2"], "x", "no variable bb; did you mean b?"),
        (["-t", "two", "-P", "a=1", "-P", "b=2"], "", "two needs a text for $input"),
        (["-t", "two", "-P", "a"], "x", "-P wants NAME=VALUE, not 'a'"),
        (["-t", "two", "-P", "a=1", "-P", "a=2"], "x", "-P gives a twice"),
        (["-t", "two", "-P", "input=1"], "x", "$input is the text that is piped in"),
        (["-P", "a=1"], "x", "name the template with -t"),
        (["-t", "tow"], "x", "there is no template tow; did you mean two?"),
        (["-t", "../two"], "x", "'../two' cannot be a template's name"),
        (["-t", ""], "x", "'' cannot be a template's name"),
        (["--save-template", "new"], "x", "nothing to save"),
        (["--save-template", "../new", "-p", "x"], "x", "cannot be a template's name"),
        (["--save-template", "new", "-p", "costs $5"], "", "the $ of '$5' begins no variable"),
        (["--save-template", "new", "-p", "a", "-P", "b=1"], "", "there is no variable 'b'"),
        (["--save-template", "new", "-p", "a", "--top-p", "3"], "", "'--top-p': it must be"),
        (["--save-template", "new", "-t", "two"], "x", "cannot be combined"),
        (["--save-template", "two", "-p", "mine"], "x", "--yes sets prompt in it"),
    ],
)
def test_a_mistake_is_one_line(
    args: list[str], stdin: str, complaint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = 'prompt = "$a $b $input"\n'
    path = write("two", text)
    (tmp_path / "stdin").write_text(stdin)
    with (tmp_path / "stdin").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        ended = run_here(["chat", *args])
    assert (ended.wrong, ended.code, ended.err.count("\n")) == (None, 2, 1)
    assert complaint in ended.err
    assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('prompt = "a"\ntemprature = 1\n', "line 2: a template has no key 'temprature'; did you"),
        ('prompt = "a"\nfiles = 1\n', "line 2: a template has no key 'files'; the keys are system"),
        ('prompt = "a"\ntop-p = 3\n', "line 2: top-p must be above 0"),
        ('prompt = "a"\nseed = 0.5\n', "line 2: seed is 0.5, not a whole number"),
        ('prompt = "a"\ntemperature = true\n', "line 2: temperature is True, not a number"),
        ("prompt = 5\n", "line 1: prompt is 5, not a text"),
        ('system = "@file"\n', "line 1: system names a file"),
        ('system = "$input"\n', "line 1: system cannot have $input"),
        ('prompt = "a $"\n', "line 1: prompt: the $ of '$' begins no variable: write $$"),
        ('prompt = "a $\n"\n', "line 1"),
        ('prompt = "$lang"\n[defaults]\nlnag = "x"\n', "line 3: there is no variable 'lnag'; did"),
        ('prompt = "$lang"\n[defaults]\nlang = []\n', "line 3: defaults.lang is [], not a text"),
        ('prompt = "a"\ndefaults = 3\n', "line 2: defaults is 3, not a table"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(text: str, complaint: str) -> None:
    path = write("wrong", text)
    write("right", 'prompt = "a"\n')
    ended = run_here(["chat", "-t", "wrong"])
    assert (ended.wrong, ended.code) == (None, 2)
    assert ended.err.startswith(f"l4: {path}: ")
    assert complaint in ended.err
    listed = run_here(["templates"])  # the others are listed
    assert (listed.code, listed.out.split()[3]) == (1, "right")
    assert complaint in listed.err


def test_a_template_is_changed_with_its_comments(brief: Path) -> None:
    path = write("mine", '# for letters\nprompt = "$a" # short\ntop-p = 1\n\n[defaults]\na = "x"\n')
    ended = run_here(["chat", "--save-template", "mine", "--top-p", "0.5", "--seed", "3", "--yes"])
    assert ended.code == 0
    assert path.read_text() == (
        '# for letters\nprompt = "$a" # short\ntop-p = 0.5\nseed = 3\n\n[defaults]\na = "x"\n'
    )


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.text(alphabet='"\\\n\r\t$ ')
)
def test_any_text_comes_back_as_it_was(text: str, more: str) -> None:
    said = (text + more).replace("$", "$$") + "."
    save_template("any", {"prompt": said})
    assert load_template("any").filled({}).question("", "") == text + more + "."


def test_where_the_text_goes() -> None:
    plain, around = Template("t", prompt="Sum up."), Template("t", prompt="<$input> ${input}")
    assert plain.filled({}).question("piped", "typed") == "piped\n\nSum up.\n\ntyped"
    assert plain.filled({}).asks_alone
    assert around.filled({}).question("piped", "$a") == "<piped\n\n$a> piped\n\n$a"
    assert Template("t", system="s").filled({}).question("piped", "typed") == "piped\n\ntyped"
    with pytest.raises(UsageError, match="needs a text"):
        around.filled({}).question("", " ")


def test_ask_puts_each_question_into_the_template(l4: L4, tiny_gguf: Path, tmp_path: Path) -> None:
    document = tmp_path / "manual.txt"
    document.write_text("hello the world and the llama\n" * 40)
    write("pirate", f'prompt = "Arr: $input"\nmodel = "{tiny_gguf}"\nmax-tokens = 3\n')
    write(
        "sum", f'prompt = "Sum up."\nmodel = "{tiny_gguf}"\ntemperature = 0.0\nschema = "a int"\n'
    )

    def answers(*args: str | Path, stdin: str = "") -> list[dict[str, object]]:
        done = l4("ask", *args, "--json", "-t", "1", stdin=stdin)
        assert done.returncode in (0, 1), done.stderr
        return json.loads(done.stdout)["answers"]  # type: ignore[no-any-return]

    both = answers("-t", "pirate", document, "who is it?", "-q", "what?")
    assert [each["question"] for each in both] == ["Arr: who is it?", "Arr: what?"]
    # What is piped in is the document, as the template has a question; or else the question.
    (summed,) = answers("-t", "sum", "-n", "9", stdin=document.read_text())
    assert summed["question"] == "Sum up."
    (piped,) = answers("-t", "pirate", document, stdin="why?")
    assert piped["question"] == "Arr: why?"


def test_the_commands_for_templates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    empty = run_here(["templates"])
    assert (empty.code, empty.out) == (0, "")
    assert "no templates yet" in empty.err
    path = write("tr", 'prompt = "To $lang: $input"  # mine\n')
    assert run_here(["templates", "show", "tr"]).out == path.read_text()
    assert run_here(["templates", "path", "tr"]).out == f"{path}\n"
    assert run_here(["templates", "path"]).out == f"{path.parent}\n"
    (listed,) = json.loads(run_here(["templates", "--json"]).out)
    assert (listed["name"], listed["variables"], listed["takes_input"]) == ("tr", ["lang"], True)
    refused = run_here(["templates", "rm", "tr", "rt"])
    assert (refused.code, path.exists()) == (2, True)
    assert run_here(["templates", "rm", "tr"]).code == 0
    assert not path.exists()

    monkeypatch.setenv("EDITOR", "true")
    begun = run_here(["templates", "edit", "new"])
    assert (begun.code, begun.err) == (0, f"{template_path('new')}: fine\n")
    commented = template_path("new").read_text()
    template_path("new").write_text(commented.replace("\n# ", "\n"))  # the examples are right
    assert load_template("new").filled({}).values == {"lang": "French"}


def test_a_template_asks_in_a_chat() -> None:
    write(
        "tr", 'prompt = "to $lang: $input"\nsystem = "be kind"\nseed = 3\n[defaults]\nlang = "x"\n'
    )
    write("bare", 'prompt = "$lang $input"\n')
    chat = Chat()
    assert chat.run("/template").split()[:2] == ["bare", "tr"]
    said = chat.run("/template tr lang='old greek' good night")
    assert chat.contents == ["to old greek: good night", "TO OLD GREEK: GOOD NIGHT"]
    assert "system, seed are for a new chat: l4 chat -t tr" in said
    chat.run("/template tr hi")
    assert chat.contents[2] == "to x: hi"
    for line, complaint in (
        ("/template tr", r"\$input"),
        ("/template rt hi", "did you mean tr"),
        ("/template tr lnag=y hi", "did you mean lang"),
        ("/template bare hi", "needs a value for lang: give lang=VALUE"),
    ):
        with pytest.raises(UsageError, match=complaint):
            chat.run(line)
    assert len(chat.contents) == 4


def test_a_template_of_settings_starts_a_conversation(brief: Path) -> None:
    write("kind", f'system = "be $how"\nmodel = "{brief}"\nmax-tokens = 5\n')
    command = [sys.executable, "-m", "l4cli", "chat", "-t", "1", "-t", "kind", "-P", "how=kind"]
    with Terminal([*command, "--ctx", "512"]) as terminal:
        terminal.wait_for(r"0 of 512 tokens|tokens$")
        terminal.type("/system" + ENTER)
        terminal.wait_for("be kind")
        terminal.type(CTRL_D)
        assert terminal.exit_code() == 0
