"""Writes what every command shows on terminals of 40, 60, 80 and 120 columns to one text page.

    python -m benchmarks.screens screens.txt [--columns 40,80] [--only plan,chat]

Each scene is a real command in a pseudo-terminal with the demo model, in a home of its own. Read
the page for words that are cut, lines that are broken in the wrong place, and riddles.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from terminal import CTRL_C, CTRL_D, Terminal

from benchmarks import ROOT
from benchmarks.shared import make_parser

# What is typed, and the pattern on the screen that must come first.
Step = tuple[str, str]
PROMPT = r"^(>|you)\s*$|^>"


@dataclass(frozen=True, slots=True)
class Scene:
    """A command and what is typed into it.

    command: the words after `l4`.
    steps: what to wait for, and what to type then.
    rows: lines of the terminal.
    """

    command: str
    steps: tuple[Step, ...] = ()
    rows: int = 50

    @property
    def words(self) -> list[str]:
        return self.command.split("\x1f") if "\x1f" in self.command else self.command.split()


QUESTION = "What is the access code of the pump house?"


def _scenes() -> list[Scene]:
    """The scenes, in the order in which a new user might come to them."""
    talk = (
        (PROMPT, "What is GGUF?\r"),
        (PROMPT, "/help\r"),
        (PROMPT, "/stats\r"),
        (PROMPT, "/settings\r"),
        (PROMPT, "/edit\r"),
        (PROMPT, CTRL_C),
        (PROMPT, "/regen\r"),
        (PROMPT, "/tree\r"),
        (PROMPT, "/tokens\r"),
        (PROMPT, "/nonsense\r"),
        (PROMPT, "/exit\r"),
    )
    return [
        Scene("--help"),
        Scene("models"),
        Scene("doctor", rows=70),
        Scene("info demo", rows=60),
        Scene("info scout"),
        Scene("plan scout --ram 64G --gpu 24G", rows=60),
        Scene("plan"),
        Scene("experts demo --with prompts.jsonl", rows=90),
        Scene("plan demo --ctx 100k"),
        Scene("convert demo -o d.gguf --type Q8_0 --verify"),
        Scene("convert demo -o d.gguf --type Q4_0"),
        Scene("convert demo --type list", rows=60),
        Scene("convert demo --dry-run", rows=140),
        Scene("run prompts.jsonl -m d.gguf -o out.jsonl"),
        Scene("run prompts.jsonl -m d.gguf -o out.jsonl"),
        Scene("run prompts.jsonl -m d.gguf -o out.jsonl --resume"),
        Scene("run prompts.jsonl -m d.gguf --dry-run"),
        Scene("run nowhere.jsonl"),
        Scene("chat", talk, rows=90),
        Scene("sessions"),
        Scene("chat -c", ((PROMPT, CTRL_D),)),
        Scene("\x1f".join(("chat", "-p", "What is GGUF?"))),
        Scene("\x1f".join(("ask", "pump.md", "-q", QUESTION, "--quote"))),
        Scene("\x1f".join(("ask", "pump.md", "-q", QUESTION, "--dry-run"))),
        Scene("docs list"),
        Scene("docs text pump.md", rows=90),
        Scene("bench d.gguf --seconds 3"),
        Scene("ctx-test -m d.gguf --lengths 1k,2k --depths 0,50,100"),
        Scene("pull hf.co/nobody/nothing --dry-run"),
        Scene("rm scout"),
        Scene("completion"),
    ]


def played(scene: Scene, columns: int, folder: Path, env: Mapping[str, str]) -> str:
    """Return the screen after a scene, with the exit code where it is not 0."""
    command = [sys.executable, "-m", "l4cli", *scene.words]
    with Terminal(
        command, columns=columns, rows=scene.rows, env=env, cwd=folder, timeout=120
    ) as terminal:
        for pattern, keys in scene.steps:
            try:
                terminal.wait_for(pattern)
            except AssertionError as error:
                return f"{error}"
            terminal.type(keys)
            _settle(terminal)
        code = terminal.exit_code()
        return terminal.text() + (f"\n[exit code {code}]" if code else "")


def _settle(terminal: Terminal) -> None:
    """Read until nothing has come for a second."""
    while terminal._read(1.0):
        pass


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("out", type=Path, help="the page to write")
    parser.add_argument("--columns", default="40,60,80,120", help="widths of the terminal")
    parser.add_argument("--only", default="", help="commands, separated by commas (default: all)")
    options = parser.parse_args()
    wanted = [name for name in options.only.split(",") if name]
    scenes = [scene for scene in _scenes() if not wanted or scene.words[0] in wanted]
    with options.out.open("w", encoding="utf-8") as page, tempfile.TemporaryDirectory() as home:
        for columns in map(int, options.columns.split(",")):
            folder = Path(home, str(columns))
            folder.mkdir()
            for name in ("prompts.jsonl", "pump.md"):
                (folder / name).write_bytes((ROOT / "examples" / name).read_bytes())
            env = {
                **{f"XDG_{kind}_HOME": f"{folder}/{kind}" for kind in ("STATE", "CONFIG", "DATA")},
                "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME") or f"{Path.home()}/.cache",
                "HF_HOME": f"{folder}/hub",
                "PYTHONPATH": str(ROOT),
            }
            for scene in scenes:
                line = f"$ l4 {scene.command.replace(chr(31), ' ')}"
                shown = played(scene, columns, folder, env)
                page.write(f"{'─' * columns} {columns} columns\n{line}\n{shown}\n\n")
                page.flush()
                print(f"{columns:4} {line}", file=sys.stderr)


if __name__ == "__main__":
    main()
