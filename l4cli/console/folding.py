"""Folds a text at words while it is still being written, for a terminal."""

from __future__ import annotations


class Folder:
    """Takes a text piece by piece and returns it in lines of at most `columns` columns.

    A word is held back until its end is known. A word longer than a line is left to the terminal;
    wide characters, as of Chinese, are words of their own.
    """

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._column = 0  # how much of the line is taken
        self._blank = ""  # between the last word and the one that is held
        self._word = ""

    def feed(self, text: str) -> str:
        """Return what can be written now that `text` has come."""
        from rich.cells import cell_len

        out = []
        for char in text:
            if char in " \t\n":
                out.append(self.flush())
                self._blank += char
                if char == "\n":
                    out.append(char)
                    self._blank, self._column = "", 0
            elif cell_len(char) > 1:
                out.append(self.flush())
                self._word = char
                out.append(self.flush())
            else:
                self._word += char
        return "".join(out)

    def flush(self) -> str:
        """Return the word that is held, behind its blanks or at the beginning of a new line."""
        from rich.cells import cell_len

        if not self._word:
            return ""
        gap, width = len(self._blank.expandtabs()), cell_len(self._word)
        is_full = self._column and self._column + gap + width > self._columns
        out = ("\n" if is_full else self._blank) + self._word
        self._column = width if is_full else self._column + gap + width
        self._blank = self._word = ""
        return out
