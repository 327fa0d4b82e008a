"""The commands `l4 ask` and `l4 docs`."""

from __future__ import annotations

import json
import re
import sys
from io import BufferedReader
from pathlib import Path

import papers
import pytest
from conftest import L4
from terminal import CTRL_C, CTRL_D, ENTER, Terminal

from convert.gguf.vetting import vet, vet_loading
from l4cli.app import invoke
from l4cli.commands import ask_arguments
from l4cli.engine.llamacpp import model as llamacpp_model
from l4cli.errors import UsageError
from l4cli.loading import file as loading_file


@pytest.fixture
def manual(tmp_path: Path) -> Path:
    path = tmp_path / "manual.txt"
    path.write_text("hello the world and the llama\n" * 40)
    return path


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *args: object):
    """Run the command in this process; return its exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["l4", *map(str, args)])
    code = invoke(debug=False)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(
    ("arguments", "documents", "questions"),
    [
        (["manual.txt", "Who?", "What is in config.toml?"], 1, ["Who?", "What is in config.toml?"]),
        (["How much is 2/3 of it?", "manual.txt"], 1, ["How much is 2/3 of it?"]),
        (["manual.txt", "tell me about it"], 1, ["tell me about it"]),
        (["manual.txt", "What " + "very " * 200 + "long?"], 1, ["What " + "very " * 200 + "long?"]),
        (["manual.txt", "manual.tx?"], 2, []),
        (["manual.txt", "Is it so?", "really?"], 3, []),  # files of these names are there
        (["manual.txt", "docs/chap?"], 2, []),
        (["manual.txt", "my other file.txt"], 2, []),
    ],
)
def test_what_is_plainly_no_file_is_a_question(
    manual: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    documents: int,
    questions: list[str],
) -> None:
    monkeypatch.chdir(manual.parent)
    if documents == 3:
        for name in arguments[1:]:
            Path(name).touch()
    meant = ask_arguments.sort_out(arguments, [], is_piped=False)
    assert (len(meant.documents), list(meant.questions)) == (documents, questions)


@pytest.mark.parametrize(
    ("words", "options", "documents", "questions", "stdin"),
    [
        (["manual.txt"], [], ["manual.txt"], [], "question"),
        (["manual.txt", "*.md"], [], ["manual.txt", "*.md"], [], "question"),
        (["Who is it?"], [], ["-"], ["Who is it?"], "document"),
        ([], ["who"], ["-"], ["who"], "document"),
        (["manual.txt"], ["who"], ["manual.txt"], ["who"], "unread"),
        (["manual.txt", "-"], ["who"], ["manual.txt", "-"], ["who"], "document"),
        (["-", "Who?"], [], ["-"], ["Who?"], "document"),
        ([], [], "is stdin the document or the question?", [], ""),
        (["summary"], [], "summary: no such file; if it is the question", [], ""),
        (["manual.tx"], [], "manual.tx: no such file; if it is the question", [], ""),
    ],
)
def test_what_stdin_is_follows_from_the_arguments(
    manual: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    options: list[str],
    documents: list[str] | str,
    questions: list[str],
    stdin: str,
) -> None:
    monkeypatch.chdir(manual.parent)
    if isinstance(documents, str):
        with pytest.raises(UsageError, match=re.escape(documents)):
            ask_arguments.sort_out(words, options, is_piped=True)
        return
    meant = ask_arguments.sort_out(words, options, is_piped=True)
    assert (list(meant.documents), list(meant.questions)) == (documents, questions)
    assert meant.stdin == stdin


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("manual.txt What is the access code?", 'l4 ask manual.txt "What is the access code?"'),
        ("What is it? manual.txt", 'l4 ask manual.txt "What is it?"'),
        ("manual.txt tell me more", 'l4 ask manual.txt "tell me more"'),
        ("manual.txt costs $5?", "l4 ask manual.txt 'costs $5?'"),
        ("manual.txt Who? Why?", None),
        ("manual.txt reamde licence", None),
        ("manual.txt one.md two.md three.md", None),
    ],
)
def test_a_question_without_quotes_is_told(
    manual: Path, monkeypatch: pytest.MonkeyPatch, words: str, said: str | None
) -> None:
    monkeypatch.chdir(manual.parent)
    if said is None:
        assert ask_arguments.sort_out(words.split(), [], is_piped=False).documents
        return
    with pytest.raises(UsageError, match=rf"^put the question in quotes: {re.escape(said)}$"):
        ask_arguments.sort_out(words.split(), [], is_piped=False)


def test_a_piped_question_and_a_piped_document(l4: L4, tiny_gguf: Path, manual: Path) -> None:
    model = ["-m", tiny_gguf, "-t", "1", "-n", "4", "--temperature", "0", "--json"]
    model += ["--no-cache"]
    asked = l4("ask", manual, "-q", "What is it?", *model, stdin=b"")
    assert "stdin" not in asked.stderr
    piped = l4("ask", manual, *model, stdin="What is it?\n")
    assert "(stdin is the question)" in piped.stderr
    document = l4("ask", "What is it?", *model, stdin=manual.read_bytes())
    assert "(stdin is the document)" in document.stderr
    answers = [json.loads(done.stdout)["answers"][0] for done in (asked, piped, document)]
    assert {(one["question"], one["answer"]) for one in answers} == {
        ("What is it?", answers[0]["answer"])
    }
    unread = l4("ask", manual, "What is it?", "--dry-run", *model[:2], stdin="What is that?")
    assert "stdin is not read" in unread.stderr
    empty = l4("ask", manual, *model, stdin="")
    assert (empty.returncode, "no question" in empty.stderr) == (2, True)
    text = l4("docs", "text", stdin="hello")
    assert text.stdout.strip() == "hello"


def test_questions_alone_have_no_document(capsys, monkeypatch) -> None:
    code, _, said = run(capsys, monkeypatch, "ask", "Q1?", "Q2?")
    assert (code, said.count("\n")) == (2, 1)
    assert "no document: name a file or a folder beside the question" in said


def test_what_was_read_is_there_for_the_next_question(
    l4: L4,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tiny_gguf: Path,
    manual: Path,
    tmp_path: Path,
) -> None:
    """A second process restores it, for `l4 ask` as well as for a row of `l4 run`."""
    model = ["-m", tiny_gguf, "-t", "1", "-n", "6", "--temperature", "0"]
    asked = ["-q", "hello?", "-q", "the world?"]
    first = l4("ask", manual, *asked, *model)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("## hello?\n\n")
    assert "\n\n## the world?\n\n" in first.stdout
    assert "\x1b" not in first.stdout + first.stderr

    vetted: list[Path] = []
    monkeypatch.setattr(llamacpp_model, "vet", lambda path: vetted.append(path) or vet(path))
    monkeypatch.setattr(
        loading_file,
        "vet_loading",
        lambda path, model, **kinds: vetted.append(path) or vet_loading(path, model, **kinds),
    )
    second = json.loads(run(capsys, monkeypatch, "ask", manual, *asked, *model, "--json")[1])
    # The file is checked once, although the vocabulary is loaded before the weights.
    assert vetted == [tiny_gguf]
    assert second["reading"]["restored"] == second["reading"]["tokens"] > 300
    assert [len(one["answer"]) > 0 for one in second["answers"]] == [True, True]
    for one in second["answers"]:
        assert f"## {one['question']}\n\n{one['answer']}\n" in first.stdout

    (kept,) = json.loads(run(capsys, monkeypatch, "docs", "list", "--json")[1])
    assert kept["documents"] == [str(manual)]
    assert kept["tokens"] == kept["tokens_stored"] == second["reading"]["tokens"]

    rows, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    other = tmp_path / "other.txt"
    other.write_text("the llama and hello the world\n" * 150)
    rows.write_text(
        '{"prompt": "hello"}\n'
        '{"document": "manual.txt", "questions": ["hello?"]}\n'
        '{"document": "other.txt", "questions": ["hello?", "the world?"]}\n'
    )
    code, _, err = run(capsys, monkeypatch, "run", rows, "-o", out, *model)
    assert code == 0, err
    _, known, new = [json.loads(line) for line in out.read_text().splitlines()]
    assert known["usage"]["cached_tokens"] == second["reading"]["tokens"]
    assert known["answers"][0]["text"] == second["answers"][0]["answer"]
    assert new["answers"][0]["usage"]["cached_tokens"] == 0
    assert f"documents: {second['reading']['tokens']:,} tokens restored, " in err
    third = json.loads(run(capsys, monkeypatch, "ask", other, *asked, *model, "--json")[1])
    assert third["reading"]["restored"] == third["reading"]["tokens"] > 1024


def test_a_conversation_with_documents(tiny_gguf: Path, manual: Path) -> None:
    """The user types one question after another. Ctrl-C does nothing while idle, /quit leaves."""
    command = [sys.executable, "-m", "l4cli", "ask", str(manual), "-m", str(tiny_gguf)]
    greedy = ["--temperature", "0"]  # a sampled answer may end before it has -n tokens
    with Terminal([*command, "-t", "1", "-n", "4", "--no-cache", *greedy]) as terminal:
        terminal.wait_for(r"has read \d+ tokens; Ctrl-D leaves")
        terminal.wait_for(r"^\? *$")
        terminal.type(CTRL_C)
        terminal.wait_for(r"\(Ctrl-D leaves\)")
        terminal.wait_for(r"^\? *$")
        terminal.type("hello?" + ENTER)
        terminal.wait_for(r"-n allows longer ones\n\? *$")
        terminal.type("/help" + ENTER)
        terminal.wait_for(r"Ctrl-C stops an answer; Ctrl-D, exit, quit or bye leaves")
        terminal.wait_for(r"^\? *$")
        terminal.type("/quit" + ENTER)
        assert terminal.exit_code() == 0


def test_bad_input_is_one_line_each(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tiny_gguf: Path,
    manual: Path,
) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text(" \n")
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"\0\1\2" * 100)
    no_questions = tmp_path / "questions.txt"
    no_questions.write_text("\n")
    model = ["-m", tiny_gguf]
    for args, message in (
        ([manual], "no question: give one with -q"),
        ([manual, "-q", " "], "a question is empty"),
        ([manual, "--questions", no_questions], "questions.txt"),
        ([manual, "--questions", tmp_path / "none"], "No such file"),
        ([empty, "-q", "?"], "empty.txt: the file is empty"),
        ([binary, "-q", "?"], "binary.txt"),
        ([tmp_path / "missing.txt", "-q", "?"], "missing.txt: No such file"),
        ([manual, "--split"], "no question"),
        ([manual, "-q", "?", "-m", tmp_path / "none.gguf"], "no such file"),
        ([manual, "-q", "?", "--kv-type", "q9", *model], "no KV type 'q9'"),
        ([manual, "-q", "?", "-n", "10485760", *model], "the model was trained for 10,485,760"),
    ):
        code, out, err = run(capsys, monkeypatch, "ask", *args)
        assert (code, out) == (2, ""), args
        assert message in err, err
        assert err.count("\n") == 1, err


def test_a_document_that_changes_while_it_is_read_is_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tiny_gguf: Path,
    manual: Path,
) -> None:
    """Its beginning and end may not belong together. The other documents are still read."""
    log = manual.with_name("log.txt")
    log.write_text("hello\n")
    opened = Path.open

    class Growing(BufferedReader):
        def read(self, *args: int) -> bytes:
            with opened(log, "ab") as other:
                other.write(b"the world\n")
            return super().read(*args)

    def open_growing(path: Path, *args: str, **options: str) -> object:
        file = opened(path, *args, **options)
        return Growing(file.detach()) if path == log else file

    monkeypatch.setattr(Path, "open", open_growing)
    changed = f"l4: {log}: it changed while it was read; try again when it is finished"
    model = ["--dry-run", "-m", tiny_gguf]
    assert run(capsys, monkeypatch, "ask", log, *model) == (2, "", f"{changed}\n")
    code, out, err = run(capsys, monkeypatch, "ask", log, manual, *model)
    assert (code, err) == (1, f"{changed}; continuing without it\n")
    assert "1, " in out


def test_a_document_that_cannot_be_read_leaves_the_others(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tiny_gguf: Path,
    manual: Path,
) -> None:
    args = ["ask", "missing.pdf", manual, "--dry-run", "-m", tiny_gguf]
    code, out, err = run(capsys, monkeypatch, *args)
    assert code == 1
    assert "missing.pdf" in err
    assert "continuing without it" in err
    assert "KV cache q8_0" in out
    assert "1, " in out
    code, out, _ = run(capsys, monkeypatch, "ask", manual, "--dry-run", "--json", "-m", tiny_gguf)
    told = json.loads(out)
    assert (code, told["documents"], told["verdict"]) == (0, [str(manual)], "fits")


def test_what_reading_in_parts_takes_is_told_before(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tiny_gguf: Path,
    manual: Path,
) -> None:
    manual.write_text(manual.read_text() * 60)
    args = ["ask", manual, "--split", "-q", "a?", "-q", "b?", "--dry-run", "-m", tiny_gguf]
    code, out, err = run(capsys, monkeypatch, *args)
    assert (code, err) == (0, "")
    assert re.search(r"^parts +2$", out, re.MULTILINE)
    assert re.search(r"^calls +4 for notes, 2 for the answers$", out, re.MULTILINE)
    assert "unknown; `l4 bench MODEL` measures the speed" in out
    assert max(map(len, out.splitlines())) < 80
    code, out, _ = run(capsys, monkeypatch, *args, "--json")
    told = json.loads(out)
    assert (code, told["parts"], told["calls"]) == (0, 2, {"notes": 4, "answers": 2})
    assert told["prompt_tokens"] > 2 * told["document_tokens"] > 0
    assert 0.9 < told["prompt_tokens_shared"] / told["document_tokens"] < 1.1
    assert told["bytes"]["total"] > told["bytes"]["kv"] > 0


def test_the_store_is_kept_with_docs(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tiny_gguf: Path,
    manual: Path,
) -> None:
    other = manual.with_name("notes.txt")
    other.write_text("the llama and hello\n" * 30)
    added = run(capsys, monkeypatch, "docs", "add", manual, other, "-m", tiny_gguf, "-t", "1")
    assert added[0] == 0
    assert added[2].count(" tokens, stored") == 2
    _, out, _ = run(capsys, monkeypatch, "docs", "list")
    assert [line.split()[0] for line in out.splitlines()[1:]] == [str(other), str(manual)]
    assert run(capsys, monkeypatch, "docs", "rm", "nothing.txt")[0] == 2
    assert "freed" in run(capsys, monkeypatch, "docs", "rm", other)[2]
    _, out, _ = run(capsys, monkeypatch, "docs", "list", "--json")
    assert [one["documents"] for one in json.loads(out)] == [[str(manual)]]
    assert run(capsys, monkeypatch, "docs", "prune")[0] == 2
    assert run(capsys, monkeypatch, "docs", "prune", "--all")[0] == 0
    assert json.loads(run(capsys, monkeypatch, "docs", "list", "--json")[1]) == []


def test_a_stored_text_has_all_its_names(
    l4: L4,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tiny_gguf: Path,
    manual: Path,
) -> None:
    """The same text as a file, as a Word document and from stdin is stored once."""
    text = " ".join(manual.read_text().split())
    manual.write_text(text)
    report = manual.with_name("report.docx")
    report.write_bytes(papers.docx([("", text)]))
    model = ["-m", tiny_gguf, "-t", "1"]
    assert run(capsys, monkeypatch, "docs", "add", manual, report, *model)[0] == 0
    assert l4("docs", "add", "-", *model, stdin=text).returncode == 0
    (entry,) = json.loads(run(capsys, monkeypatch, "docs", "list", "--json")[1])
    assert (entry["documents"], entry["also"]) == (["stdin"], [[str(report)], [str(manual)]])
    shown = run(capsys, monkeypatch, "docs", "list")[1]
    assert f"stdin (also read as {report}; {manual})" in shown
    code, _, said = run(capsys, monkeypatch, "docs", "rm", report)
    assert (code, f"stdin, {manual}\n" in said) == (0, True)
    assert json.loads(run(capsys, monkeypatch, "docs", "list", "--json")[1]) == []


def test_quotations_are_the_documents_words(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tiny_gguf: Path,
    manual: Path,
) -> None:
    """Even a model with random weights quotes only text from the documents, with its place."""
    args = ["ask", manual, "hello the world?", "--quote", "-n", "4", "-m", tiny_gguf, "-t", "1"]
    args += ["--no-cache", "--temperature", "0", "--json"]
    _, out, err = run(capsys, monkeypatch, *args)
    (answer,) = json.loads(out)["answers"]
    if answer["finish_reason"] == "stop":
        assert all(one["proved"] for one in answer["quotations"])
        assert answer["quotations"][0]["document"] == str(manual)
    else:
        assert "cut off" in err


def test_the_store_keeps_within_its_limit(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tiny_gguf: Path,
    manual: Path,
    tmp_path: Path,
) -> None:
    """The limit may be an option, a variable or a key of config.toml, for nested commands, too."""
    add = ["docs", "add", manual, "-m", tiny_gguf, "-t", "1"]
    config = tmp_path / "xdg-config" / "l4" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('[docs.add]\nstore-limit = "10k"\n[ask]\nstore-limit = "5G"\n')
    code, _, err = run(capsys, monkeypatch, *add)
    assert (code, "the reading cache may hold 10.0 KiB" in err) == (0, True)
    assert json.loads(run(capsys, monkeypatch, "docs", "list", "--json")[1]) == []
    monkeypatch.setenv("L4_STORE_LIMIT", "much")
    assert "'much' is not a size" in run(capsys, monkeypatch, *add)[2]
    monkeypatch.delenv("L4_STORE_LIMIT")
    for content, message in (
        ("[docs.rm]\nlimit = 1", "[docs.rm] has no option 'limit'"),
        ("[docs]\nstore-limit = 1", "'docs.store-limit' is not a command; sections: list, add"),
    ):
        config.write_text(content)
        code, _, err = run(capsys, monkeypatch, "docs", "list")
        assert code == 2
        assert message in err
    config.unlink()
    assert "'-1' is not a size" in run(capsys, monkeypatch, *add, "--store-limit", "-1")[2]


def test_what_was_read_starts_at_once_in_a_chat(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tiny_gguf: Path,
    manual: Path,
) -> None:
    model = ["-m", str(tiny_gguf), "-t", "1"]
    assert run(capsys, monkeypatch, "docs", "add", manual, *model)[0] == 0
    command = [sys.executable, "-m", "l4cli", "chat", *model, "--ctx", "1024", "-n", "4"]
    command += ["--temperature", "0"]  # a sampled answer could end at once
    with Terminal(command) as terminal:
        terminal.wait_for(r"^> *$")
        terminal.type(f"/doc {manual}{ENTER}")
        said = terminal.wait_for(r"before your next message: \d+ tokens, all already read")
        terminal.wait_for(r"^> *$")
        terminal.type("hello?" + ENTER)
        terminal.wait_for(r"/continue goes on")
        terminal.wait_for(r"^> *$")
        terminal.type("/stats" + ENTER)
        terminal.wait_for(rf"^reused +{said.split()[4]} prompt tokens")
        terminal.type(CTRL_D)
        assert terminal.exit_code() == 0
