"""What pushing needs of a hub: the seam between one plan and two clients."""

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from fusedata.plan import Advance
from fusedata.publish.release import Local, RepoKind

Stage = Callable[[str, int | None], AbstractContextManager[Advance]]
"""Hears that something begins, with so many files to do, and gives what is told of progress in it."""


@dataclass(frozen=True)
class Listed:
    """One file as a hub lists it: bytes, and the hash that the hub knows it by, SHA-256 or git's; None: not told."""

    size: int
    sha256: str | None = None
    git: str | None = None


@dataclass(frozen=True)
class Repo:
    """A repository as it stands: the revision of its main branch, and its files there."""

    revision: str
    public: bool
    files: Mapping[str, Listed]


class Hub(Protocol):
    """One hub, through its own client and the user's own login. Every method raises HubError and nothing else.

    All repositories are of one kind, datasets or models.
    """

    name: str
    kind: RepoKind

    def account(self) -> str:
        """Give the name of the account whose token is used; refuse a missing or bad one."""
        ...

    def url(self, repo: str) -> str:
        """Give the address of a repository's page."""
        ...

    def look(self, repo: str) -> Repo | None:
        """Give a repository as it stands; None: there is none, or none that this account may see."""
        ...

    def create(self, repo: str, license_: str, *, public: bool) -> None:
        """Make a repository."""
        ...

    def files(self, repo: str, revision: str) -> Mapping[str, Listed]:
        """List all files at a revision."""
        ...

    def read(self, repo: str, revision: str, name: str) -> bytes:
        """Fetch one small file."""
        ...

    def layout(self, files: Mapping[str, Local]) -> Mapping[str, Local]:
        """Give the files of a repository by the names that they have on this hub."""
        ...

    def commit(
        self, repo: str, parent: str, files: Mapping[str, Local], gone: Collection[str], message: str, advance: Advance
    ) -> str:
        """Send `files` and take away `gone` in one commit, and give its revision.

        Large files travel first, one by one; those that the hub's storage holds already are not sent again. `advance`
        is told of each file that has arrived.
        """
        ...

    def tags(self, repo: str) -> Collection[str]:
        """List the names of all tags."""
        ...

    def tag(self, repo: str, name: str, revision: str) -> None:
        """Name a revision."""
        ...
