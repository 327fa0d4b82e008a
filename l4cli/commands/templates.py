"""`l4 templates`: lists, shows, edits and removes the templates of `l4 chat -t` and `l4 ask -t`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from l4cli import console
from l4cli.commands import completion
from l4cli.commands.group import Command, ListingGroup
from l4cli.errors import EXIT_FAILED, L4Error

if TYPE_CHECKING:
    from l4cli.templates.template import Template

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        autocompletion=completion.templates,
        help="Name of the template, as `l4 templates` shows it.",
    ),
]
_SHOWN = 60  # characters of a text in the table

templates = typer.Typer(
    help="List, show, edit and remove templates: prompts with variables and their options.",
    cls=ListingGroup,
)


@templates.command("list", cls=Command)
def list_templates(
    json: Annotated[bool, typer.Option("--json", help="Write JSON instead of a table.")] = False,
) -> None:
    """List the templates and their variables. Exit code 1 if one cannot be read."""
    from l4cli.chat.text import shortened
    from l4cli.templates.files import load_template, template_names

    found, failed = [], 0
    names = template_names()
    for name in names:
        try:
            found.append(load_template(name))
        except L4Error as error:
            console.warn(str(error))
            failed += 1
    if json:
        console.data_json(
            [
                {
                    "name": template.name,
                    "prompt": template.prompt,
                    "system": template.system,
                    "variables": template.variables,
                    "takes_input": template.takes_input,
                }
                for template in found
            ]
        )
    elif found:
        console.table(
            ["TEMPLATE", "VARIABLES", "PROMPT"],
            [
                [
                    template.name,
                    ", ".join(template.variables) or "–",
                    shortened(_text(template), _SHOWN),
                ]
                for template in found
            ],
        )
        console.note("`l4 chat -t NAME` asks with one, `l4 templates show NAME` prints it")
    elif not names:
        console.note("no templates yet: `l4 chat … --save-template NAME` saves one")
    if failed:
        raise typer.Exit(EXIT_FAILED)


@templates.command("show", cls=Command)
def show_template(name: Name) -> None:
    """Print a template's file."""
    from l4cli.templates.files import require_template
    from l4cli.toml_files import read_toml_text

    console.data(read_toml_text(require_template(name)), end="")


@templates.command("edit", cls=Command)
def edit_template(name: Name) -> None:
    """Open a template in $EDITOR, and check it afterwards.

    One that does not exist yet begins with examples, all in comments.
    """
    from l4cli.commands.editing import edit_file
    from l4cli.templates.files import BEGINNING, load_template, template_path

    edit_file(template_path(name), BEGINNING, lambda: load_template(name))


@templates.command("rm", cls=Command)
def rm_templates(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...",
            autocompletion=completion.templates,
            help="Names as `l4 templates` shows them.",
        ),
    ],
) -> None:
    """Remove templates: all that are named, or none if one of them does not exist."""
    from l4cli.templates.files import remove_templates

    remove_templates(names)
    console.note(f"removed: {', '.join(names)}")


@templates.command("path", cls=Command)
def path_of_template(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            autocompletion=completion.templates,
            help="Name of a template (default: print the folder of all).",
        ),
    ] = None,
) -> None:
    """Print the path of a template, or of the folder with all templates."""
    from l4cli.templates.files import require_template, templates_dir

    console.data(str(require_template(name) if name else templates_dir()))


def _text(template: Template) -> str:
    """What the table shows of a template."""
    if template.prompt is None and template.system is not None:
        return f"(system) {template.system}"
    return template.prompt or "–"
