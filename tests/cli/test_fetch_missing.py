"""A command whose model is not on this machine offers to fetch it; a local server is the Hub."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import L4
from hub_server import Hub, serve
from terminal import CTRL_D, ENTER, Terminal

REPO = "acme/Tiny-GGUF"
CHAT = [sys.executable, "-m", "l4cli", "chat"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model as a repository on the Hub."""
    from l4cli.demo import demo_gguf

    folder = tmp_path_factory.mktemp("repository")
    shutil.copy(demo_gguf("Q8_0"), folder / "tiny-Q8_0.gguf")
    return folder


@pytest.fixture
def hub(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve(repository, REPO) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        own = Path(os.environ["XDG_CONFIG_HOME"]) / "l4" / "models.toml"
        own.parent.mkdir(parents=True)
        own.write_text(
            f'[models.tiny]\ngguf = {{ repo = "{REPO}", files = "tiny-{{quant}}.gguf" }}\n'
            'quant = "Q8_0"\nlicence = "MIT"\nsampling = { temperature = 0.0 }\n'
        )
        yield served


def test_a_chat_shows_what_it_would_fetch_and_asks(hub: Hub) -> None:
    with Terminal([*CHAT, "-m", "tiny"], timeout=60) as terminal:
        terminal.wait_for(r"Fetch it now\? \[y/N\]")
        asked = terminal.text()
        for said in ("tiny:Q8_0 is not on this machine", REPO, "MiB; ", "of disk free", "MIT"):
            assert said in asked
        assert hub.got == []
        terminal.type("y" + ENTER)
        terminal.wait_for("Ctrl-D leaves")
        terminal.type("What is GGUF?" + ENTER)
        terminal.wait_for("GGUF is")
        terminal.type(CTRL_D)
        assert terminal.exit_code() == 0
    with Terminal([*CHAT, "-m", "tiny"], timeout=60) as terminal:
        assert "Fetch it" not in terminal.wait_for("Ctrl-D leaves")
        terminal.type(CTRL_D)


def test_no_fetches_nothing_and_names_the_command(hub: Hub) -> None:
    with Terminal([*CHAT, "-m", f"hf.co/{REPO}:Q8_0"]) as terminal:
        terminal.wait_for(r"\[y/N\]")
        assert "licence  MIT" in terminal.text()
        terminal.type(ENTER)
        terminal.wait_for(r"get it with:\s+l4 pull")
        assert terminal.exit_code() == 2
    assert hub.got == []


def test_without_a_terminal_one_line_names_the_command(hub: Hub, l4: L4) -> None:
    asked = ["ask", __file__, "-q", "What?", "-m"]
    for command in (["run", "-m"], ["chat", "-p", "Hi", "-m"], asked, ["bench"]):
        done = l4(*command, "tiny", stdin="" if command is asked else '{"prompt": "Hi"}')
        line = "l4: tiny:Q8_0 is not on this machine; get it with: l4 pull tiny:Q8_0\n"
        assert (done.returncode, done.stdout, done.stderr) == (2, "", line)


def test_yes_fetches_without_a_question(hub: Hub, l4: L4) -> None:
    done = l4("run", "-m", "tiny", "--yes", "-n", "4", stdin='{"prompt": "What is GGUF?"}')
    assert done.returncode == 0, done.stderr
    assert '"model": "tiny:Q8_0"' in done.stdout
    assert "licence  MIT" in done.stderr


def test_a_model_that_does_not_fit_the_disk_is_not_asked_about(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from l4cli.commands.fetch_missing import fetch_missing
    from l4cli.errors import L4Error, NotFetchedError

    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 9))  # type: ignore[attr-defined]
    with pytest.raises(L4Error, match="disk"):
        fetch_missing(NotFetchedError("", "tiny:Q8_0"), yes=True)
    assert hub.got == []
