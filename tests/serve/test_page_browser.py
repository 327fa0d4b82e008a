"""The page in a real browser, talking to a real server over models that say what they are told."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from browser import Browser, Page
from chat_support import FakeChatBackend, FakeVocabulary, fake_llm
from harmony import FINAL, harmony_llm
from selenium.webdriver.common.keys import Keys
from served import served

from l4cli.loading.llm import LLM
from l4cli.serve.app import Access

pytestmark = pytest.mark.browser
ALLOWED_TAGS = re.compile(
    "p|h[3-6]|hr|pre|code|span|a|strong|em|del|br|ul|ol|li|blockquote|table|thead|tbody|tr|th|td|"
    "div|figure|figcaption|button|svg|path"
)


class Told(FakeChatBackend):
    """Says the text that it is told to, as slowly as it is told to."""

    said = "Yes."
    pause = 0.0  # seconds before each token

    def decode(self, items: Any) -> None:
        time.sleep(self.pause)
        super().decode(items)

    def num_used_cells(self) -> int:
        return 0  # counting them takes long, and other tests do it

    def tell(self, said: str, pause: float = 0.0) -> None:
        self.said, self.pause = said, pause


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def shared_model() -> Told:
    backend = Told(n_ctx=8192, n_seq_max=2)
    backend.answer = lambda question: backend.said
    return backend


@pytest.fixture
def model(shared_model: Told) -> Told:
    shared_model.tell("Yes.")
    return shared_model


@pytest.fixture(scope="module")
def url(shared_model: Told) -> Iterator[str]:
    with served(LLM("told", FakeVocabulary(), shared_model)) as url:
        yield url


@pytest.fixture
def page(browser: Browser, url: str, model: Told) -> Iterator[Page]:
    page = browser.open(url)
    page.log()
    yield page
    model.pause = 0.0
    page.js("localStorage.clear()")  # settings that new conversations begin with
    refused = [line for line in page.log() if "Content Security Policy" in line]
    assert not refused, "the page itself keeps to its policy"


def fill(page: Page, **fields: str) -> None:
    """Change fields of the settings."""
    page.click("#settings-button")
    for name, value in fields.items():
        page.js("$(`#settings [name=${arguments[0]}]`).focus()", name)
        page.write(value)
    page.click("#settings .primary")


def test_the_context_is_counted_while_an_answer_grows(page: Page, model: Told) -> None:
    assert page.js("$('#welcome').textContent").count("tokens of context, counted exactly") == 1
    model.tell("More of it. " * 30, pause=0.1)
    page.begin("Say something.")
    page.until("$('#context').textContent && !$('#context').textContent.startsWith('0 /')")
    assert page.js("$('.answer article').ariaBusy") == "true"


def test_an_answer_streams_and_stays_after_a_reload(page: Page, model: Told) -> None:
    model.tell("One **bold** word.\n\n" + "More of it. " * 12, pause=0.01)
    page.begin("Say something.")
    page.until("$('.prose strong')?.textContent === 'bold'")
    assert page.js("$('.answer article').ariaBusy") == "true"
    page.until("/≈ [0-9.]+ tokens.s/.test($('.answer .stats').textContent)")
    assert "More of it." in page.finished()
    assert page.js("$('.answer article').ariaBusy") == "false"
    counted = len(model.said.encode())
    page.until(f"$('.answer .stats').textContent.startsWith('{counted} tokens · ')")
    before = page.answers()
    page.reload()
    page.until("$$('.answer').length === 1")
    assert page.answers() == before
    assert page.questions() == ["Say something."]
    assert page.js("$('#conversations [aria-current]').textContent") == "Say something."


def test_stop_keeps_what_came_and_frees_the_slot(page: Page, model: Told, url: str) -> None:
    model.tell("la " * 1000, pause=0.01)
    page.begin("Sing.")
    page.until("$('.answer > article > .prose').textContent.length > 5")
    page.click("#stop")
    shown = page.finished()
    assert 5 < len(shown) < 1000
    assert page.js("$('.answer .note').textContent") == "Stopped."
    end = time.monotonic() + 10
    while 'l4_requests_running{model="told"} 0' not in httpx.get(f"{url}/metrics").text:
        assert time.monotonic() < end, "the slot was not freed"


def test_answers_have_versions(page: Page, model: Told, browser: Browser) -> None:
    for said in ("first", "second", "third"):
        model.tell(said)
        if said == "first":
            page.ask("Which?")
        else:
            page.click('[aria-label="Answer again"]')
            page.until(f"$('.answer > article > .prose')?.textContent === '{said}'")
            page.finished()
    assert page.js("$('.answer .versions').textContent") == "3/3"
    page.click('[aria-label="Earlier version"]')
    assert page.answers() == ["second"]
    page.reload()
    page.until("$('.answer .versions')?.textContent === '2/3'")
    assert page.answers() == ["second"]


def test_an_edited_question_is_a_version_with_answers_of_its_own(page: Page, model: Told) -> None:
    model.tell("About cats.")
    page.ask("cats")
    page.ask("more cats")
    model.tell("About dogs.")
    page.js("$$('[aria-label=\"Edit the question\"]')[0].click()")
    field = page.driver.switch_to.active_element
    field.clear()
    field.send_keys("dogs" + Keys.ENTER)
    page.until("$$('.said').at(-1).textContent === 'dogs'")
    page.finished()
    assert (page.questions(), page.answers()) == (["dogs"], ["About dogs."])
    page.click(".question [aria-label='Earlier version']")
    assert page.questions() == ["cats", "more cats"]


def test_text_of_the_model_runs_nothing_and_loads_nothing(page: Page, model: Told) -> None:
    model.tell(
        "<img src=x onerror=hacked=1> <script>hacked=1</script> <b onclick=hacked=1>b</b>\n\n"
        "[a](javascript:hacked=1) [b](JaVa\tScript:hacked=1) [c](data:text/html,<script>) "
        "[d](vbscript:x) [e](file:///etc/passwd) [f](//evil.example) <javascript:hacked=1>\n\n"
        '![p](http://127.0.0.1:1/x.png) [ok](https://example.org/a_b_c "t") <me@example.org>\n\n'
        '[g](https://e.org/"onmouseover="hacked=1) &lt;img src=x onerror=hacked=1&gt;\n\n'
        "```html\n<svg onload=hacked=1><iframe src=javascript:hacked=1></iframe>\n```\n\n"
        "| <img src=x onerror=hacked=1> | `<script>` |\n|---|---|\n| <style>*{display:none} | x |\n"
        "\x1b[31mred\x1b]0;title\x07 \u202eright\n"
    )
    shown = page.ask("Attack.")
    tags = page.js("$$('.prose *').map((e) => e.localName)")
    assert all(ALLOWED_TAGS.fullmatch(tag) for tag in tags)
    names = page.js("$$('.prose *').flatMap((e) => e.getAttributeNames())")
    assert not [name for name in names if name.startswith("on") or name in ("src", "style")]
    links = page.js("$$('.prose a').map((e) => [e.protocol, e.rel])")
    assert {protocol for protocol, _ in links} == {"http:", "https:", "mailto:"}
    assert all("noopener" in rel for _, rel in links)
    assert page.js("typeof hacked") == "undefined"
    assert "<img src=x onerror=hacked=1>" in shown
    assert "␛[31mred␛]0;title␇ \ufffdright" in shown
    loaded = page.js("performance.getEntriesByType('resource').map((e) => new URL(e.name).host)")
    assert set(loaded) == {page.js("location.host")}


def test_the_browser_enforces_the_policy(browser: Browser, url: str) -> None:
    page = browser.open(url)
    tried = page.driver.execute_script(
        """
        const script = document.createElement("script");
        try { script.textContent = "globalThis.hacked = 1"; document.body.append(script); } catch {}
        try { document.body.innerHTML = "<img src=x onerror=hacked=1>"; return "set"; }
        catch (error) { return error.name; }
        """
    )
    assert tried == "TypeError"  # trusted types
    assert page.js("typeof hacked") == "undefined"
    page.log()


def test_on_a_phone_nothing_scrolls_sideways(browser: Browser, url: str, model: Told) -> None:
    page = browser.open(url, width=360, height=740)
    model.tell(
        "# Averyveryverylongheadingwithoutanyblanksinitatall\n\n" + "y" * 300 + "\n\n"
        f"`{'x' * 100}` https://example.org/{'a' * 200}\n\n```\n{'x' * 300}\n```\n\n"
        f"|{'column | ' * 12}\n|{'---|' * 12}\n|{'1234567 | ' * 12}\n\n> - 1. {'z' * 100}\n"
    )
    page.ask("w" * 100)
    wide = "(e) => e.scrollWidth > e.clientWidth"
    assert not page.js(f"[document.documentElement, document.body, $('#scroller')].some({wide})")
    assert page.js(f"$$('.prose figure.code pre, .prose .table').every({wide})"), "these scroll"
    page.click("#sidebar-button")
    page.until("getComputedStyle($('#sidebar')).visibility === 'visible'")
    assert page.js("$('#main').inert")
    page.press(Keys.ESCAPE)
    page.until("!$('#main').inert")
    page.click("#settings-button")
    assert page.js("$('#settings').getBoundingClientRect().width") <= 360


def test_keys_alone_are_enough(page: Page, model: Told) -> None:
    assert page.js("document.activeElement.id") == "field"
    page.write("one" + Keys.SHIFT + Keys.ENTER + Keys.SHIFT + "two" + Keys.ENTER)
    page.until("$$('.answer').length")
    page.finished()
    assert page.questions() == ["one\ntwo"]
    model.tell("Second.")
    page.press(Keys.SHIFT + Keys.TAB)  # the copy button of the last answer
    while page.js("document.activeElement.tagName") != "ARTICLE":
        page.press(Keys.SHIFT + Keys.TAB)
    page.press("r")
    page.until("$('.answer .versions').textContent === '2/2'")
    page.finished()
    page.js("$('.answer article').focus()")
    page.press(Keys.ARROW_LEFT)
    assert page.answers() == ["Yes."]
    assert page.js("document.activeElement.closest('.answer') !== null")
    page.press(Keys.ARROW_UP, "e")
    page.until("document.activeElement.tagName === 'TEXTAREA'")
    assert page.js("document.activeElement.value") == "one\ntwo"
    page.press(Keys.ESCAPE)
    assert page.js("document.activeElement.tagName") == "ARTICLE"
    for key, dialog in (("s", "settings"), ("k", "keys")):
        page.press(Keys.ALT + key)
        page.until(f"$('#{dialog}').open")
        page.press(Keys.ESCAPE)
        page.until(f"!$('#{dialog}').open")
    page.press(Keys.ALT + "n")
    page.until("$$('.answer').length === 0")
    assert page.js("document.activeElement.id") == "field"


def test_escape_stops(page: Page, model: Told) -> None:
    model.tell("la " * 1000, pause=0.01)
    page.begin("Sing.")
    page.until("$('.answer > article > .prose').textContent.length > 5")
    page.press(Keys.ESCAPE)
    page.finished()
    assert page.js("$('.answer .note').textContent") == "Stopped."


def test_everything_that_can_be_pressed_has_a_name(page: Page) -> None:
    page.ask("Hello")
    nameless = page.js(
        "$$('button, input:not([hidden]), textarea, select')"
        ".filter((e) => !(e.ariaLabel || e.textContent.trim() || e.closest('label')))"
        ".map((e) => e.outerHTML)"
    )
    assert nameless == []
    for landmark in ("nav[aria-label]", "main", "header", "form[aria-label]"):
        assert page.js("$$(arguments[0]).length", landmark) >= 1
    assert page.js("$$('h1').length") == 1


def test_screen_readers_get_whole_sentences(page: Page, model: Told) -> None:
    model.tell("First **sentence** of it. " * 8 + "Second one, then! Is it?", pause=0.015)
    page.js(
        "window.heard = [], new MutationObserver((all) => all.forEach((one) => one.addedNodes"
        ".forEach((node) => heard.push(node.textContent)))).observe($('#spoken-answer'), "
        "{childList: true})"
    )
    page.ask("Speak.")
    heard = page.until("heard.join(' ').endsWith('Is it?') && heard")
    assert len(heard) > 1, "it speaks while the answer is generated"
    assert all(part.endswith((".", "!", "?")) for part in heard)
    assert " ".join(heard) == ("First sentence of it. " * 8 + "Second one, then! Is it?")


def test_documents_are_read_by_the_server(page: Page, model: Told, tmp_path: Path) -> None:
    model.answer = lambda question: question[:40]
    try:
        (tmp_path / "pump.html").write_text("<h1>Pump</h1><p>The code is 4711.")
        (tmp_path / "photo.png").write_bytes(b"\x89PNG\r\n")
        files = f"{tmp_path}/pump.html\n{tmp_path}/photo.png"
        page.driver.find_element("css selector", "input[type=file]").send_keys(files)
        page.until("$('#documents .document') && !$('#documents .reading')")
        assert page.js("$('#problem').textContent").startswith("photo.png: an image")
        tokens = len("# Pump\n\nThe code is 4711.")
        assert page.js("$('#documents .stats').textContent") == f"{tokens} tokens"
        page.click("#documents summary")
        page.until("$('#documents pre').textContent.includes('4711')")
        assert page.ask("Which code?").startswith("Pump")
        assert page.js("$('.question .document summary').textContent").startswith("pump.html")
    finally:
        model.answer = lambda question: model.said


def test_the_context_is_counted_exactly(page: Page, url: str) -> None:
    page.write("How many?")
    messages = [{"role": "user", "content": "How many?"}]
    counted = httpx.post(f"{url}/v1/chat/completions/dry-run", json={"messages": messages}).json()
    page.until(
        "$('#context').textContent === arguments[0]", f"{counted['prompt_tokens']} / 8,192 tokens"
    )
    page.press(Keys.ENTER)
    page.finished()
    after = counted["prompt_tokens"] + len("Yes.")
    page.until("$('#context').textContent === arguments[0]", f"{after} / 8,192 tokens")


def test_a_draft_that_does_not_fit_stays_in_the_field(page: Page) -> None:
    page.js(
        "($('#field').value = 'word '.repeat(3000), "
        "$('#field').dispatchEvent(new Event('input', {bubbles: true})))"
    )
    page.until("$('#problem').textContent.includes('tokens too long')")
    page.press(Keys.ENTER)
    assert page.questions() == []
    page.js("($('#field').value = 'word', $('#field').dispatchEvent(new Event('input')))")
    page.until("$('#problem').hidden && !$('#send').disabled")


def test_settings_are_sent(page: Page) -> None:
    page.js(
        "(window.sent = [], window.realFetch = fetch, window.fetch = (path, options) => "
        "(options.body && sent.push(options.body), realFetch(path, options)), null)"
    )
    fill(page, system="Be brief.", temperature="0.25", max_tokens="7")
    page.ask("Hi")
    bodies = [json.loads(body) for body in page.js("sent")]
    body = next(body for body in bodies if body.get("stream"))
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (body["temperature"], body["max_tokens"]) == (0.25, 7)
    assert "top_p" not in body


def test_a_cut_answer_says_why(page: Page, model: Told) -> None:
    model.tell("one two three")
    fill(page, max_tokens="5")
    assert page.ask("Count.") == "one t"
    assert "Longest answer" in page.js("$('.answer .note').textContent")


def test_conversations_are_listed_renamed_saved_and_deleted(page: Page, browser: Browser) -> None:
    page.ask("About llamas")
    page.click("#new")
    page.ask("About pumps")
    first = "$$('#conversations .title').map((e) => e.textContent)"
    page.until(f"{first}[0] === 'About pumps' && {first}[1] === 'About llamas'")

    def choose(title: str, what: str) -> None:
        page.js("$(`[aria-label='More for ${arguments[0]}']`).click()", title)
        page.click(f"#menu [value={what}]")

    choose("About pumps", "rename")
    page.until("document.activeElement.tagName === 'INPUT'")
    page.write("Pumps!" + Keys.ENTER)
    page.until(f"{first}[0] === 'Pumps!'")
    assert page.js("$('#title').textContent") == "Pumps!"
    choose("Pumps!", "markdown")
    choose("Pumps!", "json")
    end = time.monotonic() + 20
    while {file.name for file in browser.downloads.iterdir()} != {"pumps.md", "pumps.json"}:
        assert time.monotonic() < end, list(browser.downloads.iterdir())
        time.sleep(0.05)
    text = (browser.downloads / "pumps.md").read_text("utf-8")
    assert text == "# Pumps!\n\n## You\n\nAbout pumps\n\n## told\n\nYes.\n"
    assert json.loads((browser.downloads / "pumps.json").read_text("utf-8"))["title"] == "Pumps!"
    choose("Pumps!", "delete")
    page.until(f"!{first}.includes('Pumps!') && $$('.answer').length === 0")
    page.click("#toast button")
    page.until(f"{first}.includes('Pumps!') && $$('.answer').length === 1")


def test_another_tab_loses_nothing(page: Page) -> None:
    page.ask("From the first tab")
    page.until("!('saving' in document.body.dataset)")
    address = page.driver.current_url
    first = page.driver.current_window_handle
    page.driver.switch_to.new_window("tab")
    page.driver.get(address)
    page.until("$$('.answer').length === 1")
    page.ask("From the second tab")
    page.until("!('saving' in document.body.dataset)")
    page.driver.close()
    page.driver.switch_to.window(first)
    page.click('[aria-label="Answer again"]')
    page.until("$('.answer .versions').textContent === '2/2'")
    page.finished()
    page.reload()
    page.until("$$('.answer').length")
    page.click('.answer [aria-label="Earlier version"]')
    assert page.questions() == ["From the first tab", "From the second tab"]


def test_light_and_dark(browser: Browser, url: str, model: Told) -> None:
    page = browser.open(url)
    paper = "getComputedStyle(document.body).backgroundColor"
    browser.prefer("light")
    light = page.js(paper)
    browser.prefer("dark")
    dark = page.js(paper)
    assert light != dark
    page.click("#theme-button")
    assert page.js(paper) == light
    page.reload()
    assert page.js(paper) == light
    page.click("#theme-button")
    assert page.js(paper) == dark
    browser.prefer("light")
    assert page.js(paper) == light, "what the system prefers holds again"


def test_a_thought_is_folded(browser: Browser) -> None:
    said = "<|channel|>analysis<|message|>Hm, *well*.<|end|><|start|>assistant" + FINAL + "Four."
    with served(harmony_llm(said, n_seq_max=2)) as url:
        page = browser.open(url)
        assert page.ask("2 + 2?") == "Four."
        assert page.js("[$('.thought').hidden, $('.thought').open]") == [False, False]
        page.click(".thought summary")
        page.until("$('.thought .prose').innerText === 'Hm, well.'")


def test_several_models_can_be_chosen(browser: Browser) -> None:
    one, other = fake_llm(lambda _: "I am one."), fake_llm(lambda _: "I am the other.")
    one.name, other.name = "one", "other"
    with served(one, other) as url:
        page = browser.open(url)
        assert page.ask("Who?") == "I am one."
        page.click("#settings-button")
        assert page.js("[...document.forms[1].elements.model.options].map((o) => o.value)") == [
            "one",
            "other",
        ]
        page.press(Keys.ESCAPE)
        fill(page, model="other")
        page.until("$('#model').textContent === 'other'")
        assert page.ask("And you?") == "I am the other."


def test_errors_are_told_in_words(browser: Browser) -> None:
    with served(fake_llm()) as url:
        page = browser.open(url)
        assert page.ask("hello") == "HELLO"
    page.begin("Are you there?")
    page.until("$$('.answer').length === 2")
    page.finished()
    error = page.js("$$('.answer .error').at(-1).innerText")
    assert error.startswith("The server does not answer. Is l4 serve still running?")
    assert page.js("$('.error').getAttribute('role')") == "alert"
    page.click(".error button")
    page.finished()
    assert page.js("$$('.answer').at(-1).querySelector('.versions').textContent") == ""


def test_a_key_is_asked_for_once(browser: Browser) -> None:
    with served(fake_llm(), access=Access(key="sesame")) as url:
        browser.driver.get(url)
        page = Page(browser)
        page.until("$('#key')")
        page.write("wrong" + Keys.ENTER)
        page.until("document.body.innerText.includes('That is not the key')")
        page.write("sesame" + Keys.ENTER)
        page.until("document.body.dataset.ready")
        assert page.js("document.cookie") == ""
        assert page.ask("hello") == "HELLO"
        browser.driver.delete_all_cookies()  # as if the server had been started anew
        page.ask("again")
        assert page.js("$('.error:not([hidden])').innerText").startswith(
            "The server wants its key."
        )
        page.click(".error button")
        page.until("$('#key')")
