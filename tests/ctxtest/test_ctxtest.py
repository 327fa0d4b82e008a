"""Documents with needles, scoring of answers, and the effective length."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from conftest import L4
from fakes import FakeBackend, FakeVocabulary

from l4cli import console
from l4cli.app import invoke
from l4cli.ctxtest import report
from l4cli.ctxtest.haystack import Document, make_documents
from l4cli.ctxtest.probes import MOST_DEPTHS, TASKS, Probe, make_probes
from l4cli.ctxtest.results import Results
from l4cli.ctxtest.scoring import Judged, judge
from l4cli.ctxtest.session import ContextTest, Plan
from l4cli.ctxtest.wordings import filler, wordings
from l4cli.errors import UsageError
from l4cli.loading.llm import LLM
from l4cli.speeds import recall_effective_length

TENTHS = [n / 10 for n in range(11)]
_TOKEN = re.compile(r"\w+|[^\w\s]")


def count(text: str) -> int:
    """Count words and punctuation marks, as a simple tokenizer would."""
    return len(_TOKEN.findall(text))


def count_prompt(head: str, question: str) -> int:
    return count(head) + count(question)


def documents(
    length: int, tasks: list[str], depths: list[float] = TENTHS, seed: int = 0
) -> list[Document]:
    rng = Random(seed)
    probes = make_probes(rng, tasks, depths)
    return list(make_documents(rng, probes, length, count, count_prompt))


@pytest.mark.parametrize("length", [1024, 4096, 40_000])
def test_prompts_have_the_length_asked_for_within_a_hundredth(length: int) -> None:
    for document in documents(length, list(TASKS)):
        lengths = [
            count_prompt(document.head, probe.question) + probe.max_tokens
            for probe in document.probes
        ]
        assert 0.99 * length <= max(lengths) <= length


@pytest.mark.parametrize("task", list(TASKS))
@pytest.mark.parametrize("length", [2000, 20_000])
def test_needles_stand_at_their_depth_within_a_sentence(task: str, length: int) -> None:
    for document in documents(length, [task]):
        total = count(document.text)
        sentence = max(count(text) for text in re.split(r"(?<=\.)\s", document.text))
        needles = [needle for probe in document.probes for needle in probe.needles]
        for needle in needles:
            before = count(document.text[: document.text.index(needle.text)])
            # Needles of one depth follow each other directly.
            beside = sum(count(n.text) for n in needles if n.depth == needle.depth)
            off = before - needle.depth * total
            assert -sentence - beside <= off <= sentence, needle


def test_all_needles_are_there_and_short_texts_are_still_mostly_filler() -> None:
    found = documents(512, list(TASKS))
    assert len(found) > 1
    assert sum(len(document.probes) for document in found) == 11 + 11 + 1 + 1
    for document in found:
        needles = [needle.text for probe in document.probes for needle in probe.needles]
        assert all(document.text.count(needle) == 1 for needle in needles)
        assert sum(map(count, needles)) <= 512 / 3
    assert len(documents(8192, list(TASKS))) == 1


def test_the_links_of_a_chain_follow_one_another_even_at_one_depth() -> None:
    for depths in (TENTHS, [0.5]):
        (document,) = documents(2000, ["tracking"], depths)
        (probe,) = document.probes
        places = [document.text.index(needle.text) for needle in probe.needles[:4]]
        assert places == sorted(places)
        names = [value for value, _ in probe.expected]
        for (before, name), needle in zip(pairwise(names), probe.needles[1:4], strict=True):
            assert needle.text == f"VAR {name} = VAR {before}."


def test_the_same_seed_makes_the_same_documents() -> None:
    assert documents(2000, list(TASKS)) == documents(2000, list(TASKS))
    assert documents(2000, list(TASKS)) != documents(2000, list(TASKS), seed=1)


def test_a_length_too_short_for_its_needles_is_refused() -> None:
    with pytest.raises(UsageError, match=r"40 tokens are too few for a needle.* at least \d+"):
        documents(40, ["tracking"])


_EMPTY = {
    *("a", "an", "the", "of", "at", "in", "on", "to", "from", "by", "with", "for", "is", "was"),
    *("be", "been", "has", "would", "could", "should", "who", "whose", "which", "person", "and"),
    *("all", "never", "up", "next", "not", "cannot", "after", "off"),
}


def test_latent_needles_have_no_word_in_common_with_their_questions() -> None:
    pairs = wordings()["latent"]["pairs"]
    assert len(pairs) == MOST_DEPTHS
    for statement, question in pairs:
        said, asked = (
            {word[:5] for word in re.findall(r"[a-z]+", text.lower())} - _EMPTY - {"name"}
            for text in (statement, question)
        )
        assert not said & asked, (statement, question)


def test_filler_never_says_what_is_asked_for() -> None:
    rng = Random(1)
    text = " ".join([*(filler().sentence(rng) for _ in range(3000)), *filler().short])
    assert not re.search(r"\d|VAR|depot|office|vault|laboratory|bell|station", text)
    words = wordings()["words"]
    said = set(re.findall(r"\w+", text))
    assert not said & {*words["names"], *words["places"]}
    assert len(set(words["names"])) >= MOST_DEPTHS <= len(set(words["places"]))
    assert not re.search(r"[{}]|\s\s", text)


def probe(task: str, *values: str, decoys: tuple[str, ...] = ()) -> Probe:
    return Probe(task, (), "?", tuple((value, 0.5) for value in values), decoys, 8)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("12345", (True, False)),
        ("They are 12,345 and 67 890? No: 67890.", (True, True)),
        ("**12345**, １２３４５", (True, False)),
        ("123456 or 012345", (False, False)),
        ("", (False, False)),
        ("12345, 67890 or 11111", (False, False)),  # also names a decoy
    ],
)
def test_an_answer_is_right_where_it_names_the_value_and_no_other(
    answer: str, found: tuple[bool, ...]
) -> None:
    judged = judge(probe("several", "12345", "67890", decoys=("11111",)), answer)
    assert judged.found == found
    assert judged.score == sum(found) / 2


def test_names_are_right_however_they_are_written() -> None:
    assert judge(probe("latent", "Katya"), "It is KATYA's.").score == 1
    assert judge(probe("latent", "Katya"), "Katyana").score == 0


def results(scores: dict[int, dict[str, float]]) -> Results:
    """Return results with ten values for each task and length, of which `scores` are found."""
    tasks = list(next(iter(scores.values())))
    made = Results(list(scores), [0.5], tasks)
    for length, by_task in scores.items():
        for task, score in by_task.items():
            for n in range(10):
                made.add(length, Judged(probe(task, "x"), "", (n < round(10 * score),)))
    return made


def test_the_effective_length_is_the_last_that_keeps_the_score() -> None:
    found = results({512: {"a": 1.0}, 1024: {"a": 0.9}, 4096: {"a": 0.9}, 8192: {"a": 0.8}})
    effective = found.effective()
    assert effective is not None
    assert (effective.n_tokens, effective.n_longest) == (4096, 8192)
    assert (effective.base_score, effective.score) == (1.0, 0.9)


def test_a_gap_ends_the_effective_length() -> None:
    found = results({1024: {"a": 1.0}, 2048: {"a": 0.5}, 4096: {"a": 1.0}}).effective()
    assert found is not None
    assert found.n_tokens == 1024


def test_without_short_lengths_the_shortest_is_the_measure() -> None:
    found = results({8192: {"a": 0.6}, 16384: {"a": 0.6}, 32768: {"a": 0.5}}).effective()
    assert found is not None
    assert (found.n_tokens, found.base_score) == (16384, 0.6)


def test_tasks_that_a_model_cannot_do_say_nothing_of_lengths() -> None:
    both = results({1024: {"a": 1.0, "b": 0.2}, 4096: {"a": 0.9, "b": 0.0}})
    found = both.effective()
    assert found is not None
    assert found.n_tokens == 4096
    assert both.effective_of("b") is None
    assert list(report.verdict(both))[-1].endswith("short lengths: b")
    none = results({1024: {"a": 0.4}})
    assert none.effective() is None
    assert "unknown" in next(report.verdict(none))
    assert Results([1024], [0.5], ["a"]).effective() is None


def oracle(reach: int) -> Callable[[str], str]:
    """Return a model that answers literal questions on the first `reach` characters of a prompt."""

    def answer(prompt: str) -> str:
        for statement, question in wordings()["literal"]["pairs"]:
            asked = re.escape(question).replace(r"\{place\}", r"(\w+)")
            if found := re.search(rf"{asked}\s*$", prompt):
                said = re.escape(statement.replace("{place}", found[1]))
                value = re.search(said.replace(r"\{value\}", r"(\d+)"), prompt[:reach])
                return value[1] if value else "The text does not say."
        return "?"

    return answer


class BigFakeBackend(FakeBackend):
    def num_used_cells(self) -> int:
        return 0  # counting shared cells takes quadratic time


class PlainVocabulary(FakeVocabulary):
    """A vocabulary without a chat template. FakeBackend starts its answers after a 0 byte."""

    chat_template = None

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        return list(text.replace("\nAnswer:", "\0").encode())


def fake_llm(reach: int, vocabulary: FakeVocabulary | None = None) -> LLM:
    backend = BigFakeBackend(20_000, n_batch=4096, n_seq_max=4, answer=oracle(reach))
    return LLM("fake", vocabulary or FakeVocabulary(), backend)


def test_a_model_that_reads_so_far_is_found_to_read_so_far() -> None:
    plan = Plan([1024, 2048, 8192], [0.0, 0.5, 0.9], ["literal"])
    llm = fake_llm(reach=5000)
    shown: list[str] = []
    found = Results(plan.lengths, plan.depths, plan.tasks)
    for length, judged in ContextTest(llm, plan, show=shown.append).run():
        found.add(length, judged)
    assert [found.cell(length, 0.9) for length in plan.lengths] == [1.0, 1.0, 0.0]
    assert [found.cell(length, 0.0) for length in plan.lengths] == [1.0, 1.0, 1.0]
    effective = found.effective()
    assert effective is not None
    assert (effective.n_tokens, effective.n_longest) == (2048, 8192)
    assert any(re.search(r"8k tokens: [\d,]+ read · \d+% of all · about \d+ s", s) for s in shown)
    assert isinstance(llm.engine.backend, FakeBackend)
    # Each document is computed once, however many questions it has.
    assert llm.engine.backend.num_decoded_tokens < 1.1 * plan.num_tokens
    assert llm.engine.backend.num_open_samplers == 0


def test_a_model_without_a_template_completes_the_text() -> None:
    plan = Plan([1024], [0.0, 0.5], ["literal"])
    answers = [judged for _, judged in ContextTest(fake_llm(5000, PlainVocabulary()), plan).run()]
    assert [judged.score for judged in answers] == [1, 1]


def test_answers_may_be_given_more_room() -> None:
    plan = Plan([1024], [0.5], ["literal"], max_tokens=400)
    ((_, judged),) = ContextTest(fake_llm(5000), plan).run()
    assert judged.probe.max_tokens == 400
    assert judged.score == 1


def test_an_interrupted_length_is_left_out_whole() -> None:
    plan = Plan([1024, 2048], [0.0, 0.5], ["literal"])
    llm = fake_llm(reach=5000)
    backend = llm.engine.backend
    assert isinstance(backend, FakeBackend)
    test = ContextTest(llm, plan, stopping=lambda: backend.num_decoded_tokens > 1200)
    assert {length for length, _ in test.run()} == {1024}
    assert llm.engine.num_unfinished == 0
    assert list(ContextTest(llm, plan, stopping=lambda: True).run()) == []


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `l4 ctx-test` in this process on a model that reads 5000 characters.

    Returns the exit code, stdout and stderr.
    """

    def run(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr("l4cli.commands.open_model.find_file", lambda *_args, **_more: None)
        monkeypatch.setattr("l4cli.commands.open_model.open_model", lambda *_args: fake_llm(5000))
        monkeypatch.setattr(sys, "argv", ["l4", "ctx-test", *args])
        return (invoke(debug=False), *capsys.readouterr())

    return run


def test_the_command_shows_a_map_and_keeps_the_length(command: Any) -> None:
    args = ("--lengths", "1k,2k,8k", "--tasks", "literal", "--depths", "0,90")
    code, out, err = command(*args)
    assert code == 0
    assert out.splitlines() == [
        "LENGTH  LITERAL  SCORE  VALUES",
        "1k      100%     100%   2",
        "2k      100%     100%   2",
        "8k      50%      50%    2",
        "",
        "facts found, in percent, by length and depth (literal):",
        "      0  90",
        "1k  100 100",
        "2k  100 100",
        "8k  100   0",
        "effective length: 2k (up to there it keeps 85% of the 100% it reaches at short lengths)",
    ]
    assert err == "11,264 tokens to read\n"
    kept = recall_effective_length("", "f16")
    assert kept is not None
    assert (kept.n_tokens, kept.n_longest) == (2048, 8192)


def test_the_command_on_a_real_model(l4: L4, tiny_gguf: Path) -> None:
    """A model with random weights finds nothing, so its effective length is unknown."""
    done = l4("ctx-test", "-m", tiny_gguf, "--lengths", "512", "--depths", "0,100", "-t", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].startswith("512     0%       0%      0%")
    assert done.stdout.splitlines()[-1].startswith("effective length: unknown")
    assert done.stderr == "512 tokens to read\n"


def test_the_command_as_json(command: Any) -> None:
    code, out, _ = command("--lengths", "1k", "--depths", "0,50,100", "--samples", "2", "--json")
    value = json.loads(out)
    assert code == 0
    assert value["effective_length"] == value["longest_tested"] == 1024
    assert value["tasks_left_out"] == ["latent", "several", "tracking"]
    assert value["effective_length_by_task"] == {
        "literal": 1024, "latent": None, "several": None, "tracking": None,
    }  # fmt: skip
    assert [cell["depth"] for cell in value["cells"]] == [0, 0.5, 1]
    (score,) = value["scores"]
    assert (score["literal"], score["latent"], score["values"]) == (1, 0, 2 * (3 + 3 + 4 + 4))
    literal = [q for q in value["questions"] if q["task"] == "literal"]
    assert all(q["expected"][0]["value"] == q["answer"] for q in literal)


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--lengths", "1k,much"], "--lengths: 'much' is not a number of tokens"),
        (["--lengths", "9" * 5000], "9' is not a number of tokens"),
        (["--lengths", "128k"], "--lengths: 128k tokens, but the model"),
        (["--lengths", "50"], "--lengths: 50 tokens are too few"),
        (["--depths", "0,101"], "percentages must be between 0 and 100"),
        (["--depths", "top"], "percentages separated by commas"),
        (["--depths", ",".join(map(str, range(30)))], "--depths: give at most 21"),
        (["--tasks", "literal,poetry"], "no task 'poetry'; choose from literal, latent"),
        (["--samples", "0"], "--samples"),
    ],
)
def test_bad_input_is_one_line(command: Any, args: list[str], complaint: str) -> None:
    code, out, err = command(*args)
    assert (code, out) == (2, "")
    (line,) = [line for line in err.splitlines() if not line.endswith("to read")]
    assert complaint in line


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("no_color", [False, True])
def test_the_map_has_colours_only_where_they_are_wanted(
    no_color: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    names = [f"{depth * 100:g}" for depth in TENTHS]
    console.heat_map(["1k", "131072"], names, [[1.0] * 11, [0.0, None, *[0.5] * 9]])
    text = re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue())
    assert ("48;" in screen.getvalue()) is not no_color
    assert max(map(len, text.splitlines())) <= 80
    assert text.splitlines()[2].split() == ["131072", "0", "–", *["50"] * 9]


def test_plans_count_their_tokens() -> None:
    plan = Plan([1000, 2000], TENTHS, ["literal"], num_samples=3)
    assert plan.num_tokens == 9000
    assert replace(plan, num_samples=1).num_tokens == 3000
