"""Every error l4 raises on purpose, and the exit code each one means.

    L4Error                      exit 2: the user can mend it; the message is one line that says how
    ├── UsageError               an option or argument that makes no sense
    ├── InputError               a file or a line of it that cannot be read
    ├── ModelError               a model that cannot be used
    │   ├── ModelNotFoundError   no such file or name (with near matches)
    │   ├── ModelLoadError       not a GGUF, truncated, unsupported, out of memory
    │   └── HubError             a repository on the Hub: gated, absent, cut off
    ├── RequestError             one request that cannot be served; in a batch, an error row
    │   └── ContextOverflowError the prompt and its max_tokens do not fit the context
    ├── OutputError              an output that cannot be written
    └── EngineError              exit 1: llama.cpp failed on a valid request
        └── CrashError           llama.cpp ended the process over it, in an earlier run

`l4cli.app.main` is the one place where these become a line on stderr and an exit code; anything
else that reaches it is a bug and is shown as one.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_HUNG_UP = 129
EXIT_TERMINATED = 143
EXITS_THAT_LEAVE = (EXIT_HUNG_UP, EXIT_TERMINATED)  # Ctrl-C only ends an answer


class L4Error(Exception):
    """An error with a message for the user; `type` names it in error rows."""

    exit_code = EXIT_USAGE
    type = "error"


class UsageError(L4Error):
    """An option or argument that makes no sense."""

    type = "usage"


class InputError(L4Error):
    """A file, or a line of one, that cannot be read."""

    type = "invalid_input"


class ModelError(L4Error):
    """A model that cannot be used."""

    type = "model"


class ModelNotFoundError(ModelError):
    """No file and no registered model of that name."""

    type = "model_not_found"


class ModelLoadError(ModelError):
    """A file that llama.cpp cannot load as a model."""

    type = "model_load"


class HubError(ModelError):
    """A repository on the Hub that cannot be had."""

    type = "hub"


class RequestError(L4Error):
    """A request that cannot be served; its neighbours are unharmed."""

    type = "invalid_request"


class ContextOverflowError(RequestError):
    """A prompt that, with its max_tokens, is longer than the context."""

    type = "context_overflow"


class OutputError(L4Error):
    """An output that cannot be written."""

    type = "output"


class EngineError(L4Error):
    """llama.cpp failed on a request that was valid."""

    exit_code = EXIT_FAILED
    type = "engine"


class CrashError(EngineError):
    """llama.cpp ended the process over a request, in an earlier run."""

    type = "crash"
