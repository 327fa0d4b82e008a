"""Checks whether the Hub can be reached, with the settings that huggingface_hub uses."""

from __future__ import annotations

import contextlib
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssl import SSLContext

SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Reach:
    """Whether the Hub can be reached, and with which settings.

    endpoint: the Hub's address.
    is_default: whether that is huggingface_hub's own, not one from HF_ENDPOINT.
    is_offline: whether HF_HUB_OFFLINE is set; then no connection is tried.
    has_proxy: whether a proxy is set for the endpoint.
    has_token: whether there is an access token; None if unknown.
    seconds: until the Hub answered; None if it did not.
    complaint: why it did not answer.
    """

    endpoint: str
    is_default: bool = True
    is_offline: bool = False
    has_proxy: bool = False
    has_token: bool | None = None
    seconds: float | None = None
    complaint: str = ""


def reach() -> Reach:
    """Send one request to the Hub's endpoint. Problems are returned, never raised."""
    try:
        from huggingface_hub import constants, get_token

        endpoint, is_offline = str(constants.ENDPOINT), bool(constants.HF_HUB_OFFLINE)
        is_default = not os.environ.get("HF_ENDPOINT")
        has_token = _has_token(get_token)
    except Exception as error:  # huggingface_hub is not installed, or broken
        return Reach("", complaint=f"huggingface_hub cannot be loaded: {error}")
    endpoint = _without_password(endpoint)
    has_proxy = endpoint.partition(":")[0] in urllib.request.getproxies()
    seconds, complaint = (None, "") if is_offline else _ask(endpoint)
    return Reach(endpoint, is_default, is_offline, has_proxy, has_token, seconds, complaint)


def _without_password(address: str) -> str:
    try:
        parts = urllib.parse.urlsplit(address)
    except ValueError:
        return address.rpartition("@")[2]
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _has_token(get_token: object) -> bool | None:
    try:
        return bool(get_token())  # type: ignore[operator]
    except Exception:  # such as a file that cannot be read
        return None


def _ask(endpoint: str) -> tuple[float | None, str]:
    """Return the seconds until the endpoint gave any answer, or None and the reason."""
    if not endpoint.startswith(("http://", "https://")):
        return None, "it does not begin with http:// or https://"
    began = time.monotonic()
    try:
        request = urllib.request.Request(endpoint, method="HEAD")
        with urllib.request.urlopen(request, timeout=SECONDS, context=_certificates()):
            pass
    except urllib.error.HTTPError as error:
        error.close()  # an error status is an answer, too
    except urllib.error.URLError as error:
        return None, _words(error.reason)
    except Exception as error:  # no HTTP, no such name, timeouts
        return None, _words(error)
    return time.monotonic() - began, ""


def _words(reason: object) -> str:
    """Return an error's message without its number and class."""
    said = (getattr(reason, "strerror", None) or str(reason)).strip()
    return f"{said[:1].lower()}{said[1:]}" or type(reason).__name__


def _certificates() -> SSLContext:
    """Return a context with the system's certificates and certifi's.

    huggingface_hub may use either of them.
    """
    import ssl

    context = ssl.create_default_context()
    with contextlib.suppress(ImportError, OSError):
        import certifi

        context.load_verify_locations(certifi.where())
    return context
