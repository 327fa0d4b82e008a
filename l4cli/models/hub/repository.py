"""Looks up a commit of a repository on the Hub, and its files."""

from __future__ import annotations

from collections.abc import Callable

from convert.names import is_commit, is_path_inside
from l4cli.errors import HubError
from l4cli.models.hub.answers import RepoInfo, repo_info
from l4cli.models.hub.errors import be_quiet, told
from l4cli.models.hub.headers import check_every_answer

OnBytes = Callable[[str, int], None]  # a file's name, and how many bytes of it have just arrived


def look_up(repo: str, revision: str | None, again: str = "try again") -> RepoInfo:
    """Return the Hub's information about a commit, tag or branch, with the sizes of its files.

    revision: the commit, tag or branch; None is `main`.
    again: says in HubError how to continue once the connection works again.
    """
    be_quiet()
    check_every_answer()
    where = f"{repo} at {revision}" if revision else repo
    if revision is not None and not is_path_inside(revision):
        raise HubError(f"{revision!r} cannot be a revision: give a commit, tag or branch")
    with told(where, again):
        info = repo_info(repo, revision)
    if not is_commit(info.sha):
        raise HubError(f"{where}: the Hub states {info.sha!r} as its commit, which is none")
    return info
