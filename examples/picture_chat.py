"""Make examples/chat.svg: a picture of a real chat with the demo model, tools and branches.

    python examples/picture_chat.py

Run it with l4 and its `test` extra installed. It runs `l4 chat` in a pseudo-terminal and types into
it; the picture shows the screen at the end, with its colours.
"""

import os
import sys
import tempfile
from itertools import groupby
from pathlib import Path

import pexpect
import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

WIDTH, HEIGHT = 96, 34
HERE = Path(__file__).resolve().parent
AT_PROMPT = "\x1b[?2004h"  # sent when a prompt appears: it switches bracketed paste on
TYPED = (
    "What is GGUF?",
    "Which commands does l4 have?",
    "/undo",
    "Get the weather in Oslo",
    "y",
    "/tree",
)
# rich's names for the colours that pyte names differently
COLOURS = {"brown": "yellow", "default": "default"}


def main() -> None:
    screen = run(["l4", "chat", "--tools", "examples/tools.py", "--temperature", "0"])
    picture = Console(record=True, width=WIDTH, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
    picture.print(Text.assemble(("$ ", "green"), ("l4 chat --tools examples/tools.py", "bold")))
    for line in shown(screen):
        picture.print(line, no_wrap=True, overflow="crop")
    picture.save_svg(str(HERE / "chat.svg"), title="l4 chat")


def run(command: list[str]) -> pyte.Screen:
    """The screen after everything has been typed and answered."""
    screen = pyte.Screen(WIDTH, HEIGHT)
    stream = pyte.ByteStream(screen)
    with tempfile.TemporaryDirectory() as state:
        child = pexpect.spawn(
            str(Path(sys.executable).parent / command[0]),
            command[1:],
            cwd=HERE.parent,
            env={**os.environ, "TERM": "xterm-256color", "XDG_STATE_HOME": state},
            dimensions=(HEIGHT, WIDTH),
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
    return screen


def shown(screen: pyte.Screen) -> list[Text]:
    """The screen's lines with their styles, without empty ones between the prompt and the bar."""
    lines = []
    for row in range(screen.lines):
        cells = (screen.buffer[row][column] for column in range(screen.columns))
        line = Text()
        for style, run in groupby(cells, style_of):
            line.append("".join(char.data for char in run), style)
        line.rstrip()
        lines.append(line)
    bar = lines.pop()
    while lines and not lines[-1].plain:
        lines.pop()
    return [*lines, Text(), bar]


def style_of(char: pyte.screens.Char) -> Style:
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


if __name__ == "__main__":
    main()
