"""The page's own Markdown, and its tree of versions, in a real browser."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from browser import Browser, Page
from chat_support import fake_llm
from served import served

pytestmark = pytest.mark.browser

RICH = """# Title with *emphasis*

Some **bold**, `code`, [a link](https://example.org/a_(b)) and https://example.org.
A second line.

1. one
   - inner
   - `more`
2. two

   a paragraph of it
10) ten

> quoted
> - list in it

| a | b |
|:--|--:|
| 1 | `x \\| y` |

```python
def f(x):

    return "**not bold**"
```

~~gone~~ and \\*stars\\*

$$
x_1 * y_1 * z
$$

---

last
"""


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with Browser() as browser, served(fake_llm()) as url:
        yield browser.open(url)


# Returns the HTML of a text, without what only decorates it.
DRAW = """
    const simple = (root) => {
      const copy = root.cloneNode(true);
      for (const one of copy.querySelectorAll("figcaption button")) one.remove();
      for (const one of copy.querySelectorAll("*")) {
        for (const name of one.getAttributeNames()) {
          if (!["href", "start", "class"].includes(name)) one.removeAttribute(name);
        }
      }
      return copy.innerHTML;
    };
    const drawn = (text, isOpen = false) => {
      const root = document.createElement("div");
      new m.Rendered(root).update(text, isOpen);
      return simple(root);
    };
"""


def draw(page: Page, text: str, is_open: bool = False) -> str:
    html: str = page.module(
        "render.js", f"{DRAW} return drawn(arguments_[0], arguments_[1]);", text, is_open
    )
    return html


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a\nb\n\nc", "<p>a<br>b</p><p>c</p>"),
        ("# A\n### B ##", '<h3 class="h1">A</h3><h5 class="h3">B</h5>'),
        ("**a *b* c** _d_ ~~e~~", "<p><strong>a <em>b</em> c</strong> <em>d</em> <del>e</del></p>"),
        ("***a***", "<p><em><strong>a</strong></em></p>"),
        ("a_b_c 2*3*4 * x", "<p>a_b_c 2<em>3</em>4 * x</p>"),
        ("**open", "<p>**open</p>"),
        ("`a **b**` ``c`d``", "<p><code>a **b**</code> <code>c`d</code></p>"),
        ("<b>&lt;i&gt;", "<p>&lt;b&gt;&lt;i&gt;</p>"),
        ("a<br>b", "<p>a<br>b</p>"),
        (
            "[**x**](https://e.org/a_b 'T')",
            '<p><a href="https://e.org/a_b"><strong>x</strong></a></p>',
        ),
        ("[x](javascript:alert)", "<p><span>x</span></p>"),
        ("![p](https://e.org/p.png)", '<p><a href="https://e.org/p.png">Picture: p</a></p>'),
        ("(https://e.org/x).", '<p>(<a href="https://e.org/x">https://e.org/x</a>).</p>'),
        ("- a\n- b\n\ntext", "<ul><li><p>a</p></li><li><p>b</p></li></ul><p>text</p>"),
        ("3. a\n4. b", '<ol start="3"><li><p>a</p></li><li><p>b</p></li></ol>'),
        ("1. a\n  - b", "<ol><li><p>a</p><ul><li><p>b</p></li></ul></li></ol>"),
        ("> a\n> > b", "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote>"),
        (
            "```js\na\n  b\n```",
            _code := '<figure class="code"><figcaption><span>js</span>'
            "</figcaption><pre><code>a\n  b</code></pre></figure>",
        ),
        ("~~~~js\na\n  b\n~~~~\n", _code),
        (
            "| a | b |\n|---|:-:|\n| 1 |",
            '<div class="table"><table><thead><tr><th>a</th><th class="to-center">b</th></tr>'
            '</thead><tbody><tr><td>1</td><td class="to-center"></td></tr></tbody></table></div>',
        ),
        ("a | b\nc", "<p>a | b<br>c</p>"),
        (r"\(a_1 * b_1\)", '<p><span class="math">a_1 * b_1</span></p>'),
        ("\x1b[1mx\u202ey", "<p>␛[1mx\ufffdy</p>"),
    ],
)
def test_markdown_is_drawn(page: Page, text: str, html: str) -> None:
    assert draw(page, text) == html


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("**bo", "<p><strong>bo</strong></p>"),
        ("a **", "<p>a </p>"),
        ("`co", "<p><code>co</code></p>"),
        ("see [here](https://e.o", "<p>see here</p>"),
        (
            "| a | b",
            '<div class="table"><table><thead><tr><th>a</th><th>b</th></tr></thead>'
            "<tbody></tbody></table></div>",
        ),
        (
            "```py\na\n``",
            '<figure class="code"><figcaption><span>py</span></figcaption>'
            "<pre><code>a</code></pre></figure>",
        ),
    ],
)
def test_what_is_still_being_written_is_drawn_as_if_complete(
    page: Page, text: str, html: str
) -> None:
    assert draw(page, text, is_open=True) == html


def test_a_text_that_grows_ends_as_one_drawn_at_once(page: Page) -> None:
    texts = [RICH * 2, *(noise(seed) for seed in range(300))]
    wrong = page.module(
        "render.js",
        DRAW
        + """
        return arguments_[0].filter((text) => {
          const root = document.createElement("div");
          const growing = new m.Rendered(root);
          for (let at = 0; at < text.length; at += 1 + (at % 7)) {
            growing.update(text.slice(0, at), true);
          }
          growing.update(text, false);
          return simple(root) !== drawn(text);
        });
        """,
        texts,
    )
    assert wrong == []


def noise(seed: int) -> str:
    """Return a text of random marks."""
    chosen = random.Random(seed)
    marks = [
        "*",
        "**",
        "_",
        "`",
        "```",
        "~~",
        "[",
        "](",
        ")",
        "<",
        ">",
        "#",
        "- ",
        "1. ",
        "|",
        "\n",
    ]
    marks += [
        "\n\n",
        "    ",
        "a",
        "b c",
        "\\",
        "$$",
        "\\[",
        "\\]",
        "&amp;",
        "https://e.org",
        "|--|",
    ]
    return "".join(chosen.choice(marks) for _ in range(chosen.randrange(60)))


def test_finished_blocks_keep_their_elements(page: Page) -> None:
    """A long answer is not drawn anew with each token, and a selection in it stays."""
    kept = page.module(
        "render.js",
        """
        const root = document.createElement("div");
        const growing = new m.Rendered(root);
        const text = "A *p*.\\n\\n".repeat(4000) + "- item\\n".repeat(500) + "```\\ncode\\n";
        growing.update(text, true);
        const before = [...root.children];
        const items = [...root.querySelectorAll("li")];
        growing.update(text + "more", true);
        const after = [...root.children];
        return before.length === after.length && before.every((one, at) => one === after[at])
          && items.every((one) => root.contains(one)) && growing.settledText.length > 30000;
        """,
    )
    assert kept is True


@pytest.mark.parametrize(
    "text",
    ["*a", "**a _b", "[", "![", "](", "`", "```a\n", "> ", "- ", "  - \n", "|a|\n", "|", "<a@", "<",
     "$$", "\\(", "&", "https://", "_a*", "~~a", "a\n", "#", "1. a\n\n", "[a](", "* *"],
)  # fmt: skip
def test_hostile_texts_are_drawn(page: Page, text: str) -> None:
    """The browser's script would be ended after a time if one of these took quadratic time."""
    assert page.module("render.js", f"{DRAW} return drawn(arguments_[0]).length;", text * 25_000)


def test_versions_are_a_tree(page: Page) -> None:
    shown: Any = page.module(
        "tree.js",
        """
        const conv = m.conversation();
        const said = () => m.path(conv).map((node) => node.content).join(" ");
        const log = [];
        const first = m.add(conv, m.ROOT, {role: "user", content: "q1"});
        m.add(conv, first.id, {role: "assistant", content: "a1"});
        const again = m.add(conv, first.id, {role: "assistant", content: "a2"});
        log.push(said());
        m.turn(conv, again, -1); log.push(said());
        const other = m.add(conv, m.ROOT, {role: "user", content: "q2"}); log.push(said());
        m.turn(conv, other, -1); log.push(said());
        m.drop(conv, first); log.push(said());
        const twin = structuredClone(conv);
        m.add(twin, other.id, {role: "assistant", content: "b1"});
        Object.assign(conv, m.merged(conv, twin)); log.push(said());
        return log;
        """,
    )
    assert shown == ["q1 a2", "q1 a1", "q2", "q1 a1", "q2", "q2 b1"]
