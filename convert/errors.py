"""The errors a conversion raises."""


class ConvertError(Exception):
    """A checkpoint cannot be converted, or an output cannot be written.

    The message is one line: the file (and tensor) it is about, what is wrong with it, and the way
    out. Everything else that escapes from this package is a bug.
    """


class DiskError(ConvertError):
    """A disk that is full, gone or failing: with that mended, the conversion can be resumed."""
