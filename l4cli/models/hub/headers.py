"""Checks the headers of the Hub's answers, which huggingface_hub makes names of files from.

It stores a file as `blobs/ETAG` and links to it from `snapshots/COMMIT`. So an answer that states
`../../x` there would have it write, or link to, a file outside the cache.
"""

from __future__ import annotations

import reprlib
from typing import Any

from convert.names import is_commit, is_etag, is_sha256
from l4cli.errors import HubError

_CHECKS = {
    "X-Linked-ETag": is_etag,
    "X-Repo-Commit": is_commit,
    "X-Xet-Hash": is_sha256,
}


def check_every_answer() -> None:
    """Have huggingface_hub's client raise HubError for an answer with a header that names no file.

    The client is shared by all of this process, and each answer is checked before it is used.
    """
    from huggingface_hub import get_session

    client = get_session()
    hooks = client.event_hooks
    if _check not in hooks["response"]:
        client.event_hooks = {**hooks, "response": [*hooks["response"], _check]}


def _check(response: Any) -> None:
    if response.request.method != "HEAD":  # with which huggingface_hub asks about a file
        return
    checks = _CHECKS
    if "X-Linked-ETag" not in response.headers:
        checks = {**_CHECKS, "ETag": is_etag}  # used only without the other
    for name, is_sound in checks.items():
        stated = response.headers.get(name)
        if stated is not None and not is_sound(stated):
            raise HubError(
                f"{response.url.host}: its answer states {reprlib.repr(stated)} as {name}, which "
                "names no file: is HF_ENDPOINT right?"
            )
