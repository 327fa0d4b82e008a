"""The errors that l4 raises on purpose, and the exit code of each.

    L4Error                      exit 2: the user can fix it; the message is one line that says how
    ├── UsageError               an option or argument that is wrong
    ├── InputError               a file, or a line of one, that cannot be read
    ├── ModelError               a model that cannot be used
    │   ├── ModelNotFoundError   no such file or name (the message suggests similar names)
    │   │   └── NotFetchedError  a model that `l4 pull` can fetch
    │   ├── ModelLoadError       not a GGUF, truncated, unsupported, out of memory
    │   └── HubError             a repository on the Hub is gated, absent or unreachable
    ├── RequestError             one request that cannot be served; in a batch, an error row
    │   └── ContextOverflowError the prompt and its max_tokens do not fit the context
    ├── OutputError              an output that cannot be written
    └── EngineError              exit 1: llama.cpp failed on a valid request
        └── CrashError           an earlier run crashed in llama.cpp on this request

Only `l4cli.app` turns these into a line on stderr and an exit code. Any other exception that
reaches it is reported as a bug in l4.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_HUNG_UP = 129
EXIT_TERMINATED = 143
# Exit codes after which a conversation ends, too. Ctrl-C only ends an answer.
EXITS_THAT_LEAVE = (EXIT_HUNG_UP, EXIT_TERMINATED)


class L4Error(Exception):
    """An error with a message for the user. `type` is its name in the error rows of `l4 run`."""

    exit_code = EXIT_USAGE
    type = "error"


class UsageError(L4Error):
    """An option or argument that is wrong."""

    type = "usage"


class InputError(L4Error):
    """A file, or a line of one, that cannot be read."""

    type = "invalid_input"


class ModelError(L4Error):
    """A model that cannot be used."""

    type = "model"


class ModelNotFoundError(ModelError):
    """No file and no known model has this name."""

    type = "model_not_found"


class NotFetchedError(ModelNotFoundError):
    """A model that is not on this machine; `l4 pull NAME` fetches it.

    name: what `l4 pull` takes.
    """

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


class ModelLoadError(ModelError):
    """A file that llama.cpp cannot load as a model."""

    type = "model_load"


class HubError(ModelError):
    """A repository on the Hub that cannot be read: gated, absent or unreachable."""

    type = "hub"


class RequestError(L4Error):
    """A request that cannot be served. Other requests are not affected."""

    type = "invalid_request"


class ContextOverflowError(RequestError):
    """A prompt and its max_tokens together do not fit the context."""

    type = "context_overflow"


class OutputError(L4Error):
    """An output that cannot be written."""

    type = "output"


class EngineError(L4Error):
    """llama.cpp failed on a valid request."""

    exit_code = EXIT_FAILED
    type = "engine"


class CrashError(EngineError):
    """An earlier run crashed in llama.cpp on this request."""

    type = "crash"
