"""Reads web addresses given in place of a model, and says which command gets what is there. Pure.

People paste the address of a page, or of a file, from their browser.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from l4cli.models.installed import HUB_PREFIX
from l4cli.models.quants import by_label

_HUB_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
_ADDRESS = re.compile(r"(?:https?|ftp|hf|s3|file)://|(?:www\.)?(?:huggingface\.co|hf\.co)/", re.I)
_NAME = re.compile(r"[\w.-]+")
_NO_MODELS = ("datasets", "spaces", "collections", "docs", "blog", "papers", "models")


@dataclass(frozen=True, slots=True)
class Address:
    """A web address: a repository on the Hub, and a file in it; both None for another place."""

    repo: str | None = None
    file: str | None = None

    def for_model(self) -> str:
        """Say which command gets a GGUF from here; it follows the address."""
        if self.repo is None:
            return _ELSEWHERE
        if self.file is not None and not self.file.lower().endswith(".gguf"):
            return self.for_checkpoint()
        name = f"{HUB_PREFIX}{self.repo}"
        if self.file is not None:
            name += f":{next(iter(by_label([self.file])), 'QUANT')}"
        return f"is a web address; `l4 pull {name}` fetches the model, then its name is {name}"

    def for_checkpoint(self) -> str:
        """Say which command converts the checkpoint that is here; it follows the address."""
        if self.repo is None:
            return _ELSEWHERE
        if self.file is not None and self.file.lower().endswith(".gguf"):
            return self.for_model()
        return (
            f"is a web address; `l4 convert {self.repo} --hub` makes a GGUF of a checkpoint, and "
            f"`l4 pull {HUB_PREFIX}{self.repo}` fetches a GGUF if there is one"
        )


_ELSEWHERE = (
    "is a web address, and l4 fetches models from the Hub only (`l4 pull hf.co/ORG/NAME:QUANT`): "
    "download the file, and give its path"
)


def read_address(text: str) -> Address | None:
    """Return what a web address leads to; None if `text` is no address."""
    text = text.strip()
    if not _ADDRESS.match(text):
        return None
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        host = parts.hostname or ""
    except ValueError:
        return Address()
    words = [unquote(word) for word in parts.path.split("/") if word]
    if parts.scheme == "hf":
        words = [unquote(parts.netloc), *words]
    elif host not in _HUB_HOSTS:
        return Address()
    words[1:2] = [word.partition(":")[0] for word in words[1:2]]
    if len(words) < 2 or words[0] in _NO_MODELS or not all(map(_NAME.fullmatch, words[:2])):
        return Address()
    is_file = len(words) > 4 and words[2] in ("blob", "resolve", "raw")
    file = "/".join(words[4:]) if is_file else "/".join(words[2:]) if parts.scheme == "hf" else ""
    return Address("/".join(words[:2]), file or None)
