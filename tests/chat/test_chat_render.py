"""Answers on a screen: the lines that a user sees at every moment of the stream."""

from __future__ import annotations

import itertools
import random

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marks import slow_but

from l4cli.chat.terminal import render
from l4cli.chat.terminal.bar import bar_text
from l4cli.chat.terminal.markdown import BlockRenderer, split_blocks
from l4cli.chat.terminal.region import Region
from l4cli.chat.terminal.render import MarkdownView, PipeView, PlainView, harmless

ANSWER = """# Quantization

**Quantization** stores weights in *fewer bits*: a long paragraph that wraps, with `code` and a
[link](https://example.org).

1. `Q8_0`: 8 bits
2. `Q4_K_M`: a mix
   - nested
3. last

```python
def f(x: int) -> str:
    return "**not bold**"
```

| name | bits |
|:-----|-----:|
| Q8_0 | 8.5 |

> A quote

中文 and <b>HTML</b>
Poem, second line
"""

SHOWN = """\
Quantization

Quantization stores weights in fewer bits: a long paragraph that wraps,
with code and a
link (https://example.org).

 1. Q8_0: 8 bits
 2. Q4_K_M: a mix
     • nested
 3. last

  def f(x: int) -> str:
      return "**not bold**"

 name  bits
 ──────────
 Q8_0   8.5

▌ A quote

中文 and <b>HTML</b>
Poem, second line"""


@pytest.fixture(autouse=True)
def _color_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


class Watched:
    """A pyte screen that also records every write, and its content after each one."""

    def __init__(self, columns: int = 80, rows: int = 40) -> None:
        self.screen = pyte.HistoryScreen(columns, rows, history=1000, ratio=0.5)
        self.stream = pyte.Stream(self.screen)
        self.frames: list[str] = []
        self.written = ""

    def write(self, text: str) -> None:
        # The tty driver turns a program's \n into \r\n.
        self.stream.feed(text.replace("\r\n", "\n").replace("\n", "\r\n"))
        self.written += text
        self.frames.append(self.text())

    def size(self) -> tuple[int, int]:
        return self.screen.columns, self.screen.lines

    def text(self) -> str:
        gone = [
            "".join(line[x].data for x in range(self.screen.columns))
            for line in self.screen.history.top
        ]
        return "\n".join(line.rstrip() for line in [*gone, *self.screen.display]).rstrip()


def markdown_view(watched: Watched) -> MarkdownView:
    """Return a view that draws at every write: by its clock, drawing takes no time."""
    # The view looks at the clock twice for each write: before and after drawing.
    looks = itertools.count()
    return MarkdownView(watched.write, watched.size, clock=lambda: float(next(looks) // 2))


def pieces(text: str, seed: int = 0) -> list[str]:
    draw, found = random.Random(seed), []
    while text:
        size = draw.randint(1, 6)
        found.append(text[:size])
        text = text[size:]
    return found


def streamed(watched: Watched, text: str, seed: int = 0) -> None:
    view = markdown_view(watched)
    view.progress(0, 0)
    for piece in pieces(text, seed):
        view.write(piece)
    view.close()


@pytest.mark.parametrize("seed", range(3))
def test_markdown_looks_right_however_it_is_split(seed: int) -> None:
    watched = Watched(columns=74)
    streamed(watched, ANSWER, seed)
    assert watched.text() == SHOWN
    assert watched.screen.cursor.x == 0


def test_nothing_ever_disappears_while_it_streams() -> None:
    """No flicker: a finished line is never erased and drawn again."""
    watched = Watched()
    streamed(watched, ANSWER)
    for line in ("Quantization stores weights in fewer bits", " 2. Q4_K_M: a mix", " Q8_0   8.5"):
        shown = [line in frame for frame in watched.frames]
        first = shown.index(True)
        assert all(shown[first:])


def test_an_answer_taller_than_the_screen_is_whole_in_the_scrollback() -> None:
    items = "\n".join(f"- item {n}" for n in range(60))
    code = "```\n" + "\n".join(f"line {n}" for n in range(60)) + "\n```"
    watched = Watched(rows=10)
    streamed(watched, f"{items}\n\n{code}\n\nend")
    expected = [f" • item {n}" for n in range(60)] + [""] + [f"  line {n}" for n in range(60)]
    assert watched.text().split("\n") == [*expected, "", "end"]


@pytest.mark.parametrize("columns", [20, 40, 200])
def test_no_line_is_wider_than_the_terminal(columns: int) -> None:
    renderer = BlockRenderer()
    watched = Watched(columns=columns, rows=100)
    for block in split_blocks(ANSWER):
        for line in renderer.lines(block, columns - 1):
            watched.stream.feed(line)
            assert watched.screen.cursor.x < columns
            watched.stream.feed("\r\n")


def test_wider_and_narrower_terminals_in_mid_answer() -> None:
    words = "word " * 60
    watched = Watched(columns=80, rows=30)
    view = markdown_view(watched)
    view.write("A first paragraph.\n\n")
    view.write(words)
    watched.screen.resize(30, 100)
    view.write(words)
    watched.screen.resize(30, 40)
    view.write(words + "end")
    view.close()
    text = watched.text()
    assert text.endswith("end")
    assert max(map(len, watched.screen.display)) <= 100
    assert " ".join(text.split()).count("word") == 180


class ReflowingScreen(pyte.HistoryScreen):
    """A screen that wraps its lines again when it is resized, as most terminals do."""

    def resize(self, lines: int | None = None, columns: int | None = None) -> None:
        width = columns or self.columns
        shown = [line.rstrip() for line in self.display[: self.cursor.y + 1]]
        super().resize(lines, columns)
        self.erase_in_display(2)
        self.cursor_position(1, 1)
        for number, line in enumerate(shown):
            for at in range(0, max(1, len(line)), width):
                if number or at:
                    self.linefeed()
                    self.carriage_return()
                self.draw(line[at : at + width])


def resized_in_mid_answer(watched: Watched, *, reflows: bool) -> str:
    """Show a long paragraph while the width changes; return the visible text without blanks."""
    looks = itertools.count()
    view = MarkdownView(
        watched.write, watched.size, clock=lambda: float(next(looks) // 2), reflows=reflows
    )
    view.write("A first paragraph.\n\n")
    words = iter(range(1000))
    for columns in (80, 61, 40, 33, 57, 44, 100):
        watched.screen.resize(watched.screen.lines, columns)
        for _ in range(40):
            view.write(f"word{next(words):03d} ")
    view.close()
    return "".join(watched.text().split())


@pytest.mark.parametrize("rows", slow_but([8, 24], [8, 13, 24, 60]))
def test_a_resized_terminal_shows_every_word_once(rows: int) -> None:
    watched = Watched(columns=80, rows=rows)
    watched.screen = ReflowingScreen(80, rows, history=1000, ratio=0.5)
    watched.stream = pyte.Stream(watched.screen)
    expected = "".join(f"word{n:03d}" for n in range(280))
    assert resized_in_mid_answer(watched, reflows=True) == f"Afirstparagraph.{expected}"


def test_a_terminal_that_cuts_its_lines_keeps_what_stands_above_the_answer() -> None:
    text = resized_in_mid_answer(Watched(columns=80, rows=60), reflows=False)
    expected = "".join(f"word{n:03d}" for n in range(280))
    assert text == f"Afirstparagraph.{expected}"


def test_progress_gives_way_to_the_answer() -> None:
    watched = Watched()
    view = markdown_view(watched)
    view.progress(0, 0)
    view.progress(512, 42_000)
    assert watched.text() == "reading the prompt: 512 of 42,000 tokens"
    view.write("Yes.")
    assert watched.text() == "Yes."
    view.close()


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (80, "reading the prompt: 1,024 of 42,000 tokens, about 80 s left"),
        (42, "1,024 of 42,000 tokens, about 80 s left"),
        (30, "1,024 of 42,000 tokens"),
    ],
)
def test_progress_tells_the_time_left(columns: int, shown: str) -> None:
    """At 512 tokens a second, which the first call cannot know."""
    watched = Watched(columns=columns)
    seconds = iter(range(9))
    view = MarkdownView(watched.write, lambda: (columns, 24), clock=lambda: float(next(seconds)))
    view.progress(512, 42_000)
    assert "left" not in watched.text()
    view.progress(1024, 42_000)
    assert watched.text() == shown


def test_progress_without_an_answer_leaves_nothing() -> None:
    watched = Watched()
    view = markdown_view(watched)
    view.progress(512, 42_000)
    view.close()
    assert watched.text() == ""
    assert (watched.screen.cursor.x, watched.screen.cursor.y) == (0, 0)


def test_rendering_is_rationed() -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 0.001  # each look at the clock takes a millisecond
        return now[0]

    watched = Watched()
    view = MarkdownView(watched.write, watched.size, clock)
    for _ in range(1000):
        view.write("word ")
    assert len(watched.frames) < 50
    view.close()
    assert watched.text().count("word") == 1000


def test_plain_words_appear_at_once_and_what_may_be_markdown_waits() -> None:
    watched = Watched()
    # The clock stands still, so there is no second drawing.
    view = MarkdownView(watched.write, watched.size, lambda: 0.0)
    view.write("These words are drawn")
    for word in (", these", " come", " behind", " them"):
        view.write(word)
    assert watched.text() == "These words are drawn, these come behind them"
    view.write(" **in")
    view.write(" bold**")
    assert "bold" not in watched.text()
    view.close()
    assert watched.text() == "These words are drawn, these come behind them in bold"


@pytest.mark.parametrize("beginning", ["# A heading of some", "A line of so many words that it"])
def test_words_are_not_put_behind_what_is_styled_or_full(beginning: str) -> None:
    watched = Watched(columns=36)
    view = MarkdownView(watched.write, watched.size, lambda: 0.0)
    view.write(beginning)
    shown = watched.text()
    view.write(" extraordinary")
    assert watched.text() == shown
    view.close()
    assert " ".join(watched.text().split()).endswith("extraordinary")


def test_html_links_and_images_are_not_lost() -> None:
    watched = Watched()
    streamed(watched, "<div>a</div>\n\n[x]: http://y\n\n![alt](img.png) <br> &lt;\n")
    for part in ("<div>a</div>", "[x]: http://y", "alt", "img.png", "<br>"):
        assert part in watched.text()


def test_a_colon_line_before_a_list_does_not_flash_up_as_a_heading() -> None:
    assert [len(split_blocks(f"These:\n{rest}")) for rest in ("-", "- a", "- a\n- b")] == [1, 2, 2]
    assert split_blocks("These:\n-") == ["These:\n-"]


markdown_text = st.text(
    st.sampled_from("abc 123.#*_`~|-+>[]()!<&\\\n\t:=é中😀\"'") | st.characters(codec="utf-8"),
    max_size=200,
)


@settings(max_examples=150, deadline=None)
@given(markdown_text, st.integers(2, 60), st.integers(0, 5))
def test_no_text_breaks_the_view(text: str, columns: int, seed: int) -> None:
    watched = Watched(columns=columns, rows=12)
    streamed(watched, text, seed)
    assert watched.screen.cursor.x == 0


@given(markdown_text)
def test_blocks_are_all_of_the_text(text: str) -> None:
    text = harmless(text)
    blocks = "".join("\n".join(split_blocks(text)).split())
    assert blocks == "".join(text.split())


def test_terminals_are_not_told_what_to_do() -> None:
    evil = "a\x1b]0;title\x07b\x1b[2Jc\x9b31md\x7f\r\ne"
    assert harmless(evil) == "a␛]0;title␇b␛[2Jc\ufffd31md␡\ne"
    for make in (markdown_view, lambda w: PlainView(w.write)):
        watched = Watched()
        view = make(watched)
        view.write(evil)
        view.close()
        assert watched.text() == "a␛]0;title␇b␛[2Jc\ufffd31md␡\ne"


def test_a_pipe_gets_the_text_as_it_is_and_one_newline() -> None:
    for parts in (["x\x1b[1m\n\n", "\ny\n", "\n"], ["x\x1b[1m", "\n\n\n", "y"]):
        out: list[str] = []
        view = PipeView(out.append)
        view.progress(1, 2)
        for part in parts:
            view.write(part)
        view.close()
        assert "".join(out) == "x\x1b[1m\n\n\ny\n"


def test_plain_text_comes_word_by_word_and_ends_its_line() -> None:
    watched = Watched()
    view = PlainView(watched.write)
    view.write("**one** ")
    view.write("tw")
    view.write("o three")
    assert watched.frames[-1] == "**one** two"
    view.close()
    assert watched.written == "**one** two three\n"


def test_plain_text_divides_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "terminal_size", lambda: (20, 24))
    watched = Watched()
    view = PlainView(watched.write)
    for piece in ("each layer holds the we", "ights of all", " experts"):
        view.write(piece)
    view.close()
    assert watched.written == "each layer holds the\nweights of all\nexperts\n"


def test_a_region_can_lose_all_its_lines_and_go_on() -> None:
    watched = Watched()
    region = Region(watched.write, watched.size)
    for lines in (["a", "b", "c"], ["a"], ["a", "d"], [], ["e"], ["e", ""], ["e", "", "f"]):
        region.update(lines)
        assert watched.text() == "\n".join(lines).rstrip()
    region.close()
    assert (watched.screen.cursor.y, watched.screen.cursor.x) == (3, 0)


def test_the_bar_shows_what_fits() -> None:
    full = bar_text(80, "demo:Q8_0", 1234, 16384, 45.25, "2 files attached")
    assert full == "demo:Q8_0 · 1,234 of 16,384 tokens · 45.2 tokens/s · 2 files attached"
    assert bar_text(40, "demo:Q8_0", 1234, 16384, 45.25) == "1,234 of 16,384 tokens · 45.2 tokens/s"
    assert bar_text(20, "demo:Q8_0", 1234, 16384, 45.25, "note") == "1234/16384 · note"
    assert len(bar_text(5, "demo:Q8_0", 1234, 16384)) == 5
