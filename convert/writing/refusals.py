"""Decides, before anything is touched, whether outputs may be written under their names.

What lies there already is somebody's work, unless it is known to be l4's: an output is l4's own if
it has the bytes that the plan gives it, a part file if the journal beside it lists it, and a
journal if it begins like one. Before the work, an output's size, its header and some rows of every
tensor are compared; before it is replaced, all bytes are.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from convert.errors import ConvertError
from convert.gguf.figures import masked
from convert.names import in_short, is_device
from convert.types import Plan
from convert.writing.journal import imatrices, journal_path, read_journal, sources
from convert.writing.layout import FileLayout, Layout
from convert.writing.sameness import has_bytes_of, has_weights_of
from convert.writing.writer import part_path


def refuse_outputs(
    planned: Sequence[tuple[Plan, Layout]], *, resume: bool, overwrite: bool
) -> None:
    """Raise ConvertError if the layouts cannot be the outputs of these plans.

    resume: an output that is whole will be left as it is.
    overwrite: an output may replace any file of its name.
    """
    paths = [file.path for _, layout in planned for file in layout.files]
    for path in paths:
        if paths.count(path) > 1:
            raise ConvertError(f"{path}: would be written twice; put {{type}} into its name")
    for plan, layout in planned:
        for path in {layout.path, *(file.path for file in layout.files)}:
            _refuse_place(plan, path)
        for file in layout.files:
            _refuse_place(plan, part_path(file.path))
        if not overwrite:
            _refuse_others(plan, layout, resume=resume)
        _refuse_place(plan, journal_path(layout.path))
        refuse_foreign_parts(layout)


def refuse_taken(file: FileLayout) -> None:
    """Raise ConvertError if the file's name is taken by one that differs from the finished part."""
    if status_of(file.path) is None:
        return
    if not is_written(file):
        raise _taken(file.path, _OTHER)
    try:
        is_same = has_bytes_of(file.path, part_path(file.path), start=len(file.header))
    except OSError as error:
        raise _unreadable(file.path, error) from None
    if not is_same:
        raise _taken(file.path, _OTHER_WEIGHTS)


def _refuse_others(plan: Plan, layout: Layout, *, resume: bool) -> None:
    """Raise ConvertError if a file of the output exists that this plan would write otherwise."""
    there = [file for file in layout.files if status_of(file.path) is not None]
    for file in there:
        if not is_written(file):
            raise _taken(file.path, _OTHER)
    if not there:
        return
    if plan.shards is not None:
        # Its weights are not on disk. With `resume`, files that are whole stay as they are.
        if not resume:
            raise _taken(there[0].path, "may hold other weights than the Hub has")
    elif not _is_of(plan, there):
        raise _taken(there[0].path, _OTHER_WEIGHTS)


_OTHER = "holds something else than this command would write"
_OTHER_WEIGHTS = "holds other weights than this command would write"


def _taken(path: Path, what: str) -> ConvertError:
    return ConvertError(
        f"{path}: exists already and {what}; "
        "write elsewhere with -o, or replace it with --overwrite"
    )


def _unreadable(path: Path, error: OSError) -> ConvertError:
    return ConvertError(f"{path}: {error.strerror}; write elsewhere with -o")


def _is_of(plan: Plan, files: Sequence[FileLayout]) -> bool:
    try:
        return has_weights_of(plan, files)
    except OSError as error:
        raise _unreadable(files[0].path, error) from None


def refuse_foreign_parts(layout: Layout) -> None:
    """Raise ConvertError if a part file, or the journal, is not l4's."""
    settings = read_journal(layout.path).settings or {}
    for file in layout.files:
        part = part_path(file.path)
        if status_of(part) is not None and file.path.name not in settings.get("files", ()):
            raise ConvertError(
                f"{part}: exists, and no journal of l4 lists it, so it stays as it is; "
                "move it away, or write elsewhere with -o"
            )


def is_whole(plan: Plan, layout: Layout) -> bool:
    """Whether a finished conversion by this plan has left all files of the output."""
    if not all(map(is_written, layout.files)) or status_of(journal_path(layout.path)) is not None:
        return False
    return plan.shards is not None or _is_of(plan, layout.files)


def is_written(file: FileLayout) -> bool:
    """Whether the file is there, with the size and the header of its layout.

    Figures of an evaluation, which are written later, count as equal.
    """
    status = status_of(file.path)
    if status is None or not stat.S_ISREG(status.st_mode) or status.st_size != file.n_bytes:
        return False
    try:
        with file.path.open("rb") as written:
            return masked(written.read(len(file.header))) == masked(file.header)
    except OSError as error:
        raise _unreadable(file.path, error) from None


def status_of(path: Path) -> os.stat_result | None:
    """The status of what lies at `path`, None for nothing. Raises ConvertError."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConvertError(f"{in_short(path)}: {error.strerror}; write elsewhere with -o") from None


def _refuse_place(plan: Plan, path: Path) -> None:
    """Raise ConvertError if no file of the output can be at `path`, whatever it would replace."""
    target = _real(path)
    if target == _real(plan.source) or _real(plan.source) in target.parents:
        is_file = plan.source.is_file()
        what = "is the GGUF that is read" if is_file else "lies in the checkpoint's own directory"
        raise ConvertError(f"{path}: {what}; write elsewhere with -o")
    if plan.shards is None and target in {_real(each) for each in sources(plan)}:
        raise ConvertError(f"{path}: is a file that is read; write elsewhere with -o")
    status = status_of(path)
    is_file = status is None or stat.S_ISREG(status.st_mode)
    if not is_file or is_device(path):
        raise ConvertError(f"{path}: is not a file; give the output another name with -o")
    if target in {_real(imatrix) for imatrix in imatrices(plan)}:
        raise ConvertError(f"{path}: is the imatrix that is read; write elsewhere with -o")
    if not path.parent.is_dir():
        raise ConvertError(f"{path.parent}: no such directory; make it, or write elsewhere with -o")


def _real(path: Path) -> Path:
    """The path without links; `Path.resolve` raises RuntimeError at a link to itself."""
    return Path(os.path.realpath(path))
