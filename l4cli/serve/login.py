"""POST /login: exchanges the key for a cookie, because a browser cannot send a key with a page.

The cookie stands for the key until the server ends. Scripts cannot read it (HttpOnly), and browsers
send it with requests of the server's own pages only (SameSite=Strict).
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from functools import cache
from html import escape
from pathlib import Path
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from l4cli.serve.errors import ApiError
from l4cli.serve.page import SAFE_HEADERS

COOKIE = "l4_key"
_FORM = Path(__file__).with_name("page") / "login.html"
_NOTE = "<!-- note -->"
_WRONG = '<p role="alert">That is not the key of this server.</p>'


async def login(request: Request) -> Response:
    """Set the cookie and go to the page, if the form brings the key; show the form again if not."""
    if request.method == "GET":
        return RedirectResponse("/", status_code=303)
    cookie_for: Callable[[str, str], str | None] = request.app.state.cookie_for
    form = parse_qs((await request.body()).decode("utf-8", errors="replace"))
    address = request.client.host if request.client else ""
    try:
        cookie = cookie_for(form.get("key", [""])[0].strip(), address)
    except ApiError as error:  # too many keys were wrong
        note = f'<p role="alert">{escape(error.message)}</p>'
        return login_form(note, error.status, error.headers)
    if cookie is None:
        return login_form(_WRONG)
    response = RedirectResponse("/", status_code=303, headers={"cache-control": "no-store"})
    is_encrypted = request.url.scheme == "https"
    response.set_cookie(
        COOKIE, cookie, httponly=True, samesite="strict", path="/", secure=is_encrypted
    )
    return response


def login_form(
    note: str = "", status: int = 401, headers: Mapping[str, str] | None = None
) -> Response:
    """Return the form that asks for the key.

    note: HTML that is shown above it.
    status: of the response.
    headers: further headers of the response.
    """
    text, policy = _form()
    own = {**SAFE_HEADERS, "cache-control": "no-store", "content-security-policy": policy}
    own["www-authenticate"] = "Bearer"
    return Response(
        text.replace(_NOTE, note),
        status_code=status,
        media_type="text/html",
        headers={**own, **(headers or {})},
    )


@cache
def _form() -> tuple[str, str]:
    """Return the form's HTML, and the policy that allows its one style by hash."""
    text = _FORM.read_text("utf-8")
    found = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert found
    digest = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    )
    return text, policy
