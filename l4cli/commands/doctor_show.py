"""The text that `l4 doctor` shows: one screen, at most 80 columns wide."""

from __future__ import annotations

import os
import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from l4cli import console
from l4cli.amounts import duration, gib, human_size
from l4cli.doctor.software import in_short
from l4cli.printable import harmless

if TYPE_CHECKING:
    from l4cli.doctor.facts import Facts, Variable
    from l4cli.doctor.folders import Folder, Size
    from l4cli.doctor.mending import Problem
    from l4cli.native.selftest import Outcome

_WIDTH = 80
_LABEL = 13
_NOTHING = "unknown"
_LABELS = {"configuration": "config", "hub": "Hub's cache"}
_NO_BREAK = "\u00a0"
# The space between a number and its unit, where no line may break.
_AMOUNT = re.compile(r"(\d) (?=(?:s|min|[kMGT]?i?B)\b)")
_MOST_ENTRIES = 3  # folders inside the cache to list, the largest first


def screen(facts: Facts, found: Sequence[Problem]) -> None:
    """Write the facts, then the problems with the commands that fix them."""
    width = _width()
    for label, text in _rows(facts):
        _fold(f"{label:<{_LABEL}}", text, width)
    shown: set[str] = set()
    for each in found:
        console.data("")
        _fold("", f"{'hint' if each.is_hint else 'problem'}: {each.text}", width)
        for line in each.remedies:
            # Not folded: this command is to be pasted, and a terminal wraps it without line breaks.
            console.data(f"  {line}" if line not in shown else "  (the same command as above)")
            shown.add(line)
    console.data("")
    _fold("", _summary(found), width)


def _width() -> int | None:
    """The columns to fold at. None in a pipe, where each fact is one line."""
    if not console.stdout_is_terminal():
        return None
    return max(_LABEL + 10, min(_WIDTH, shutil.get_terminal_size().columns))


def _fold(label: str, text: str, width: int | None) -> None:
    """Write a label and a text, folded to `width` columns so that nothing is cut off."""
    text = harmless(" ".join(text.split()))
    if width is None:
        console.data(f"{label}{text}".rstrip())
        return
    indent = " " * (len(label) or 2)
    text = _AMOUNT.sub(f"\\1{_NO_BREAK}", text)
    for line in textwrap.wrap(
        text, width, initial_indent=label, subsequent_indent=indent, break_on_hyphens=False
    ) or [label.rstrip()]:
        console.data(line.replace(_NO_BREAK, " "))


def _summary(found: Sequence[Problem]) -> str:
    hints = sum(each.is_hint for each in found)
    wrong = len(found) - hints
    if not found:
        return "all is well"
    counted = [_count(wrong, "problem")] if wrong else ["no problems"]
    counted += [_count(hints, "hint")] if hints else []
    return ", ".join(counted)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _rows(facts: Facts) -> Iterator[tuple[str, str]]:
    system = facts.system
    yield "l4", _joined(f"{system.l4} on {system.python}", system.os, system.kernel, system.machine)
    yield "llama.cpp", _built(facts)
    if facts.software.features:
        yield "", f"features {_features_in_words(facts)}"
    yield "self-test", _tested(facts)
    yield "compiler", _compiler(facts)
    yield "processor", _processor(facts)
    yield "memory", _memory(facts)
    yield "graphics", _graphics(facts)
    if not facts.folders:
        yield "folders", _NOTHING
    for folder in facts.folders:
        yield _LABELS.get(folder.name, folder.name), _folder(folder)
    yield "Hub", _hub(facts)
    yield "terminal", _terminal(facts)
    yield "settings", _settings(facts)


def _built(facts: Facts) -> str:
    software = facts.software
    build = software.build
    if build is None:
        return "not installed"
    recipe = build.recipe
    made = "installed by pip"
    if recipe:
        command, _, version = str(recipe.get("compiler") or _NOTHING).partition(" ")
        compiler = version if version.startswith(command) else f"{command} {version}".rstrip()
        made = f"compiled by l4's setup with {compiler}"
        notes = _joined(str(recipe.get("verdict") or ""), str(recipe.get("cmake_args") or ""))
        made += f" ({notes})" if notes else ""
    use = {
        True: "with GPU support",
        False: "for the CPU only",
        None: "",
    }[software.gpu_support]
    return _joined(f"llama-cpp-python {build.version}", made, use)


def _features_in_words(facts: Facts) -> str:
    return " ".join(sorted(facts.software.features))


def _tested(facts: Facts) -> str:
    trial = facts.software.trial
    if trial.outcome is None:
        return f"not run: {trial.complaint}"
    return f"{_outcome(trial.outcome)} ({duration(trial.seconds)})"


def _outcome(outcome: Outcome) -> str:
    """The result of the self-test, worded to follow the label "self-test"."""
    if outcome.is_fine:
        return f"could not be run: {in_short(outcome.reason)}" if outcome.reason else "all is well"
    if not outcome.loads:
        return f"llama.cpp {outcome.reason}"
    wrong = [] if outcome.extra_buffers else [f"{outcome.reason} with repacked weights"]
    failing = {
        "states on disk": outcome.states,
        "moving sequences": outcome.moving,
        "parameters": outcome.defaults,
    }
    wrong += [f"{name} differ" for name, is_fine in failing.items() if not is_fine]
    return f"llama.cpp computes, but {', '.join(wrong)}"


def _compiler(facts: Facts) -> str:
    toolchain = facts.software.toolchain
    if toolchain is None:
        return _NOTHING
    text = toolchain.version or toolchain.compiler
    if toolchain.compiler and toolchain.compiler not in text:
        text = f"{toolchain.compiler}, {text}"
    text = f"{text}: {toolchain.verdict.value}" if text else toolchain.verdict.value
    if toolchain.flags:
        text += f": {' '.join(toolchain.flags)}"
    if toolchain.reason:
        text += f" ({toolchain.reason})"
    other = facts.software.other_toolchain
    return f"{text}; {other.compiler} can build llama.cpp" if other else text


def _processor(facts: Facts) -> str:
    cpu = facts.cpu
    cores = ""
    if cpu.usable is not None:
        cores = f"{cpu.usable:.3g} of {cpu.num_cores or _NOTHING} cores"
        if cpu.num_physical is not None:
            cores += f", l4 uses {_count(cpu.num_physical, 'thread')}"
    return _joined(cpu.model or _NOTHING, cores, " ".join(cpu.features) or "features unknown")


def _memory(facts: Facts) -> str:
    memory = facts.memory
    if memory.total is None:
        return _NOTHING
    limit = "" if memory.limit is None else f"the container may use {gib(memory.limit)}"
    free = "" if memory.free is None else f"{gib(memory.free)} free"
    return _joined(gib(memory.total), limit, free)


def _graphics(facts: Facts) -> str:
    graphics, software = facts.graphics, facts.software
    if graphics.nvidia:
        cards = "; ".join(
            _joined(card.name, gib(card.memory) if card.memory else "", f"driver {card.driver}")
            for card in graphics.nvidia
        )
    elif graphics.vendors:
        cards = ", ".join(graphics.vendors)
        if graphics.has_nvidia and graphics.driver_complaint:
            cards += f" ({graphics.driver_complaint})"
    else:
        cards = "none found"
    if software.gpu_support is False:
        unused = graphics.nvidia or graphics.vendors
        return f"{cards}; llama.cpp is built without GPU support" if unused else cards
    if software.gpu_support:
        return f"{cards}; llama.cpp sees {', '.join(software.seen_cards) or 'none'}"
    return cards


def _folder(folder: Folder) -> str:
    if folder.path is None:
        return f"{_NOTHING}: {folder.complaint}"
    free = "" if folder.free is None else f"{human_size(folder.free)} free"
    entries = sorted(folder.entries, key=lambda entry: -entry.size.n_bytes)[:_MOST_ENTRIES]
    within = ", ".join(
        f"{entry.name} {_size(entry.size)}" for entry in entries if entry.size.n_bytes
    )
    size = _size(folder.size) if folder.exists else "does not exist yet"
    if within:
        size = f"{size} ({within})"
    cannot = f"cannot be written: {folder.complaint}" if folder.complaint else ""
    return f"{_short(folder.path)}: {_joined(size, free, cannot)}"


def _size(size: Size) -> str:
    return f"{'' if size.is_whole else 'more than '}{human_size(size.n_bytes)}"


def _short(path: Path) -> str:
    """A path with ~ for the home folder, which may contain the user's name: reports are public."""
    home = os.path.expanduser("~")  # noqa: PTH111  # Path.expanduser raises where there is no home
    text = str(path)
    return f"~{text[len(home) :]}" if home != "/" and text.startswith(f"{home}/") else text


def _hub(facts: Facts) -> str:
    hub = facts.hub
    token = {True: "with a token", False: "no token", None: ""}[hub.has_token]
    if hub.is_offline:
        said = "not asked (HF_HUB_OFFLINE)"
    elif hub.seconds is not None:
        said = f"answers in {duration(hub.seconds)}"
    else:
        said = f"cannot be reached ({hub.complaint})"
    return _joined(hub.endpoint, said, "through a proxy" if hub.has_proxy else "", token)


def _terminal(facts: Facts) -> str:
    terminal = facts.terminal
    streams = {"stdout": terminal.stdout_is_terminal, "stderr": terminal.stderr_is_terminal}
    others = [name for name, is_terminal in streams.items() if not is_terminal]
    term = f"TERM={terminal.term}" if terminal.term else "no TERM"
    return _joined(
        f"{terminal.columns} x {terminal.rows}",
        terminal.encoding,
        f"colours: {terminal.colours}",
        term if term not in terminal.colours else "",
        f"{' and '.join(others)} not on a terminal" if others else "",
    )


def _settings(facts: Facts) -> str:
    settings = facts.settings
    if settings.config is None:
        config = "no config.toml"
    elif settings.config_complaint:
        config = "a config.toml that cannot be read"
    else:
        config = "config.toml" if settings.has_config else "no config.toml"
    variables = ", ".join(map(_variable, settings.variables)) or "no L4_* variables"
    return f"{config}; {variables}"


def _variable(variable: Variable) -> str:
    return f"{variable.name}{' (hidden)' if variable.value is None else f'={variable.value}'}"


def _joined(*texts: str) -> str:
    return ", ".join(text for text in texts if text)
