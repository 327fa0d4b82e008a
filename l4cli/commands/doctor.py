"""`l4 doctor`: checks this machine and l4's installation, and shows how to fix problems."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from l4cli import console
from l4cli.commands import defaults
from l4cli.errors import EXIT_FAILED, L4Error

if TYPE_CHECKING:
    from l4cli.doctor.facts import Settings


def doctor(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Write JSON instead of text.")] = False,
) -> None:
    """Check this machine and l4's installation, and show how to fix problems.

    Include the output in an issue report. llama.cpp is tested in a process of
    its own, so this command works even where no other command does. Each
    problem is shown with the commands that fix it.

    Exit code: 1 if there is a problem, 0 if there are at most hints.
    """
    from l4cli.commands import doctor_json, doctor_show
    from l4cli.doctor.facts import collect
    from l4cli.doctor.problems import problems

    with console.status("examining this machine"):
        facts = collect(_settings(context.find_root().command))
    found = problems(facts)
    if json:
        doctor_json.write(facts, found)
    else:
        doctor_show.screen(facts, found)
    if not all(each.is_hint for each in found):
        raise typer.Exit(EXIT_FAILED)


def _settings(app: Any) -> Settings:
    """The environment variables and config.toml, with the errors that the commands of `app` see."""
    from l4cli.doctor.facts import Settings, variables

    known, refused = defaults.variables(app), defaults.refused_variables(app)
    found = variables(known, refused)
    try:
        path = defaults.config_path()
    except L4Error:  # no home folder: the rows for folders report that
        return Settings(found)
    try:
        has_config = bool(defaults.from_config_file(app)) or path.exists()
    except L4Error as error:
        return Settings(found, path, True, " ".join(str(error).split()))
    return Settings(found, path, has_config)
