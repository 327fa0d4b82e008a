"""Ctrl-C ends a command quietly at any moment, also while it is only being started."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pexpect
import pytest

INTERRUPTED = """\
import os, signal, sys

class Finder:
    "Sends Ctrl-C when a module is looked for."
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
sys.argv = ["l4", *{arguments!r}]
from l4cli.__main__ import main
main()
"""
MODULES = ["l4cli.app", "typer", "l4cli.commands.group", "l4cli.models.registry"]


@pytest.mark.parametrize("module", MODULES)
def test_it_is_quiet_while_modules_are_imported(module: str, tmp_path: Path) -> None:
    script = INTERRUPTED.format(module=module, arguments=["models"])
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path)}
    child = pexpect.spawn(sys.executable, ["-c", script], env=environment, timeout=60)
    shown = child.read().decode()
    child.close()
    assert (child.exitstatus, child.signalstatus) == (128 + signal.SIGINT, None), shown
    assert shown == "\r\n"
