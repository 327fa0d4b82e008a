"""Rounds of tool calls: what an answer calls is carried out, and the model answers to the results.

An answer either speaks or calls. One that calls is not shown as it was written: the person sees
each call before it runs, is asked, and sees what came back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from l4cli import console
from l4cli.chat.text import harmless, shortened
from l4cli.chat.tools.calls import CallGate, FinalView
from l4cli.chat.tools.toolbox import Toolbox, ToolResult, shown
from l4cli.chat.turn import AnswerView
from l4cli.engine.answer import Answer
from l4cli.errors import EXIT_FAILED
from l4cli.prompt.tool_calls import ToolCall

DEFAULT_MAX_ROUNDS = 8

Permission = Literal["yes", "no", "always"]
Ask = Callable[[str], Permission]

_MAX_SHOWN = 300  # columns of a result that the person sees


class ToolRounds:
    """`ask` is asked before a call runs (None: never), and `note` is told what happens.

    After "always" a function is not asked about again. With `streams` answers appear while they are
    written, otherwise, for programs, only the last one of a turn, and whole.
    """

    def __init__(
        self,
        toolbox: Toolbox,
        ask: Ask | None,
        note: Callable[[str], None] = console.note,
        *,
        max_rounds: int = DEFAULT_MAX_ROUNDS,
        streams: bool = True,
    ) -> None:
        self.toolbox = toolbox
        self.note = note
        self._ask = ask
        self._max_rounds, self._streams = max_rounds, streams
        self._always: set[str] = set()

    def view(self, make_view: Callable[[], AnswerView]) -> AnswerView:
        """Where an answer appears that may turn out to be calls."""
        names = self.toolbox.names
        return CallGate(make_view(), names) if self._streams else FinalView(make_view, names)

    def follow(
        self,
        answer: Answer,
        calls: Callable[[], Sequence[ToolCall]],
        answer_to: Callable[[Sequence[str]], Answer],
    ) -> Answer:
        """Carry out what an answer calls, and what the answers to the results call; the last one.

        `calls` are those of the conversation's last answer. There are none then, unless the rounds
        ran out or a signal came: `exit_code` says so.
        """
        for _ in range(self._max_rounds):
            if not (wanted := calls()):
                return answer
            results: list[str] = []
            for call in wanted:
                result = self._carry_out(call)
                if result.exit_code:
                    self.note("(stopped; the model was not told of any result)")
                    return replace(answer, exit_code=result.exit_code)
                results.append(result.text)
            answer = answer_to(results)
        if not calls():
            return answer
        self.note(
            f"(stopped: the model called functions in {self._max_rounds} rounds and still calls; "
            "--max-rounds allows more)"
        )
        return replace(answer, exit_code=EXIT_FAILED)

    def _carry_out(self, call: ToolCall) -> ToolResult:
        """Check, ask, run; what comes of it."""
        text = harmless(shown(call))
        asks = self._ask is not None and call.name not in self._always
        if result := self.toolbox.check(call):
            self.note(f"{text} cannot be run")
        elif not asks:
            result = self.toolbox.run(call, lambda: self.note(f"run {text}"))
        elif self._is_allowed(call, text):
            result = self.toolbox.run(call)
        else:
            result = ToolResult('{"error": "the user did not allow this call"}', is_error=True)
        self._show(result)
        return result

    def _is_allowed(self, call: ToolCall, text: str) -> bool:
        assert self._ask is not None
        permission = self._ask(text)
        if permission == "always":
            self._always.add(call.name)
        return permission != "no"

    def _show(self, result: ToolResult) -> None:
        if result.printed:
            self.note("\n".join(f"  | {line}" for line in harmless(result.printed).split("\n")))
        text = shortened(harmless(result.text), _MAX_SHOWN)
        more = f" ({len(result.text):,} characters)" if text.endswith("…") else ""
        where = f" ({result.where})" if result.where else ""
        self.note(f"  → {text}{more}{where}")
