"""Rounds of tool calls: what an answer calls is carried out, and the model answers to the results.

An answer either speaks or calls. One that calls is not shown as it was written: the person sees
each call before it runs, is asked, and sees what came back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from l4cli.chat.text import harmless
from l4cli.chat.tools import Toolbox, ToolResult, shown
from l4cli.chat.turn import Answer
from l4cli.prompt.tool_calls import ToolCall

DEFAULT_MAX_ROUNDS = 8

Permission = Literal["yes", "no", "always"]
Ask = Callable[[str], Permission]

_MAX_SHOWN = 300  # characters of a result that the person sees


class ToolRounds:
    """`ask` is asked before a call runs, and `note` is told what happens.

    After "always" a function is not asked about again.
    """

    def __init__(
        self,
        toolbox: Toolbox,
        ask: Ask,
        note: Callable[[str], None],
        *,
        max_rounds: int = DEFAULT_MAX_ROUNDS,
    ) -> None:
        self.toolbox = toolbox
        self._ask, self._note = ask, note
        self._max_rounds = max_rounds
        self._always: set[str] = set()

    def follow(
        self,
        answer: Answer,
        calls_in: Callable[[Answer], Sequence[ToolCall]],
        answer_to: Callable[[Sequence[str]], Answer],
    ) -> Answer:
        """Carry out what an answer calls and what the answers to the results call; the last answer.

        It calls nothing, unless the rounds ran out or a signal came: then `exit_code` says so.
        """
        for _ in range(self._max_rounds):
            if not (calls := calls_in(answer)):
                return answer
            results: list[str] = []
            for call in calls:
                result = self._carry_out(call)
                if result.exit_code:
                    self._note("(stopped; the model was not told of any result)")
                    return replace(answer, exit_code=result.exit_code)
                results.append(result.text)
            answer = answer_to(results)
        if calls_in(answer):
            self._note(
                f"(stopped: the model called functions in {self._max_rounds} rounds and still "
                "calls; --max-rounds allows more)"
            )
        return answer

    def _carry_out(self, call: ToolCall) -> ToolResult:
        """Check, ask, run; what comes of it."""
        text = harmless(shown(call))
        if result := self.toolbox.check(call):
            self._note(f"{text} cannot be run")
        elif not self._is_allowed(call, text):
            result = ToolResult('{"error": "the user did not allow this call"}', is_error=True)
        else:
            result = self.toolbox.run(call)
        self._show(result)
        return result

    def _is_allowed(self, call: ToolCall, text: str) -> bool:
        if call.name in self._always:
            self._note(f"run {text}")
            return True
        permission = self._ask(text)
        if permission == "always":
            self._always.add(call.name)
        return permission != "no"

    def _show(self, result: ToolResult) -> None:
        if result.printed:
            self._note("\n".join(f"  | {line}" for line in harmless(result.printed).split("\n")))
        where = f" ({result.where})" if result.where else ""
        self._note(f"  → {shortened(harmless(result.text))}{where}")


def shortened(text: str) -> str:
    """A result as one line that fits a screen; how much more there is of it."""
    line = " ".join(text.split())
    if len(line) <= _MAX_SHOWN:
        return line
    return f"{line[:_MAX_SHOWN]}… ({len(text):,} characters)"
