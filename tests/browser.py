"""A real browser for the tests of the page: Debian's chromium, without a window.

with Browser() as browser:
    page = browser.open(url)
    page.ask("What is GGUF?")
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

SECONDS = 30.0  # that a test waits for what the page should do


class Browser:
    """One chromium. Each server has a port of its own, and so a storage of its own in it."""

    def __init__(self) -> None:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        chromedriver = shutil.which("chromedriver")
        if not (chromium and chromedriver):
            pytest.skip("needs a browser: apt-get install chromium chromium-driver")
        from selenium import webdriver

        self.downloads = Path(tempfile.mkdtemp(prefix="l4-downloads-"))
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu"):
            options.add_argument(f"--{argument}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        options.add_experimental_option(
            "prefs", {"download.default_directory": str(self.downloads)}
        )
        service = webdriver.ChromeService(chromedriver)
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.set_script_timeout(SECONDS)

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.driver.quit()
        shutil.rmtree(self.downloads, ignore_errors=True)

    def open(self, url: str, *, width: int = 1200, height: int = 800) -> Page:
        """Open the page of a server, with a new conversation."""
        self.resize(width, height)
        self.driver.get("about:blank")
        self.driver.get(url)
        page = Page(self)
        page.until("document.body.dataset.ready")
        return page

    def resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def prefer(self, scheme: str) -> None:
        """Have the system prefer light or dark."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


class Page:
    """The page in a browser."""

    def __init__(self, browser: Browser) -> None:
        self.browser, self.driver = browser, browser.driver

    def js(self, expression: str, *arguments: Any) -> Any:
        """Return the value of an expression; `$` finds an element, `$$` all of them."""
        head = (
            "const $ = (s) => document.querySelector(s);"
            "const $$ = (s) => [...document.querySelectorAll(s)];"
        )
        return self.driver.execute_script(f"{head} return ({expression})", *arguments)

    def module(self, name: str, body: str, *arguments: Any) -> Any:
        """Return what a function body returns; in it, `m` is a module of the page."""
        code = (
            "const arguments_ = [...arguments], done = arguments_.pop();"
            f"import('/page/{name}').then((m) => {{ {body} }})"
            ".then(done, (error) => done('failed: ' + error.stack));"
        )
        found = self.driver.execute_async_script(code, *arguments)
        assert not str(found).startswith("failed: "), found
        return found

    def until(self, expression: str, *arguments: Any) -> Any:
        """Wait until an expression is true; return its value."""
        end = time.monotonic() + SECONDS
        while not (value := self.js(expression, *arguments)):
            assert time.monotonic() < end, f"not within {SECONDS:.0f} s: {expression}\n{self.log()}"
            time.sleep(0.02)
        return value

    def reload(self) -> None:
        """Load the page anew, when the conversation is kept."""
        self.until("!('saving' in document.body.dataset)")
        self.driver.refresh()
        self.until("document.body.dataset.ready")

    def log(self) -> list[str]:
        """Return what the browser's console has said since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def click(self, selector: str) -> None:
        """Click the last element that is found."""
        found = self.until("$$(arguments[0]).filter((e) => !e.disabled).at(-1)", selector)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'nearest'})", found)
        found.click()

    def press(self, *keys: str) -> None:
        """Press keys where the focus is; keys in one argument are held together."""
        from selenium.webdriver import ActionChains

        chain = ActionChains(self.driver)
        for together in keys:
            for key in together:
                chain.key_down(key)
            for key in reversed(together):
                chain.key_up(key)
        chain.perform()

    def write(self, text: str) -> None:
        """Type a text where the focus is."""
        self.driver.switch_to.active_element.send_keys(text)

    def begin(self, text: str) -> None:
        """Send a message; do not wait for the answer."""
        self.js("$('#field').focus()")
        self.write(text)
        self.until("!$('#send').disabled")
        self.write("\ue007")  # Enter
        self.until("$$('.answer').length")

    def ask(self, text: str) -> str:
        """Send a message; return the answer."""
        count = self.js("$$('.answer').length")
        self.begin(text)
        self.until("$$('.answer').length > arguments[0]", count)
        return self.finished()

    def finished(self) -> str:
        """Wait for the end of the answer; return the last one as it is shown."""
        self.until("$('#stop').hidden && !$('.growing')")
        return self.answers()[-1]

    def answers(self) -> list[str]:
        """Return the shown answers."""
        found: list[str] = self.js("$$('.answer > article > .prose').map((e) => e.innerText)")
        return found

    def questions(self) -> list[str]:
        """Return the shown questions."""
        found: list[str] = self.js("$$('.said').map((e) => e.innerText)")
        return found
