"""Make the README's pictures, l4.svg and chat.svg, from real terminal sessions: `make pictures`.

Every command runs in a pseudo-terminal with the demo model. `tests/cli/test_pictures.py` plays the
sessions again and fails if a picture shows something else.
"""

import html
import os
import re
import shutil
import sys
import tempfile
from collections import defaultdict
from itertools import groupby
from pathlib import Path

import pexpect
import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

WIDTH, HEIGHT, CHAT_HEIGHT = 96, 60, 40
HERE = Path(__file__).resolve().parent
PROMPTS = ("What is GGUF?", "Which commands does l4 have?", "什么是专家混合？")
COMMANDS = (
    "l4 convert demo -o demo.gguf --type Q4_K_M",
    "cat prompts.jsonl",
    "l4 run prompts.jsonl -m demo.gguf > out.jsonl",
    "cut -c 1-94 out.jsonl",
    'echo "What is Scout?" | l4 chat -m demo.gguf',
)
TYPED = (
    "What is GGUF?",
    "Which commands does l4 have?",
    "/undo",
    "What is the weather in Oslo?",
    "y",
    "/tree",
)
AT_PROMPT = "\x1b[?2004h"  # sent when a prompt appears: it switches bracketed paste on
# rich's names for the colours that pyte names differently
COLOURS = {"brown": "yellow", "default": "default"}
_TEXT = re.compile(r'<text class="[^"]*-r\d+" [^>]*\by="([\d.]+)"[^>]*>(.*?)</text>', re.DOTALL)
_MEASURED = re.compile(r"\d[\d.,]*( ?([kMG]?B|m?s|tokens/s|k/s)\b)?(/s)?")


def commands() -> list[Text]:
    """The lines of l4.svg: each command, and the screen after it has ended."""
    shown = []
    with tempfile.TemporaryDirectory() as folder:
        lines = "".join(f'{{"prompt": "{prompt}"}}\n' for prompt in PROMPTS)
        Path(folder, "prompts.jsonl").write_text(lines, "utf-8")
        for command in COMMANDS:
            shown.append(Text.assemble(("$ ", "green"), (command, "bold")))
            shown += map(Text, _output(command, folder))
            shown.append(Text())
    return shown


def chat() -> list[Text]:
    """The lines of chat.svg: the screen after a chat with tools and branches."""
    _output("l4 info demo", ".")  # converts the demo model, if that was not done yet
    screen = pyte.Screen(WIDTH, CHAT_HEIGHT)
    stream = pyte.ByteStream(screen)
    with tempfile.TemporaryDirectory() as state:
        child = pexpect.spawn(
            sys.executable,
            ["-m", "l4cli", "chat", "--tools", "examples/tools.py", "--temperature", "0"],
            cwd=HERE.parent,
            env={**os.environ, "TERM": "xterm-256color", "XDG_STATE_HOME": state},
            dimensions=(CHAT_HEIGHT, WIDTH),
            timeout=300,
        )
        screen.write_process_input = child.send  # lets pyte answer when l4 asks where the cursor is

        def to_prompt() -> None:
            child.expect_exact(AT_PROMPT)
            stream.feed(child.before + child.after)

        to_prompt()
        for text in TYPED:
            child.send(f"{text}\r")
            to_prompt()
        while True:  # read until the prompt and the bar below it are drawn
            try:
                stream.feed(child.read_nonblocking(65536, timeout=2))
            except pexpect.TIMEOUT:
                break
        child.sendcontrol("d")
        child.close(force=True)
    command = Text.assemble(("$ ", "green"), ("l4 chat --tools examples/tools.py", "bold"))
    return [command, *_styled(screen)]


def text_of(picture: Path) -> str:
    """The text that a picture shows, without blanks and measured numbers."""
    rows: dict[float, str] = defaultdict(str)
    for y, text in _TEXT.findall(picture.read_text("utf-8")):
        rows[float(y)] += html.unescape(text)
    return without_numbers([rows[y] for y in sorted(rows)])


def without_numbers(lines: list[str]) -> str:
    """Lines in one, without blanks and measured numbers: these differ from run to run."""
    # A full line goes on in the next one, maybe within a number.
    rows = (line.rstrip("\n") for line in lines)
    text = "".join(row if len(row) >= WIDTH else f"{row} " for row in rows)
    return "".join(_MEASURED.sub("#", text.replace("\xa0", " ")).split())


def _output(command: str, folder: str) -> list[str]:
    """The lines on the screen after `command` has ended. Exits with its output if it failed."""
    bash = shutil.which("bash") or "bash"
    l4 = f'l4() {{ {sys.executable} -m l4cli "$@"; }}; '
    child = pexpect.spawn(
        bash,
        ["-c", l4 + command],
        cwd=folder,
        env={**os.environ, "TERM": "xterm", "COLUMNS": str(WIDTH)},
        dimensions=(HEIGHT, WIDTH),
        timeout=300,
    )
    output = child.read()
    child.close()
    if child.exitstatus:
        sys.exit(f"{command}: exit code {child.exitstatus}\n{output.decode(errors='replace')}")
    screen = pyte.Screen(WIDTH, HEIGHT)
    pyte.ByteStream(screen).feed(output)
    shown = [line.rstrip() for line in screen.display]
    return shown[: max((n for n, line in enumerate(shown, 1) if line), default=0)]


def _styled(screen: pyte.Screen) -> list[Text]:
    """The screen's lines with their styles, without empty ones between the prompt and the bar."""
    lines = []
    for row in range(screen.lines):
        cells = (screen.buffer[row][column] for column in range(screen.columns))
        line = Text()
        for style, run in groupby(cells, _style):
            line.append("".join(char.data for char in run), style)
        line.rstrip()
        lines.append(line)
    bar = lines.pop()
    while lines and not lines[-1].plain:
        lines.pop()
    return [*lines, Text(), bar]


def _style(char: pyte.screens.Char) -> Style:
    """The rich style of a character on pyte's screen."""
    colour = COLOURS.get(char.fg, char.fg)
    if colour.startswith("bright"):
        colour = "bright_" + COLOURS.get(colour[6:], colour[6:])
    elif len(colour) == 6 and all(digit in "0123456789abcdef" for digit in colour):
        colour = f"#{colour}"
    return Style(
        color=None if colour == "default" else colour,
        bold=char.bold,
        italic=char.italics,
        underline=char.underscore,
        reverse=char.reverse,
    )


def _save(name: str, title: str, lines: list[Text]) -> None:
    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
    for line in lines:
        console.print(line, no_wrap=True, overflow="crop")
    console.save_svg(str(HERE / name), title=title)


if __name__ == "__main__":
    _save("l4.svg", "l4", commands())
    _save("chat.svg", "l4 chat", chat())
