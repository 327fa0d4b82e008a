"""The command's output: data to stdout, everything else to stderr, progress only on a terminal.

streams.py    data, notes, warnings
tables.py     tables, maps, paragraphs
folding.py    text that is folded while it is written
lines.py      lines from a terminal that cannot move its cursor
progress.py   bars and status lines; plain_progress.py: lines instead

rich is imported only when something needs it.
"""

from l4cli.console.folding import Folder
from l4cli.console.lines import plain_line
from l4cli.console.progress import (
    byte_progress,
    part_progress,
    show_stopping,
    status,
    token_progress,
)
from l4cli.console.streams import (
    ReaderGoneError,
    command_line,
    data,
    data_json,
    end_interrupted_line,
    folded,
    has_progress,
    hold_standard_streams,
    moves_cursor,
    note,
    note_interrupt,
    stderr_console,
    stderr_is_terminal,
    stdout_is_file,
    stdout_is_terminal,
    use_utf8,
    warn,
)
from l4cli.console.tables import command, heat_map, paragraph, table

__all__ = [
    "Folder",
    "ReaderGoneError",
    "byte_progress",
    "command",
    "command_line",
    "data",
    "data_json",
    "end_interrupted_line",
    "folded",
    "has_progress",
    "heat_map",
    "hold_standard_streams",
    "moves_cursor",
    "note",
    "note_interrupt",
    "paragraph",
    "part_progress",
    "plain_line",
    "show_stopping",
    "status",
    "stderr_console",
    "stderr_is_terminal",
    "stdout_is_file",
    "stdout_is_terminal",
    "table",
    "token_progress",
    "use_utf8",
    "warn",
]
