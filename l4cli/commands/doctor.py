"""`l4 doctor`: what l4 stands on here, what is wrong with it, and the lines that mend it."""

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
    json: Annotated[bool, typer.Option("--json", help="Write JSON instead of a screen.")] = False,
) -> None:
    """Examine this machine, and what l4 stands on: what an issue report asks for.

    llama.cpp is tried in a process of its own, so this works where nothing
    else does. Of each problem the line is shown that mends it. Exit code 1 if
    something needs mending, 0 if all is well but for hints.
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
    """Variables and config.toml, with what the commands of `app` say of them."""
    from l4cli.doctor.facts import Settings, variables

    known, refused = defaults.variables(app), defaults.refused_variables(app)
    found = variables(known, refused)
    try:
        path = defaults.config_path()
    except L4Error:  # there is no home: the folders tell of it
        return Settings(found)
    try:
        has_config = bool(defaults.from_config_file(app)) or path.exists()
    except L4Error as error:
        return Settings(found, path, True, " ".join(str(error).split()))
    return Settings(found, path, has_config)
