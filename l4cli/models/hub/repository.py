"""A repository on the Hub: the commit that is meant, and its files."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from l4cli.models.hub.errors import be_quiet, told

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

OnBytes = Callable[[str, int], None]  # a file's name, and how many more bytes of it are here


def look_up(repo: str, revision: str | None, again: str = "try again") -> ModelInfo:
    """What the Hub says of a commit, tag or branch; the files with sizes.

    Raises HubError, which tells how to go on when the connection is mended: `again`.
    """
    from huggingface_hub import HfApi

    be_quiet()
    with told(f"{repo} at {revision}" if revision else repo, again):
        return HfApi().model_info(repo, revision=revision, files_metadata=True)
