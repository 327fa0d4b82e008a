"""Questions: reading them, scoring continuations, accuracy."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from l4cli.engine.llamacpp import LlamaBackend, LlamaModel
from l4cli.engine.types import BatchItem
from l4cli.errors import InputError
from l4cli.eval.grading import Answered, Grades, accuracy
from l4cli.eval.scoring import Group, Likelihood, Scorer, encode_pair, shared_prefix
from l4cli.eval.tasks import Question, question_of, read_task
from l4cli.speeds import Conditions


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"question": "q", "choices": ["a", "b"], "answer": 1}, (("a", "b"), 1)),
        ({"query": "q", "choices": ["a", "b"], "gold": "1"}, (("a", "b"), 1)),
        ({"ctx": "q", "endings": ["a", "b"], "label": "0"}, (("a", "b"), 0)),
        ({"question": "q", "choices": ["x", "y"], "answer": "B"}, (("x", "y"), 1)),
        ({"question": "q", "choices": ["x", "y"], "answer": "x"}, (("x", "y"), 0)),
        (
            {
                "question": "q",
                "choices": {"text": ["x", "y"], "label": ["1", "2"]},
                "answerKey": "2",
            },
            (("x", "y"), 1),
        ),
        ({"prompt": "q", "target": "cold"}, ((), 0)),
    ],
)
def test_questions_are_read_as_the_harness_names_them(
    value: dict[str, object], expected: tuple[tuple[str, ...], int]
) -> None:
    found = question_of(value, "t:1")
    assert (found.choices, found.gold) == expected


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"question": "q", "choices": ["a"], "answer": 0}', "it has 1 choice, but a question"),
        ('{"question": "q", "choices": [], "answer": 0}', "it has 0 choice"),
        ('{"question": "q", "choices": ["a", ""], "answer": 0}', "none of them empty"),
        ('{"question": "q", "choices": ["a", "b"], "answer": 2}', "is no index from 0 to 1"),
        ('{"question": "q", "choices": ["a", "b"], "answer": true}', "is no index"),
        ('{"question": "q", "choices": ["a", "b"]}', "lacks gold, answer"),
        ('{"choices": ["a", "b"], "answer": 0}', "lacks question, query"),
        ('{"question": 3, "answer": "x"}', "the question must be a text"),
        ('{"question": "q", "answer": 3}', "the answer must be a text"),
        ("[1]", "not a JSON object"),
        ("{", "not a line of JSON"),
    ],
)
def test_a_bad_question_is_named_with_its_line(tmp_path: Path, line: str, complaint: str) -> None:
    path = tmp_path / "task.jsonl"
    path.write_text('{"question": "q", "answer": "x"}\n\n' + line + "\n")
    with pytest.raises(InputError, match=r"task\.jsonl:3: ") as raised:
        read_task(path)
    assert complaint in str(raised.value)


def test_an_empty_task_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "task.jsonl"
    path.write_text("\n")
    with pytest.raises(InputError, match="it has no questions"):
        read_task(path)


def test_the_common_beginning_leaves_each_text_a_token() -> None:
    assert shared_prefix([[1, 2, 3], [1, 2, 4], [1, 2]]) == 1
    assert shared_prefix([[1, 2, 3]]) == 2
    assert shared_prefix([[1], [2]]) == 0
    assert shared_prefix([]) == 0


def test_blanks_at_the_end_of_a_context_belong_to_what_follows(model: LlamaModel) -> None:
    context, continuation = encode_pair(model, "the cat ", "sat")
    bos = [model.bos_token] if model.adds_bos else []
    assert context == [*bos, *model.tokenize("the cat")]
    assert context + continuation == [*bos, *model.tokenize("the cat sat")]
    context, continuation = encode_pair(model, "", "sat")
    assert len(context) == 1
    assert continuation


def one_by_one(model: LlamaModel, context: list[int], continuation: list[int]) -> Likelihood:
    """The likelihood of a continuation, computed in a context of its own, a token at a time."""
    backend = LlamaBackend(model, n_ctx=1024, n_batch=1024)
    total, greedy = 0.0, True
    ids = [*context, *continuation]
    backend.decode([BatchItem(0, 0, ids[: len(context)], True)])
    for at in range(len(context), len(ids)):
        row = backend.logits(0).astype(np.float64)
        total += row[ids[at]] - (row.max() + math.log(np.exp(row - row.max()).sum()))
        greedy = greedy and int(row.argmax()) == ids[at]
        backend.decode([BatchItem(0, at, [ids[at]], True)])
    backend.close()
    return Likelihood(total, greedy)


@pytest.mark.parametrize("header", ["", "A long beginning that all of the questions share. " * 6])
def test_likelihoods_are_those_of_each_continuation_alone(model: LlamaModel, header: str) -> None:
    texts = [
        ("which animal", [" a cat", " the dog and the cat", " one"]),
        ("how many of them are in the house", [" two", " three of them"]),
        ("and then", [" a very long answer that goes on and on and on and on"]),
    ]
    groups = []
    for context, endings in texts:
        pairs = [encode_pair(model, header + context, ending) for ending in endings]
        groups.append(Group(pairs[0][0], [ids for _, ids in pairs]))
    scorer = Scorer.of("tiny", model, Conditions("", n_threads=1), groups)
    found = list(scorer.run(groups))
    again = list(scorer.run(groups))
    scorer.close()
    assert found == again
    assert len(found) == len(groups)
    for group, own in zip(groups, found, strict=True):
        for ids, likelihood in zip(group.continuations, own, strict=True):
            alone = one_by_one(model, list(group.context), list(ids))
            assert likelihood.logprob == pytest.approx(alone.logprob, rel=1e-3, abs=1e-3)
            assert likelihood.is_greedy == alone.is_greedy


def test_many_questions_and_long_contexts_pass_through_a_small_pool(model: LlamaModel) -> None:
    groups = [
        Group([1 + at % 50 for at in range(3 + 40 * number)], [[5, 6, 7], [8], [9, 10]])
        for number in range(14)
    ]
    scorer = Scorer.of("tiny", model, Conditions("", n_threads=1), groups)
    found = list(scorer.run(groups))
    scorer.close()
    alone = one_by_one(model, list(groups[13].context), [5, 6, 7])
    assert len(found) == 14
    assert found[13][0].logprob == pytest.approx(alone.logprob, rel=1e-3, abs=1e-3)


def test_accuracy_has_the_harness_error_and_wilsons_interval() -> None:
    found = accuracy([True] * 30 + [False] * 10)
    assert found is not None
    assert found.value == 0.75
    assert found.error == pytest.approx(math.sqrt(0.75 * 0.25 / 39))
    assert (round(found.low, 4), round(found.high, 4)) == (0.5981, 0.8581)
    perfect = accuracy([True])
    assert perfect is not None
    assert perfect.low < 0.3
    assert accuracy([]) is None


def test_acc_norm_divides_by_the_characters_of_a_choice() -> None:
    question = Question("t:1", "q", ("ab", "abcdefghij"), 1)
    answered = Answered(question, (Likelihood(-3.0, False), Likelihood(-8.0, False)))
    exact = Answered(Question("t:2", "q", (), 0, "x"), (Likelihood(-0.1, True),))
    grades = Grades([answered, exact])
    assert answered.chosen == 0
    assert answered.chosen_norm == 1
    assert grades.acc is not None
    assert grades.acc_norm is not None
    assert grades.exact_match is not None
    assert (grades.acc.value, grades.acc_norm.value, grades.exact_match.value) == (0, 1, 1)
    assert grades.acc.count == 1


def test_a_task_file_may_mix_both_kinds(tmp_path: Path) -> None:
    path = tmp_path / "task.jsonl"
    rows = [
        {"question": "q", "choices": ["a", "b"], "answer": 0},
        {"question": "q", "answer": "a"},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert [one.continuations for one in read_task(path)] == [[" a", " b"], [" a"]]
