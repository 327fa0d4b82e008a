"""The slash command /template."""

from __future__ import annotations

import re

from l4cli.chat.commands.ui import Ui
from l4cli.chat.session import ChatSession
from l4cli.chat.text import shortened
from l4cli.errors import UsageError
from l4cli.templates.files import load_template, require_template, template_names
from l4cli.templates.template import Template

_VALUE = re.compile(r"""([^\W\d]\w*)=("[^"]*"|'[^']*'|\S*)(?:\s+|$)""")


def ask_with(session: ChatSession, argument: str, ui: Ui) -> None:
    """Ask with a template's prompt; without an argument, list the templates.

    What is left of the line behind the values of variables is the template's `$input`.
    """
    if not argument:
        ui.say(_listed())
        return
    name, _, rest = argument.partition(" ")
    require_template(name, "/template alone")
    template, (given, text) = load_template(name), _values(rest.strip())
    if template.prompt is None:
        raise UsageError(
            f"template {name} has no prompt to ask; `l4 chat -t {name}` starts with it"
        )
    question = template.filled(given, option="").question("", text)
    if unused := _unused(template):
        ui.say(f"(only its prompt is used; {unused} are for a new chat: l4 chat -t {name})")
    ui.say(f"({shortened(question, ui.width - 2)})")
    session.ask(question)


def _values(text: str) -> tuple[dict[str, str], str]:
    """Split off the NAME=VALUE at the beginning; a value with blanks stands in quotes."""
    given = {}
    while match := _VALUE.match(text):
        value = match[2]
        is_quoted = len(value) > 1 and value[0] in "\"'" and value[-1] == value[0]
        given[match[1]] = value[1:-1] if is_quoted else value
        text = text[match.end() :]
    return given, text


def _unused(template: Template) -> str:
    keys = [key for key in ("system", "model", "schema", "tools") if getattr(template, key)]
    return ", ".join([*keys, *template.sampling])


def _listed() -> str:
    names = template_names()
    if not names:
        return "there are no templates yet; in a shell, begin one with: l4 templates edit NAME"
    return "\n".join([*(f"  {name}" for name in names), "/template NAME asks with one"])
