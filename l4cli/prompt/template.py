"""Chat templates: Jinja source from a GGUF, rendered in a sandbox.

The environment is that of transformers' `apply_chat_template` (utils/chat_template_utils.py):
`trim_blocks`, `lstrip_blocks`, loop controls, the `generation` block, `raise_exception`,
`strftime_now` and a `tojson` that leaves non-ASCII text and HTML characters as they are. What a
template may use up is counted (`budget.py`), and what it wrote itself is traced (`traced.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import resources
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

from l4cli.errors import ModelError, RequestError
from l4cli.prompt.budget import SECONDS, Budget, OverBudgetError, size_of
from l4cli.prompt.sandbox import TemplateEnvironment
from l4cli.prompt.traced import Traced

Message = Mapping[str, Any]


def llama4_template() -> str:
    """The Llama 4 chat format, for GGUF files that carry no template."""
    return resources.files(__package__).joinpath("llama4.jinja").read_text("utf-8")


class ChatTemplate:
    """A compiled template.

    ModelError if the source does not compile. `render` raises RequestError if the template refuses
    the messages: templates forbid unsuitable role orders in this way.

    switches: further variables that the template finds.
    """

    def __init__(
        self,
        source: str,
        *,
        bos_token: str = "",
        eos_token: str = "",
        switches: Mapping[str, bool | str] | None = None,
    ) -> None:
        self.source, self._switches = source, dict(switches or {})
        self._special = {"bos_token": Traced(bos_token), "eos_token": Traced(eos_token)}
        environment = TemplateEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", _GenerationBlock],
        )
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = lambda fmt: datetime.now().strftime(fmt)
        self._environment = environment
        try:
            self._template = environment.from_string(source)
        except Exception as error:  # the source may be anything, and is made into Python
            raise ModelError(
                f"the model's chat template does not compile: {said_by(error)}"
            ) from error

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        seconds: float = SECONDS,
    ) -> str:
        """The prompt text; with `add_generation_prompt` it ends where the answer begins.

        It knows which of its characters the template wrote: see `traced.spans_of`. A `Traced` text
        in the messages counts as the template's. `seconds` is the longest that it may take.
        """
        budget = Budget(size_of([*messages, tools]), len(messages), seconds)
        values = {
            "messages": [dict(message) for message in messages],
            "tools": list(tools) if tools else None,
            "documents": None,  # templates distinguish none from undefined
            "add_generation_prompt": add_generation_prompt,
            **self._special,
            **self._switches,
        }
        try:
            return self._environment.rendered(self._template, values, budget)
        except OverBudgetError as error:
            raise RequestError(f"the model's chat template was stopped: {error}") from None
        except Exception as error:  # the template is the model's program, and can raise anything
            raise RequestError(
                f"the model's chat template cannot show these messages: {said_by(error)}"
            ) from error


class _GenerationBlock(Extension):
    """`{% generation %}` marks the model's own text for training; here its content is rendered."""

    tags = {"generation"}  # noqa: RUF012 - jinja's own attribute

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


def said_by(error: Exception) -> str:
    """What an exception out of a template says, with its type if Python raised it."""
    is_own = isinstance(error, TemplateError)
    text = str(error) if is_own else f"{type(error).__name__}: {error}"
    return " ".join(text[:2000].split())[:500]


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)
