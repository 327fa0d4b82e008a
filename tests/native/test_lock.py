"""requirements.lock pins all dependencies in pyproject.toml, for every Python that l4 supports."""

from __future__ import annotations

import re
import sys

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LINES = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
PINS = [line for line in LINES if not line.startswith("#")]


def direct() -> list[Requirement]:
    """Returns the dependencies of l4 itself, and those of its extras `fast` and `test`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    texts = [*project["dependencies"], *extras["fast"], *extras["test"]]
    return [wanted for wanted in map(Requirement, texts) if wanted.name != project["name"]]


def applies(requirement: Requirement, environment: dict[str, str]) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(environment)


def test_every_line_is_a_version() -> None:
    """No line has an extra, an option or a URL, and l4 does not pin itself."""
    for line in PINS:
        pin = re.fullmatch(r"(?P<name>[a-z0-9-]+)==[a-z0-9.]+( ; .+)?", line)
        assert pin, f"{line}: run make upgrade"
        assert pin["name"] != "l4", f"{line}: run make upgrade"


@pytest.mark.parametrize("system", ["linux", "darwin"])
@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13", "3.14"])
def test_direct_dependencies_are_pinned(python: str, system: str) -> None:
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": system,
        "platform_system": system.capitalize(),
    }
    pins = [pin for pin in map(Requirement, PINS) if applies(pin, environment)]
    for wanted in direct():
        if applies(wanted, environment):
            name = canonicalize_name(wanted.name)
            versions = [next(iter(pin.specifier)).version for pin in pins if pin.name == name]
            pinned = f"{wanted} is pinned to {versions} on {system}'s Python {python}"
            assert len(versions) == 1, f"{pinned}: run make upgrade"
            assert wanted.specifier.contains(versions[0]), f"{pinned}: run make upgrade"
