"""Branches with a fake model: /edit, /branch, /alts, /compact, and commands that show things."""

from __future__ import annotations

import itertools
import os
import signal

import pytest
from chat_support import Chat, RecordingView, fake_llm

from l4cli.chat.history.conversation import Message
from l4cli.chat.history.tree import Tree
from l4cli.chat.session import ChatSession
from l4cli.errors import ContextOverflowError, EngineError, L4Error, UsageError


def test_a_question_said_in_other_words_is_answered_at_once() -> None:
    chat = Chat()
    chat.session.ask("one")
    chat.session.ask("two")
    chat.ui.edited = "zwei"
    chat.run("/edit")
    assert chat.contents == ["one", "ONE", "zwei", "ZWEI"]
    chat.ui.edited = "eins"
    chat.run("/edit 1")
    assert chat.contents == ["eins", "EINS"]
    assert "at message 4" in chat.run("/goto 4")
    assert chat.contents == ["one", "ONE", "two", "TWO"]


def test_an_edit_that_changes_nothing_asks_nothing() -> None:
    chat = Chat()
    chat.session.ask("one")
    for chat.ui.edited in (None, "one"):
        assert "nothing changed" in chat.run("/edit")
    assert len(chat.views) == 1


def test_an_edited_answer_goes_on_from_its_own_tokens() -> None:
    chat = Chat(fake_llm(lambda question: "été à Nîmes"))
    chat.session.ask("a question that is long enough")
    chat.ui.edited = "été"
    assert "message 3 is now the last one; /continue" in chat.run("/edit 2")
    assert chat.contents[-1] == "été"
    chat.run("/continue")
    assert chat.contents[-1] == "été à Nîmes"
    assert chat.session.last is not None
    assert chat.session.last.num_computed_tokens == 1
    assert [n.message.content for n in chat.session.tree.nodes.values()] == [
        "a question that is long enough",
        "été à Nîmes",
        "été à Nîmes",
    ]


def test_going_on_never_changes_what_others_answered_to() -> None:
    chat = Chat(fake_llm(lambda question: "a long answer"), sampling={"max_tokens": 6})
    chat.session.ask("one")
    chat.session.ask("two")
    chat.run("/branch 2")
    chat.run("/continue")
    tree = chat.session.tree
    assert tree.nodes[2].message.content == "a long"
    assert chat.contents == ["one", "a long answe"]
    chat.run("/continue")  # no message is below this one, so it grows in place
    assert chat.contents == ["one", "a long answer"]
    assert len(tree.nodes) == len(chat.session.tree.nodes)


def test_an_answer_stopped_before_it_goes_on_stays() -> None:
    chat = Chat(sampling={"max_tokens": 2})
    chat.session.ask("hello")
    before = chat.session.tree
    backend = chat.llm.engine.backend
    backend.fail_on = ord("H")  # type: ignore[attr-defined]
    with pytest.raises(EngineError):
        chat.run("/continue")
    assert chat.session.tree == before


def test_branches_begin_after_an_answer_or_in_the_place_of_a_question() -> None:
    chat = Chat()
    chat.session.ask("one")
    chat.session.ask("two")
    assert "after message 2" in chat.run("/branch 2")
    chat.session.ask("three")
    assert chat.contents == ["one", "ONE", "three", "THREE"]
    assert "in place of message 5" in chat.run("/branch")
    chat.session.ask("four")
    assert chat.contents == ["one", "ONE", "four", "FOUR"]
    assert chat.run("/tree").splitlines() == [
        "* 1 > one",
        "* 2   ONE",
        "  ├ 3 > two",
        "  │ 4   TWO",
        "  ├ 5 > three",
        "  │ 6   THREE",
        "* 7 > four",
        "* 8   FOUR",
        "(* marks where you are: the branch up to message 8; /goto N moves)",
    ]


def test_the_tree_keeps_its_order_when_the_head_moves() -> None:
    chat = Chat()
    chat.session.ask("one")
    chat.session.ask("two")
    chat.run("/branch 2")
    chat.session.ask("three")
    before = [line[2:] for line in chat.run("/tree").splitlines()[:-1]]
    chat.run("/goto 4")
    drawn = chat.run("/tree").splitlines()
    assert [line[2:] for line in drawn[:-1]] == before
    assert [line[:2] for line in drawn[:-1]] == ["* "] * 4 + ["  "] * 2
    assert "up to message 4" in drawn[-1]


def test_going_to_a_message_above_others_says_why_the_head_is_below_it() -> None:
    chat = Chat()
    chat.session.ask("one")
    chat.session.ask("two")
    said = chat.run("/goto 2")
    assert "at message 4, the end of the branch with 2: TWO" in said
    assert "/branch 2 says something else after it" in said
    assert "/branch 3 says something else in its place" in chat.run("/goto 3")
    assert chat.run("/goto 4") == "at message 4: TWO"


def test_the_same_answer_again_is_not_kept_twice() -> None:
    chat = Chat(sampling={"temperature": 0})
    chat.session.ask("one")
    before = chat.session.tree
    said = chat.run("/regen")
    assert "(the same as message 2, so it is not kept a second time)" in said
    assert chat.session.tree == before


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("/goto", "use it as /goto N"),
        ("/goto x", "'x' is not a number"),
        ("/goto -1", "'-1' is not a number"),
        ("/goto ٣", "is not a number"),
        ("/goto 99", r"no message 99 \(there are 1 to 2\)"),
        ("/branch 0", "no message 0"),
        ("/edit 7", "no message 7"),
        ("/alts 1", "how many answers you want, 2 to 16, not 1"),
        ("/alts some", "'some' is not a number; /alts takes how many answers"),
        ("/compact all", "'all' is not a number; /compact takes how many of the last questions"),
        ("/copy x", "'x' is not a number; /copy takes the number of a code block"),
        ("/alts", "use it as /alts N: get N answers"),
        ("/compare", "only one answer to the last question"),
        ("/compare 1", "two messages or more"),
        ("/compare 1 9", "no message 9"),
        ("/copy 1", "no code block"),
        ("/compact 5", "nothing to compact"),
        ("/load nowhere", "not kept"),
        ("/save name", "not kept"),
    ],
)
def test_arguments_that_make_no_sense_are_said(line: str, complaint: str) -> None:
    chat = Chat()
    chat.session.ask("one")
    with pytest.raises(L4Error, match=complaint):
        chat.run(line)
    assert chat.session.ask("still here?").text == "STILL HERE?"


def test_an_empty_chat_says_what_is_missing() -> None:
    for line in ("/edit", "/branch", "/alts 2", "/compare", "/undo", "/copy"):
        with pytest.raises(UsageError, match=r"nothing has been asked|no answer to copy"):
            Chat().run(line)
    assert Chat().run("/tree") == "nothing has been said yet"
    assert Chat().run("/stats") == "nothing has been computed yet"


@pytest.mark.parametrize("n_seq_max", [4, 1])
def test_alternatives_come_from_one_prefix(n_seq_max: int) -> None:
    said = itertools.count()
    answers: dict[int, str] = {}

    chat = Chat(fake_llm(n_seq_max=n_seq_max))
    backend = chat.llm.engine.backend
    plain = backend.next_token  # type: ignore[attr-defined]

    def next_token(seq_id: int) -> int:
        # Each sequence answers with a letter of its own.
        key = backend.cells[seq_id].count(259), seq_id  # type: ignore[attr-defined]
        letter = answers.setdefault(key, chr(97 + next(said)))  # type: ignore[call-overload]
        token: int = plain(seq_id)
        return ord(letter) if token < 256 else token

    chat.session.ask("a question of some length")
    used = chat.session.num_tokens
    decoded = backend.num_decoded_tokens  # type: ignore[attr-defined]
    backend.next_token = next_token  # type: ignore[attr-defined, method-assign]
    chat.ui.answers = ["9", "2"]
    said_lines = chat.run("/alts 3")
    ids = chat.session.tree.children(1)
    assert len(ids) == 4
    assert chat.session.tree.head == ids[2]
    assert "'9' is no number from 1 to 3" in said_lines
    ways = f"/goto {ids[1]} or /goto {ids[3]}"
    assert f"(the chat goes on from answer 2; {ways} takes another)" in said_lines
    assert [view.text for view in chat.views[1:]] == [
        chat.session.tree.nodes[id].message.content for id in ids[1:]
    ]
    assert (3 in backend.batch_sizes) == (n_seq_max == 4)  # type: ignore[attr-defined]
    assert chat.run(f"/show {ids[1]}") == chat.views[1].text
    # The prompt was cached: each answer computes only the prompt's last token and its own tokens.
    length = len("a question of some length")
    assert backend.num_decoded_tokens - decoded <= 3 * (length + 1)  # type: ignore[attr-defined]
    backend.next_token = plain  # type: ignore[attr-defined, method-assign]
    answer = chat.session.ask("x")
    assert answer.num_cached_tokens >= used - 1 - (0 if n_seq_max > 1 else length)


def test_versions_stand_beside_each_other() -> None:
    said = "the harbour is old"
    chat = Chat(fake_llm(lambda question: said))
    chat.session.ask("tell me")
    said = "the harbour is new and wide"
    chat.session.regenerate()
    assert chat.run("/compare").splitlines() == [
        f"{'message 2':<38} │ message 3",
        f"{'the harbour is old':<38} │ the harbour is new and wide",
        "(they differ after 3 words)",
    ]
    said = "the harbour is old"
    chat.session.ask("and again")
    assert chat.run("/compare 5 2").endswith("(they are the same)")


def test_alternatives_share_what_is_left_of_the_context() -> None:
    chat = Chat(fake_llm(lambda question: "z" * 500, n_ctx=160, n_seq_max=4))
    chat.session.ask("hi")
    chat.run("/alts 4")
    for id in chat.session.tree.children(1)[1:]:
        message = chat.session.tree.nodes[id].message
        assert message.finish_reason == "length"
        assert 25 < len(message.content) < 40


def test_alternatives_at_temperature_0_are_refused() -> None:
    chat = Chat(sampling={"temperature": 0.0})
    chat.session.ask("hi")
    with pytest.raises(UsageError, match="all answers are the same"):
        chat.run("/alts 2")


def test_alternatives_of_a_seed_differ_in_theirs() -> None:
    chat = Chat(fake_llm(n_seq_max=2), sampling={"seed": 7})
    seeds = []
    backend = chat.llm.engine.backend
    sampler = backend.sampler
    backend.sampler = lambda params, prompt: (  # type: ignore[method-assign]
        seeds.append(params.seed) or sampler(params, prompt)  # type: ignore[func-returns-value]
    )
    chat.session.ask("hi")
    chat.run("/alts 3")
    assert seeds == [7, 7, 8, 9]


def test_ctrl_c_keeps_what_every_alternative_has_said() -> None:
    pressed: list[str] = []

    class Impatient(RecordingView):
        def write(self, text: str) -> None:
            super().write(text)
            if self.text == "A Q" and not pressed:
                pressed.append("Ctrl-C")
                os.kill(os.getpid(), signal.SIGINT)

    session = ChatSession(fake_llm(n_seq_max=3), Impatient)
    session.tree = Tree().said(Message("user", "a question"), Message("assistant", "x"))
    begun: list[int] = []
    ids = session.alternatives(3, begun.append)
    said = [session.tree.nodes[id].message for id in ids]
    assert begun == [0, 1, 2]
    assert [message.finish_reason for message in said] == ["abort"] * 3
    assert all("A QUESTION".startswith(m.content) and 2 <= len(m.content) < 6 for m in said)
    assert session.llm.engine.num_unfinished == 0


# /compact


LONG = "first things" + ", and more of them" * 10


def talk() -> Chat:
    chat = Chat(fake_llm(lambda q: "SUMMARY" if q.startswith("Sum up") else q.upper()), system="s")
    for question in (LONG, "second things", "third things"):
        chat.session.ask(question)
    return chat


def test_compacting_shows_exact_numbers_and_asks() -> None:
    chat = talk()
    before = chat.session.num_tokens
    said = chat.run("/compact")
    assert "4 messages (1 to 4) could go, 2 would stay" in said
    assert f"drop     {before} tokens now, 32 afterwards" in said
    assert chat.ui.asked == ["[s]um up, [d]rop or leave it? "]
    assert "nothing changed" in said
    assert chat.session.num_tokens == before


def test_dropping_leaves_exactly_what_was_said() -> None:
    chat = talk()
    before = chat.session.num_tokens
    chat.ui.answers = ["d"]
    said = chat.run("/compact")
    assert chat.contents == ["third things", "THIRD THINGS"]
    assert chat.session.num_tokens == 32
    assert f"({before} tokens before, 32 now; /goto 6 goes back" in said
    chat.run("/goto 6")
    assert chat.session.num_tokens == before


def test_a_summary_stands_before_what_stays() -> None:
    chat = talk()
    chat.ui.answers = ["s"]
    said = chat.run("/compact 2")
    assert chat.contents == [
        "Summary of what was said before:\nSUMMARY\n\nsecond things",
        "SECOND THINGS",
        "third things",
        "THIRD THINGS",
    ]
    assert f"{chat.session.num_tokens} now" in said
    assert chat.session.last is not None
    # The prompt for the summary begins with the conversation.
    assert chat.session.last.num_cached_tokens > 30


def test_a_summary_of_everything_goes_before_the_next_question() -> None:
    chat = Chat(fake_llm(lambda q: "SUMMARY" if q.startswith("Sum up") else q.upper()))
    chat.session.ask(LONG)
    chat.ui.answers = ["s"]
    chat.run("/compact")
    assert chat.contents == []
    chat.session.ask("next")
    assert chat.contents[0] == "Summary of what was said before:\nSUMMARY\n\nnext"


def test_a_summary_that_would_win_nothing_is_not_offered() -> None:
    chat = Chat()
    chat.session.ask("short")
    chat.ui.answers = ["s"]
    said = chat.run("/compact")
    assert "sum up   no use: these have " in said
    assert chat.ui.asked == ["[d]rop or leave it? "]
    assert "nothing changed" in said


def test_there_may_be_no_room_for_a_summary() -> None:
    chat = Chat(fake_llm(n_ctx=200))
    chat.session.ask("x" * 40)
    chat.ui.answers = ["s"]
    said = chat.run("/compact")
    assert "no room left to write a summary" in said
    assert "nothing changed" in said
    with pytest.raises(ContextOverflowError, match="/compact"):
        chat.session.ask("y" * 150)


# Commands that show or copy things, and errors.


def test_code_blocks_are_copied_by_their_number() -> None:
    text = "Two:\n\n```python\nx = 1\n```\n\n- in a list:\n\n  ```\n  y\n  ```\n"
    chat = Chat(fake_llm(lambda question: text))
    chat.session.ask("code")
    assert "copied to the clipboard" in chat.run("/copy")
    chat.run("/copy 1")
    chat.run("/copy 2")
    assert chat.ui.copied == [text, "x = 1\n", "y\n"]
    with pytest.raises(UsageError, match="code blocks 1 to 2; there is no number 3"):
        chat.run("/copy 3")


def test_stats_sum_up_what_was_computed() -> None:
    chat = Chat()
    chat.session.ask("hello there, how are you?")
    chat.session.ask("b")
    said = chat.run("/stats")
    totals = chat.session.totals
    assert "answers      2, 26 tokens" in said
    assert totals.num_computed_tokens + totals.num_cached_tokens == totals.num_prompt_tokens
    assert f"{totals.num_cached_tokens} prompt tokens were already in the KV cache" in said


def test_a_file_that_could_never_be_sent_is_refused_with_the_numbers() -> None:
    chat = Chat(fake_llm(n_ctx=100))
    chat.session.attach("small", "x" * 60)
    with pytest.raises(ContextOverflowError, match="50 tokens, 40 of 100 are"):
        chat.session.attach("large", "x" * 50)
    assert [a.name for a in chat.session.attachments] == ["small"]


def test_a_template_that_raises_leaves_the_chat_as_it_was() -> None:
    chat = Chat()
    chat.session.ask("one")
    before = chat.session.tree
    chat.session.tree = before.said(Message("user", "two in a row"))
    template = chat.llm.encoder.template
    assert template is not None
    real = template.render

    def refuse(*args: object, **options: object) -> str:
        from l4cli.errors import RequestError

        raise RequestError("the model's chat template cannot show these messages: roles")

    template.render = refuse  # type: ignore[assignment, method-assign]
    with pytest.raises(L4Error, match="cannot show these messages"):
        chat.session.ask("three")
    for line in ("/tree", "/tokens", "/show"):
        chat.run(line)
    chat.run("/undo")
    template.render = real  # type: ignore[method-assign]
    assert chat.session.tree.conversation == before.conversation
    assert chat.session.ask("fine").text == "FINE"
