"""Chat templates: text of others becomes no control token, and odd templates end in time."""

from __future__ import annotations

from pathlib import Path

import injections as made
import odd_templates

from benchmarks.sweeping.trial import FINE, REFUSED, Ended, Trial
from l4cli.errors import L4Error
from l4cli.prompt import PromptEncoder
from l4cli.prompt.template import ChatTemplate

_SECONDS = 0.3  # for a template of odd pieces


def injections(_scratch: Path) -> Trial:
    """Conversations with the text of control tokens in any place, for every template."""
    encoders = [(name, PromptEncoder(made.Bytes(text))) for name, text in made.templates().items()]

    def trial(seed: int) -> Ended:
        name, encoder = encoders[seed % len(encoders)]
        place, injected, twin = made.conversation(seed // len(encoders))
        control = made.control_tokens(encoder, injected)
        if control is None:
            return REFUSED
        if control != made.control_tokens(encoder, twin):
            return Ended(finding=f"{name}: control tokens from the {place}: {injected}")
        return FINE

    return trial


def templates(_scratch: Path) -> Trial:
    """Templates of random pieces, each with little time."""

    def trial(seed: int) -> Ended:
        try:
            template = ChatTemplate(odd_templates.template(seed), bos_token="<s>")
            template.render(**odd_templates.CONVERSATION, seconds=_SECONDS)
        except L4Error as error:
            line = str(error)
            return REFUSED if "\n" not in line else Ended(finding=f"not one line: {line}")
        return FINE

    return trial
