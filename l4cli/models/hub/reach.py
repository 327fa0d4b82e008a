"""Whether the Hub can be reached from here, by the settings that huggingface_hub goes by."""

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
    """The Hub as seen from here.

    `seconds` is what an answer took; None where there was none, and `complaint` says why. Where
    huggingface_hub `is_offline` nothing was asked. Whether there is a token is None if unknown.
    """

    endpoint: str
    is_default: bool = True
    is_offline: bool = False
    has_proxy: bool = False
    has_token: bool | None = None
    seconds: float | None = None
    complaint: str = ""


def reach() -> Reach:
    """Ask the Hub's endpoint for a sign of life. Never raises for what is wrong with it."""
    try:
        from huggingface_hub import constants, get_token

        endpoint, is_offline = str(constants.ENDPOINT), bool(constants.HF_HUB_OFFLINE)
        is_default = not os.environ.get("HF_ENDPOINT")
        has_token = _has_token(get_token)
    except Exception as error:  # it is not installed, or does not work
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
    """Seconds until the endpoint answered, whatever it said; or None and what is in the way."""
    if not endpoint.startswith(("http://", "https://")):
        return None, "it is no address that begins with http:// or https://"
    began = time.monotonic()
    try:
        request = urllib.request.Request(endpoint, method="HEAD")
        with urllib.request.urlopen(request, timeout=SECONDS, context=_certificates()):
            pass
    except urllib.error.HTTPError as error:
        error.close()  # an answer all the same
    except urllib.error.URLError as error:
        return None, _words(error.reason)
    except Exception as error:  # no HTTP, no such name, timeouts
        return None, _words(error)
    return time.monotonic() - began, ""


def _words(reason: object) -> str:
    """An error without its number and class."""
    said = (getattr(reason, "strerror", None) or str(reason)).strip()
    return f"{said[:1].lower()}{said[1:]}" or type(reason).__name__


def _certificates() -> SSLContext:
    """The system's certificates and certifi's, for either may be what huggingface_hub trusts."""
    import ssl

    context = ssl.create_default_context()
    with contextlib.suppress(ImportError, OSError):
        import certifi

        context.load_verify_locations(certifi.where())
    return context
