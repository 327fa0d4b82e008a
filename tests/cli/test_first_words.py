"""What people type first, out of habit from other tools: it works, or a line names what does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands_here import run_here
from conftest import L4
from terminal import TAB, Terminal


@pytest.mark.parametrize(
    ("typed", "same"),
    [
        (("ls",), ("models",)),
        (("list",), ("models",)),
        (("docs",), ("docs", "list")),
        (("docs", "ls"), ("docs", "list")),
        (("help",), ("--help",)),
        (("help", "run"), ("run", "--help")),
        (("help", "docs", "add"), ("docs", "add", "--help")),
    ],
)
def test_a_word_with_one_meaning_does_what_is_meant(
    l4: L4, typed: tuple[str, ...], same: tuple[str, ...]
) -> None:
    done = l4(*typed)
    assert done.returncode == 0
    assert done.stdout == l4(*same).stdout
    assert done.stdout


def test_show_is_info(l4: L4, tiny_gguf: Path) -> None:
    assert l4("show", tiny_gguf).stdout == l4("info", tiny_gguf).stdout


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("ps",), "no such command: ps; no model stays loaded after a command"),
        (("rum",), "no such command: rum; did you mean rm or run?"),
        (("xyzzy",), "no such command: xyzzy; `l4 --help` lists the commands"),
        (("docs", "lst"), "no such command: lst; did you mean list?"),
        (("docs", "xyzzy"), "no such command: xyzzy; `l4 docs --help` lists the commands"),
        (("generate", "hi"), "no such command: generate; for one answer, use `l4 chat -p PROMPT`"),
        (("chat", "--temp", "0"), "no such option: --temp; did you mean --temperature?"),
        (("chat", "--n-predict", "9"), "no such option: --n-predict; did you mean --max-tokens?"),
        (("run", "--verbose"), "it stands before the command: l4 --verbose COMMAND"),
        (("-v",), "no such option: -v; `l4 --version` shows the version"),
        (("bench", "-m", "demo"), "no such option: -m; the model stands alone: l4 bench MODEL"),
        (("chat", "-p", "a", "b"), "two prompts: 'b' and -p 'a'; give one"),
        (("run", "demo"), "demo is a model, not a file of prompts: `l4 chat -m demo` talks to it"),
        (("run", "x.gguf"), "x.gguf is a model, not a file of prompts"),
    ],
)
def test_anything_else_is_named_in_one_line(l4: L4, typed: tuple[str, ...], said: str) -> None:
    done = l4(*typed)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("l4: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_model_and_a_prompt_without_options(l4: L4, tiny_gguf: Path) -> None:
    fixed = ("-n", "4", "--temperature", "0")
    meant = l4("chat", "-m", tiny_gguf, "-p", "Hi there", *fixed).stdout
    assert meant
    assert l4("chat", tiny_gguf, "Hi there", *fixed).stdout == meant
    assert l4("chat", tiny_gguf, "Hi", "there", *fixed).stdout == meant
    assert l4("chat", "-m", tiny_gguf, "Hi", "there", *fixed).stdout == meant
    assert l4("chat", tiny_gguf, *fixed, stdin="Hi there").stdout == meant
    chosen = {**os.environ, "L4_MODEL": "nowhere.gguf"}
    assert l4("chat", tiny_gguf, "Hi there", *fixed, env=chosen).stdout == meant


@pytest.mark.parametrize(
    ("name", "content"), [("p.txt", "one\ntwo\n"), ("p.csv", "prompt,id\none,a\ntwo,b\n")]
)
def test_the_name_of_a_file_of_prompts_tells_its_format(
    l4: L4, tiny_gguf: Path, tmp_path: Path, name: str, content: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    done = l4("run", path, "-m", tiny_gguf, "-n", "2", "--temperature", "0")
    assert done.returncode == 0
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert ["text" in row for row in rows] == [True, True]


def completed(l4: L4, *words: str) -> list[str]:
    """What the shell would offer for the last word, which is incomplete."""
    asking = {
        **os.environ,
        "COMP_WORDS": " ".join(("l4", *words)),
        "COMP_CWORD": str(len(words)),
        "_L4_COMPLETE": "complete_bash",
    }
    return l4(env=asking).stdout.split()


def test_tab_completes_commands_options_and_names(l4: L4) -> None:
    assert completed(l4, "ch") == ["chat"]
    assert completed(l4, "chat", "--tempe") == ["--temperature"]
    assert "scout" in completed(l4, "chat", "-m", "s")
    assert set(completed(l4, "convert", "--type", "Q4_K")) == {"Q4_K_M", "Q4_K_S"}
    assert completed(l4, "chat", "--session", "x") == []


def test_bash_completes_names_with_a_colon(l4: L4, tmp_path: Path) -> None:
    assert l4("info", "demo").returncode == 0  # now it is on this machine
    (tmp_path / "l4").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m l4cli "$@"\n')
    (tmp_path / "l4").chmod(0o755)
    (tmp_path / "script").write_text(l4("completion", "bash").stdout)
    path = f"{tmp_path}:{os.environ['PATH']}"
    with Terminal(["bash", "--norc"], env={"PATH": path, "PS1": "$ "}, cwd=tmp_path) as terminal:
        terminal.type("source script\r")
        for typed, completed in (
            ("l4 chat -m scou", "scout"),
            ("l4 chat -m demo:Q", "demo:Q8_0"),
            ("l4 chat -p 'two words' -m demo:", "demo:Q8_0"),
        ):
            terminal.type(f"{typed}{TAB}")
            terminal.wait_for(f"{completed} ?$")
            terminal.type("\x15")  # clears the line


@pytest.mark.parametrize(
    ("shell", "path"),
    [
        ("bash", ".bash_completions/l4.sh"),
        ("zsh", ".zfunc/_l4"),
        ("fish", ".config/fish/completions/l4.fish"),
    ],
)
def test_the_shell_that_is_named_gets_the_completion(
    l4: L4, tmp_path: Path, shell: str, path: str
) -> None:
    home = {**os.environ, "HOME": str(tmp_path), "SHELL": "/bin/sh"}
    assert l4("completion", shell, "--install", env=home).returncode == 0
    assert "_L4_COMPLETE" in (tmp_path / path).read_text()
    assert "_L4_COMPLETE" in l4("completion", env={**home, "SHELL": f"/bin/{shell}"}).stdout
    done = l4("completion", env=home)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "l4: no completion for sh: give bash, zsh or fish\n"


@pytest.mark.parametrize(
    "command",
    [
        ("plan", "scout", "--ram", "64"),
        ("plan", "scout", "--gpu", "64@900"),
        ("docs", "prune", "--limit", "64"),
        ("ask", "x", "--store-limit", "64"),
        ("convert", "x", "--ram", "64"),
    ],
)
def test_a_size_without_a_unit_is_not_taken_for_bytes(l4: L4, command: tuple[str, ...]) -> None:
    done = l4(*command)
    assert (done.returncode, done.stdout) == (2, "")
    assert "'64' has no unit: write 64G for GiB, 64B for bytes" in done.stderr


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("What is GGUF?",), "for one answer: l4 chat 'What is GGUF?'"),
        (("why?",), "for one answer: l4 chat 'why?'"),
        (("--model", "demo", "chat"), "stands behind the command: l4 chat --model demo"),
        (("--ctx", "1", "-p", "hi"), "stands behind the command: l4 chat --ctx 1 -p hi"),
        (("export", "x"), "l4 sessions export"),
        (("models", "default", "mine"), "`l4 config set model mine`"),
        (("models", "rm", "demo"), "`l4 rm demo` removes a model from the caches"),
        (("models", "show"), "`l4 info NAME` describes a model"),
        (("models", "demo"), "`l4 info demo` describes it"),
        (("models", "pull", "scout"), "`l4 pull scout` fetches a model"),
        (("models", "add", "a", "b.gguf"), "`l4 models alias a b.gguf` gives a model a name"),
        (("config", "ctx", "4k"), "`l4 config set ctx 4k` sets it"),
        (("config", "ctx=4k"), "`l4 config set ctx 4k` sets it"),
        (("config", "ctx"), "`l4 config get ctx` prints it"),
        (("config", "set", "ctx"), "ctx to what? l4 config set ctx VALUE"),
        (("config", "reset", "ctx"), "`l4 config unset ctx` removes a default"),
        (("sessions", "resume", "pumps"), "`l4 chat --session pumps` continues a session"),
        (("docs", "ask", "a.pdf", "What?"), "`l4 ask a.pdf 'What?'` answers questions"),
        (("docs", "clear"), "`l4 docs prune --all` removes everything"),
        (("templates", "use", "say"), "`l4 chat -t say` asks with a template"),
        (("set", "ctx", "4k"), "`l4 config set ctx 4k` sets a default"),
        (("use", "scout"), "`l4 config set model scout` chooses the default model"),
        (("server",), "`l4 serve` answers other programs"),
        (("chat", "manual.pdf"), "is a file: read it with -f manual.pdf"),
        (("chat", "/proc/self/mem"), "is a file: read it with -f /proc/self/mem"),
        (("chat", "-m", "demo", "manual.pdf", "What?"), "l4 ask manual.pdf 'What?'"),
        (("chat", "-m", "demo", "model.bin", "Hi"), "l4 chat -m model.bin Hi"),
        (("quantize", "a.gguf", "q8_0"), "l4 quantize a.gguf --type q8_0"),
        (("quantize", "a.gguf", "b.gguf", "Q8_0"), "l4 quantize a.gguf -o b.gguf --type Q8_0"),
        (("chat", "--temperature", "hot"), "'--temperature': it is not a number"),
        (("chat", "--max-rounds", "0"), "it must be at least 1"),
        (("bench", "demo", "--repeat", "1" + "0" * 50), "it must be at most 1000000000"),
    ],
)
def test_habits_in_this_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, typed: tuple[str, ...], said: str
) -> None:
    (tmp_path / "manual.pdf").write_bytes(b"%PDF-1.7")
    (tmp_path / "model.bin").write_bytes(b"GGUF")
    monkeypatch.chdir(tmp_path)
    ended = run_here([*typed])
    assert (ended.code, ended.wrong, ended.out) == (2, None, "")
    assert said in ended.err


@pytest.mark.parametrize(
    ("typed", "same"),
    [
        ("config list", "config show"),
        ("config ls", "config show"),
        ("config rm ctx", "config unset ctx"),
        ("models ls", "models list"),
        ("model", "models"),
        ("settings", "config"),
        ("sessions ls", "sessions list"),
        ("sessions delete pumps", "sessions rm pumps"),
        ("sessions cat pumps", "sessions show pumps"),
        ("sessions find pumps", "sessions search pumps"),
        ("docs cat notes.md", "docs text notes.md"),
        ("docs delete notes.md", "docs rm notes.md"),
        ("templates ls", "templates list"),
        ("templates view say", "templates show say"),
        ("templates delete say", "templates rm say"),
        ("templates new 1", "templates edit 1"),
        ("uninstall nothing", "rm nothing"),
    ],
)
def test_a_word_of_another_tool_is_the_command_it_means(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, typed: str, same: str
) -> None:
    (tmp_path / "notes.md").write_text("notes")
    monkeypatch.chdir(tmp_path)
    ended = run_here(typed.split())
    assert ended == run_here(same.split())
    assert ended.wrong is None
    assert "no such command" not in ended.err


def test_rm_of_a_file_says_that_it_stays_and_how_its_name_goes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "mine.gguf"
    file.write_bytes(b"GGUF")
    monkeypatch.chdir(tmp_path)
    assert run_here(["models", "alias", "small", "mine.gguf"]).code == 0
    for name, more in (
        ("mine.gguf", "delete it with rm\n"),
        ("small", "delete it with rm; `l4 models alias --rm small` removes the name\n"),
    ):
        ended = run_here(["rm", name])
        assert (ended.code, ended.out) == (2, "")
        is_name = name != "mine.gguf"
        assert f"l4: {name} is {'the file ' if is_name else 'a file outside '}" in ended.err
        assert ended.err.endswith(f"outside the caches of l4: {more}")
    assert file.exists()


@pytest.fixture
def of_one(tiny_gguf: Path, tmp_path: Path) -> Path:
    """A folder with one model, as downloads leave it: with a projector and a config.json."""
    folder = tmp_path / "of-one"
    folder.mkdir()
    (folder / "tiny-F32.gguf").hardlink_to(tiny_gguf)
    (folder / "mmproj-F16.gguf").hardlink_to(tiny_gguf)
    (folder / "config.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    "command",
    [
        ("info", "{}", "--json"),
        ("quantize", "{}", "--type", "list", "--json"),
        ("run", "rows.txt", "-m", "{}", "-n", "2", "--temperature", "0", "--no-timings"),
    ],
)
def test_a_folder_with_one_gguf_stands_for_it(
    of_one: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(of_one.parent)
    Path("rows.txt").write_text("Hi\n")

    def ran(model: Path) -> str:
        ended = run_here([word.format(model) for word in command])
        assert (ended.code, ended.wrong) == (0, None), ended.err
        return ended.out

    assert ran(of_one) == ran(of_one / "tiny-F32.gguf")
    above = of_one.parent / "above"  # and so does a folder with such a folder
    above.mkdir()
    of_one.rename(above / "F32")
    assert ran(above) == ran(above / "F32" / "tiny-F32.gguf")


def test_what_a_plan_of_a_folder_says_to_run_takes_the_folder(of_one: Path) -> None:
    ended = run_here(["plan", str(of_one)])
    assert ended.code == 0, ended.err
    assert f"l4 chat -m {of_one}" in ended.out


@pytest.mark.parametrize("command", [("info",), ("plan",), ("quantize",), ("bench",)])
def test_a_folder_with_several_models_is_listed(
    tiny_gguf: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    for name in ("b-Q8_0.gguf", "a-00001-of-00002.gguf", "a-00002-of-00002.gguf"):
        (tmp_path / name).hardlink_to(tiny_gguf)
    ended = run_here([*command, str(tmp_path)])
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines()[-1] == (
        f"l4: {tmp_path}: has several models, a-00001-of-00002.gguf, b-Q8_0.gguf: "
        f"give one, as {tmp_path}/a-00001-of-00002.gguf"
    )


def test_a_wrong_value_is_told_before_llama_cpp_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "Hi"}\n')
    (tmp_path / "mine.txt").write_text("my notes")
    wrong = (
        "chat -p x -m nowhere.gguf",
        "chat -p x --top-p 7",
        "chat -p x --kv-type q9",
        "chat -p x --schema nowhere.json",
        "run rows.jsonl -m nowhere",
        "run rows.jsonl -o mine.txt",
        "run rows.jsonl -o nowhere/out.jsonl",
        "run nowhere.jsonl",
        "ask rows.jsonl -q x -m nowhere",
        "ask nowhere.pdf -q x",
        "docs add rows.jsonl -m nowhere",
        "bench nowhere",
        "bench --batch x",
        "ctx-test -m nowhere",
        "ctx-test --tasks x",
        "plan nowhere",
        "plan scout --gpu x",
    )
    script = (
        "import sys\n"
        "from commands_here import run_here\n"
        f"for command in {wrong}:\n"
        "    ended = run_here(command.split())\n"
        "    print(ended.code, *{'llama_cpp', 'numpy'} & sys.modules.keys(), command, ended.err)\n"
    )
    paths = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    told = [line for line in done.stdout.splitlines() if line]
    assert [line.split(" l4: ")[0] for line in told] == [f"2 {command}" for command in wrong]
