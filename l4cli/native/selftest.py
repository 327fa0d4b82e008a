"""Tests once, in a child process, whether llama.cpp computes correctly on this machine.

A build of llama.cpp may crash or compute wrong sums, because the compiler dropped AMX's stores or
because it was compiled for another processor. So before a build is used for the first time on a
processor, a child process (`l4cli/engine/llamacpp/selftest.py`) computes with it. The outcome is
kept in `selftest.json` in l4's cache, under the keys of the build and the processor. If that file
cannot be written, the test runs again at each start; it takes less than a second. If a build does
not run at all, this is never kept, because the reason may be gone at the next start.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from l4cli.errors import ModelLoadError
from l4cli.native.build import NAME, TESTED_VERSION, Build, installed_build
from l4cli.native.cpu import cpu_key, cpu_model
from l4cli.paths import cache_dir

_CHILD = "l4cli.engine.llamacpp.selftest"
IN_CHILD = "_L4_IN_SELF_TEST"
_TIMEOUT = 60  # seconds; it takes less than one, a busy machine ten
_MOST_KEPT = 32  # outcomes in the file
_SIGKILL = getattr(signal, "SIGKILL", 9)  # Windows has none
_REPAIR = "`l4 doctor` tells how to build it for this machine"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of the self-test. A flag is False only if its test failed.

    loads: llama.cpp loads and computes at all.
    extra_buffers: repacked and AMX weights give the same results as weights in file order.
    states: sequences can be saved and loaded.
    moving: sequences can be moved between contexts.
    defaults: the fields of llama.cpp's parameter structs are where l4 expects them.
    reason: the first failure, in words that follow "llama.cpp".
    is_certain: False if the next try may have another outcome, as when the test could not be run.
    library: what llama.cpp reports: version, system_info, features, gpu_support, gpus.
    """

    loads: bool = True
    extra_buffers: bool = True
    states: bool = True
    moving: bool = True
    defaults: bool = True
    reason: str = ""
    is_certain: bool = True
    library: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_fine(self) -> bool:
        return self.loads and self.extra_buffers and self.states and self.moving and self.defaults

    @property
    def warning(self) -> str | None:
        """A line to show when a model is loaded with this build; None if all is well."""
        if not self.extra_buffers:
            return (
                f"llama.cpp {self.reason} with repacked weights on this machine: l4 runs "
                f"without them, more slowly; {_REPAIR}"
            )
        if not self.states or not self.moving:
            lost = (
                "keep the reading cache" if not self.states else "use a second context for prompts"
            )
            return (
                f"the installed llama.cpp fails a test that l4 relies on, so l4 does not {lost}; "
                f"{_REPAIR}"
            )
        return None


def require_llama_cpp() -> None:
    """Raise ModelLoadError, with a line that says what to do, if llama.cpp cannot be used here.

    Call this before llama.cpp is loaded into this process: the self-test crashes in a child process
    instead of this one.
    """
    if os.environ.get(IN_CHILD):
        return
    build = installed_build()
    if build is None:
        raise ModelLoadError(f"{NAME} is not installed: pip install '{NAME}=={TESTED_VERSION}'")
    found = outcome()
    if not found.loads:
        raise ModelLoadError(
            f"the installed llama.cpp {found.reason} on this processor ({cpu_model()}); {_REPAIR}"
        )
    if not found.defaults:
        raise ModelLoadError(
            f"l4 is not made for {NAME} {build.version}: pip install '{NAME}=={TESTED_VERSION}'"
        )


@functools.cache
def outcome() -> Outcome:
    """Return the self-test's outcome for this build on this processor; run it if it is unknown."""
    build = installed_build()
    if build is None or os.environ.get(IN_CHILD):
        return Outcome()
    kept = _read().get(key_of(build))
    return kept if kept is not None else renew()


def renew() -> Outcome:
    """Run the self-test, even if an outcome is known, and keep the new outcome if it is certain."""
    found = run()
    build = installed_build()
    if build is not None and (found.is_certain or not found.loads):
        _keep(key_of(build), found if found.is_certain else None)
    return found


def key_of(build: Build) -> str:
    """Return the key under which the outcome of a build on this processor is kept."""
    return f"{build.key} {cpu_key()}"


def run() -> Outcome:
    """Run the self-test in a child process and return its outcome."""
    env = {**os.environ, IN_CHILD: "1", "PYTHONFAULTHANDLER": "", "GGML_NO_BACKTRACE": "1"}
    env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-m", _CHILD]
    try:
        # In a session of its own, the child does not get Ctrl-C. This process does, and kills it.
        started = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:  # no more processes are allowed
        return Outcome(is_certain=False, reason=str(error))
    with started as process:
        try:
            output, complaint = process.communicate(timeout=_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            output, complaint = process.communicate()
            return judge(output.decode("utf-8", "replace"), None)
        except BaseException:
            process.kill()
            raise
    return judge(
        output.decode("utf-8", "replace"), process.returncode, complaint.decode("utf-8", "replace")
    )


def judge(output: str, exit_code: int | None, complaint: str = "") -> Outcome:
    """Return the outcome from the child's output and exit. Pure.

    output: its stdout, one JSON object per step.
    exit_code: negative for a signal, None if the child had to be killed after the time limit.
    complaint: its stderr.
    """
    steps: dict[str, dict[str, Any]] = {}
    for line in output.splitlines():
        with contextlib.suppress(ValueError, TypeError, KeyError):
            found = json.loads(line)
            steps[found.pop("step")] = found
    ended = _how_it_ended(exit_code)
    library = steps.get("library", {})
    was_stopped = exit_code is None or exit_code == -_SIGKILL or exit_code > 0
    if was_stopped and not steps.get("plain") and "error" not in library:
        # Python or the machine caused this, for example by a lack of memory or of disk space for
        # temporary files. It says nothing about the build.
        lines = [line.strip() for line in complaint.splitlines() if line.strip()]
        return Outcome(is_certain=False, reason=lines[-1] if lines else ended, library=library)

    def went_well(step: str) -> bool:
        return bool(steps.get(step, {}).get("ok", False))

    errors = [found["error"] for found in steps.values() if "error" in found]
    if "error" in library or not went_well("plain"):
        reason = ended or (f"fails ({errors[0]})" if errors else "computes nonsense")
        return Outcome(loads=False, reason=reason, is_certain=False, library=library)
    reason = ""
    if not went_well("extra"):
        error = steps.get("extra", {}).get("error")
        reason = f"fails ({error})" if error else "computes wrong sums"
        reason = ended if "extra" not in steps else reason
    # Steps after a crash were not tried, so they count as passed.
    is_tried = "extra" in steps
    return Outcome(
        extra_buffers=went_well("extra"),
        states=went_well("states") or not is_tried,
        moving=went_well("moving") or not is_tried,
        defaults=went_well("defaults"),
        reason=reason,
        is_certain=not errors and exit_code != -_SIGKILL,
        library=library,
    )


def _how_it_ended(exit_code: int | None) -> str:
    """Return words for the way a child failed; "" if it ended well."""
    if exit_code is None:
        return f"hangs (no answer within {_TIMEOUT} s)"
    if exit_code < 0:
        try:
            name = signal.Signals(-exit_code).name
        except ValueError:
            name = f"signal {-exit_code}"
        return f"crashes ({name})"
    return ""


def _path() -> Path:
    return cache_dir() / "selftest.json"


def _read() -> dict[str, Outcome]:
    """Return the outcomes by key; none if the file is damaged or cannot be read."""
    try:
        kept = json.loads(_path().read_text("utf-8"))
        return {str(key): Outcome(**value) for key, value in kept.items()}
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError):  # no home: RuntimeError
        return {}


def _keep(key: str, found: Outcome | None) -> None:
    """Add an outcome to the file, or with None remove the one under the key.

    If the file cannot be written, nothing happens: the test runs again at the next start.
    """
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: there is no home
        path = _path()
        part = path.with_name(f"{path.name}.{os.getpid()}")
        kept = {name: each for name, each in _read().items() if name != key}
        if found is not None:
            kept[key] = found
        latest = dict(list(kept.items())[-_MOST_KEPT:])
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_text(json.dumps({name: asdict(each) for name, each in latest.items()}))
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
