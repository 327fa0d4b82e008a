"""Checks that a small file in the Hub's cache is the one that the Hub has under its name.

huggingface_hub stores a file under the ETag of the answer. A server that states one ETag for all
files, or an old one for a new file, would have one file's content stand under the name of another.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from l4cli.errors import HubError
from l4cli.models.hub.answers import RepoFile


def check_content(repo: str, file: RepoFile, path: Path) -> None:
    """Raise HubError, and take the name away, unless `path` has the content of the Hub's file."""
    data = path.read_bytes()
    if file.lfs:
        is_same = hashlib.sha256(data).hexdigest() == file.lfs.sha256
    elif file.blob_id:
        git = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False)
        is_same = git.hexdigest() == file.blob_id
    else:
        is_same = file.size in (None, len(data))
    if not is_same:
        path.unlink()  # the link: nothing else shall take this content for the file
        raise HubError(
            f"{repo}: {file.rfilename}: its content is not what the Hub lists; if that happens "
            "again, the server confuses files (does it state one ETag for several?): is "
            "HF_ENDPOINT right?"
        )
