"""Make examples/l4.svg: a picture of a real terminal session with l4.

    python examples/picture.py

Run it from the repository, with l4 and its `test` extra installed. Every command runs in a
pseudo-terminal; the picture shows the screen after it has ended.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pexpect
import pyte
from rich.console import Console
from rich.text import Text

WIDTH, HEIGHT = 96, 60
HERE = Path(__file__).resolve().parent
PROMPTS = ("What is GGUF?", "Which commands does l4 have?", "什么是专家混合？")
SESSION = (
    "l4 convert demo -o demo.gguf --type Q4_K_M",
    "cat prompts.jsonl",
    "l4 run prompts.jsonl -m demo.gguf > out.jsonl",
    "cut -c 1-94 out.jsonl",
    'echo "What is Scout?" | l4 chat -m demo.gguf',
)


def main() -> None:
    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
    with tempfile.TemporaryDirectory() as folder:
        lines = "".join(f'{{"prompt": "{prompt}"}}\n' for prompt in PROMPTS)
        Path(folder, "prompts.jsonl").write_text(lines, "utf-8")
        for command in SESSION:
            console.print(Text.assemble(("$ ", "green"), (command, "bold")))
            for line in run(command, folder):
                console.print(Text(line), no_wrap=True, overflow="crop")
            console.print()
    console.save_svg(str(HERE / "l4.svg"), title="l4")


def run(command: str, folder: str) -> list[str]:
    """The lines on the screen after `command` has ended. Exits with its output if it failed."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TERM": "xterm",
        "COLUMNS": str(WIDTH),
    }
    bash = shutil.which("bash") or "bash"
    child = pexpect.spawn(
        bash, ["-c", command], cwd=folder, env=environment, dimensions=(HEIGHT, WIDTH), timeout=300
    )
    output = child.read()
    child.close()
    if child.exitstatus:
        sys.exit(f"{command}: exit code {child.exitstatus}\n{output.decode(errors='replace')}")
    screen = pyte.Screen(WIDTH, HEIGHT)
    pyte.ByteStream(screen).feed(output)
    shown = [line.rstrip() for line in screen.display]
    return shown[: max((n for n, line in enumerate(shown, 1) if line), default=0)]


if __name__ == "__main__":
    main()
