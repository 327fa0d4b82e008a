"""Rounds of tool calls: l4 runs the calls in an answer, and the model answers to the results.

An answer is either text or calls. Calls are not shown as the model wrote them: the user sees each
call before it runs, is asked for permission, and sees the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from l4cli import console
from l4cli.amounts import counted
from l4cli.chat.text import shortened
from l4cli.chat.tools.calls import CallGate, FinalView
from l4cli.chat.tools.toolbox import Toolbox, ToolResult, shown
from l4cli.chat.turn import AnswerView
from l4cli.engine.answer import Answer
from l4cli.errors import EXIT_FAILED
from l4cli.printable import harmless
from l4cli.prompt.tool_calls import ToolCall

DEFAULT_MAX_ROUNDS = 8

Permission = Literal["yes", "no", "always"]
Ask = Callable[[str], Permission]

_MAX_SHOWN = 300  # columns: the user sees only this much of a result


class ToolRounds:
    """Runs the calls of answers, round after round.

    toolbox: the tools.
    ask: called with a call's text before it runs; returns the permission. After "always", this
        function is not asked about again. None runs every call without asking.
    note: called with lines that tell the user what happens.
    max_rounds: how many rounds a turn may have.
    streams: whether answers appear while they are generated. If not (for programs), only the last
        answer of a turn is written, once it has ended.
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
        """Return the view of an answer that may turn out to be calls."""
        names = self.toolbox.names
        return CallGate(make_view(), names) if self._streams else FinalView(make_view, names)

    def follow(
        self,
        answer: Answer,
        calls: Callable[[], Sequence[ToolCall]],
        answer_to: Callable[[Sequence[str]], Answer],
    ) -> Answer:
        """Run the calls of `answer`, and those of the answers that follow; return the last answer.

        calls: returns the calls of the conversation's last answer.
        answer_to: adds the results of calls to the conversation and returns the model's answer.

        The last answer has no calls, with two exceptions, in which its `exit_code` is not 0: there
        were `max_rounds` rounds, or a signal to l4 ended a call.
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
            f"(stopped: the model called functions in {counted(self._max_rounds, 'round')} and "
            "still calls; --max-rounds allows more)"
        )
        return replace(answer, exit_code=EXIT_FAILED)

    def _carry_out(self, call: ToolCall) -> ToolResult:
        """Check a call, ask for permission, run it, show the result; return the result."""
        text = harmless(shown(call))
        asks = self._ask is not None and call.name not in self._always
        if result := self.toolbox.check(call):
            self.note(f"{text} cannot be run")
        elif not asks:
            result = self.toolbox.run(call, lambda: self.note(f"run {text}"))
        elif self._is_allowed(call, text):
            result = self.toolbox.run(call)
        else:
            self.note(f"  → {call.name} was not run: you refused it, and the model is told so")
            return ToolResult('{"error": "the user did not allow this call"}', is_error=True)
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
