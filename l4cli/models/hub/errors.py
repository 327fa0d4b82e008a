"""Turns exceptions of huggingface_hub and the network into HubErrors: one line, with a remedy."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from l4cli.errors import HubError

RESUME = "try again (with --resume, if part of it is done)"


@contextmanager
def told(where: str, again: str = RESUME) -> Iterator[None]:
    """Context manager: raise exceptions of huggingface_hub and the network as HubError.

    where: the repository or file, which begins the message.
    again: says how to continue once the disk or the connection works again.
    """
    try:
        with _told(where, again):
            yield
    except HubError as error:
        raise HubError(without_password(str(error))) from None


def without_password(text: str) -> str:
    """Return a message without the names and passwords in its web addresses.

    HF_ENDPOINT may have them.
    """
    return re.sub(r"(?<=://)[^/\s]*@", "", text)


@contextmanager
def _told(where: str, again: str) -> Iterator[None]:
    from huggingface_hub import constants, errors

    try:
        yield
    except errors.GatedRepoError:
        page = f"{constants.ENDPOINT}/{where.partition(':')[0].partition(' ')[0]}"
        raise HubError(
            f"{where}: is gated: accept its licence at {page}, then set HF_TOKEN or log in with "
            "`hf auth login`"
        ) from None
    except errors.RevisionNotFoundError:
        raise HubError(f"{where}: no such revision; give another --revision") from None
    except errors.RemoteEntryNotFoundError:
        raise HubError(f"{where}: no such file on the Hub; is the upload complete?") from None
    except errors.RepositoryNotFoundError:
        raise HubError(
            f"{where}: no such repository on the Hub, or one that you have no access to: check the "
            "spelling, or set HF_TOKEN or log in with `hf auth login`"
        ) from None
    except errors.HfHubHTTPError as error:
        raise HubError(_refused(where, error)) from None
    except errors.HFValidationError:
        raise HubError(f"{where}: not a valid Hub id; give ORG/NAME") from None
    except errors.OfflineModeIsEnabled:
        raise HubError(f"{where}: HF_HUB_OFFLINE is set; unset it to download") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise HubError(f"{where}: the disk is full; free some space, and {again}") from None
        if error.errno is not None and error.filename is not None:
            raise HubError(f"{error.filename}: {os.strerror(error.errno)}") from None
        if isinstance(error.__cause__, errors.HfHubHTTPError):
            raise HubError(_refused(where, error.__cause__)) from None
        raise HubError(_unreachable(where, error, again)) from None
    except UnicodeEncodeError:  # a header of HTTP
        raise HubError(
            f"{where}: the access token holds letters that no token has; correct HF_TOKEN, or log "
            "in again with `hf auth login`"
        ) from None
    except errors.HTTPError as error:  # from the HTTP library that huggingface_hub uses
        raise HubError(_unreachable(where, error, again)) from None


def _refused(where: str, error: Any) -> str:
    status = error.response.status_code
    if status in (401, 403):
        return (
            f"{where}: the Hub refuses access ({status}): set HF_TOKEN to a token that may read "
            "it, or log in with `hf auth login`"
        )
    return f"{where}: the Hub answers {status}; try again later"


def _unreachable(where: str, error: Exception, again: str) -> str:
    from huggingface_hub import constants

    cause = error.__cause__ or error
    why = f" ({type(cause).__name__}: {cause})".replace(": )", ")")
    return (
        f"{where}: {constants.ENDPOINT} cannot be reached{why}; "
        f"check the connection and {again}, or set another HF_ENDPOINT"
    )


def be_quiet() -> None:
    """Hide huggingface_hub's log messages, such as those about retries; final failures raise."""
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()
