"""Which rows of a run failed and why, as its last lines on the screen say it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

_INVALID = ("invalid_input", "invalid_request")  # types of errors that come from the row itself


@dataclass(slots=True)
class FailedRows:
    """Counts the error rows of a run, and keeps the first one's reason.

    line: the input line of the first error row.
    message: its error.
    num_same: further error rows with the same message.
    num_invalid: error rows that would be errors again if they were asked again unchanged.
    """

    count: int = 0
    line: int = 0
    message: str = ""
    num_same: int = 0
    num_invalid: int = 0

    def add(self, line: int, type: str, message: str) -> None:
        """Count an error row; type: that of its error, see `l4cli/errors.py`."""
        where = f"line {line}: "
        message = message.removeprefix(where)  # OpenAI's format has it in the message
        if not self.count:
            self.line, self.message = line, message
        else:
            self.num_same += message == self.message
        self.count += 1
        self.num_invalid += type in _INVALID

    def reason(self) -> str:
        """Return the first error, and how many other rows have the same."""
        others = {0: "", 1: " (1 other row has the same error)"}.get(
            self.num_same, f" ({self.num_same:,} other rows have the same error)"
        )
        return f"line {self.line}: {self.message}{others}"

    def advice(self, again: str, anew: str) -> str:
        """Return what to do about the rows of a run that wrote to a file.

        again: the command line that asks them again.
        anew: the command line that starts the run over.
        """
        if self.num_invalid < self.count:
            return f"ask them again with: {again}"
        return (
            "the same again would fail again: correct the input and give "
            f"`{again}`, or change the options in `{anew}`"
        )
