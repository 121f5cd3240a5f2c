"""Pushing to Hugging Face, through huggingface_hub.

Large files go by Xet where hf_xet is installed, by LFS where HF_HUB_DISABLE_XET is set; only the latter is tested.
"""

import contextlib
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fusedata.errors import HubError
from fusedata.plan import Advance
from fusedata.publish.protocol import Listed, Repo
from fusedata.publish.refusals import Login, seam
from fusedata.publish.release import Local, RepoKind
from fusedata.quiet import quiet_logger

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

_LOGIN = Login("Hugging Face", "hf auth login", "HF_TOKEN")
_AT_ONCE = 5
"""Files that travel side by side: the client's own default number of threads."""


class HuggingFace:
    """The hub at `endpoint` (default: HF_ENDPOINT, else huggingface.co), as the account of HF_TOKEN or the login."""

    name = _LOGIN.hub

    def __init__(self, endpoint: str | None = None, kind: RepoKind = "dataset") -> None:
        """Open nothing yet: the first request is made by the first method called."""
        from huggingface_hub import HfApi

        self.kind = kind
        self._api = HfApi(endpoint=endpoint, library_name="fusedata")

    def account(self) -> str:
        """Give the account's name."""
        from huggingface_hub import get_token

        if not get_token():
            raise HubError(f"There is no token for Hugging Face. {_LOGIN.advice}")
        with _quiet("the account"):
            return str(self._api.whoami()["name"])

    def url(self, repo: str) -> str:
        """Give the page of a repository."""
        return f"{self._api.endpoint}/{'datasets/' if self.kind == 'dataset' else ''}{repo}"

    def look(self, repo: str) -> Repo | None:
        """Give a repository as it stands."""
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

        with _quiet(repo):
            try:
                info = self._api.repo_info(repo, repo_type=self.kind)
            except GatedRepoError:
                raise
            except RepositoryNotFoundError:
                return None
            revision = str(info.sha)
            return Repo(revision, not info.private, self.files(repo, revision))

    def create(self, repo: str, license_: str, *, public: bool) -> None:  # noqa: ARG002 - the card tells the licence
        """Make a repository."""
        with _quiet(repo):
            self._api.create_repo(repo, repo_type=self.kind, private=not public)

    def files(self, repo: str, revision: str) -> dict[str, Listed]:
        """List all files at a commit."""
        from huggingface_hub.hf_api import RepoFile

        with _quiet(repo):
            tree = self._api.list_repo_tree(repo, repo_type=self.kind, revision=revision, recursive=True)
            return {entry.path: _listed(entry) for entry in tree if isinstance(entry, RepoFile)}

    def read(self, repo: str, revision: str, name: str) -> bytes:
        """Fetch one file, past the cache."""
        with _quiet(repo), tempfile.TemporaryDirectory() as folder:
            path = self._api.hf_hub_download(repo, name, repo_type=self.kind, revision=revision, local_dir=folder)
            return Path(path).read_bytes()

    def layout(self, files: Mapping[str, Local]) -> Mapping[str, Local]:
        """Give the files as they are."""
        return files

    def commit(
        self, repo: str, parent: str, files: Mapping[str, Local], gone: Collection[str], message: str, advance: Advance
    ) -> str:
        """Commit on top of `parent`; the hub refuses where someone else was faster."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        added = [CommitOperationAdd(name, str(local.path)) for name, local in files.items()]
        removed = [CommitOperationDelete(name, is_folder=False) for name in gone]
        with _quiet(repo):
            for start in range(0, len(added), _AT_ONCE):
                some = added[start : start + _AT_ONCE]
                self._api.preupload_lfs_files(repo, some, repo_type=self.kind, free_memory=False)
                advance(len(some))
            info = self._api.create_commit(
                repo, [*added, *removed], commit_message=message, repo_type=self.kind, parent_commit=parent
            )
            return str(info.oid)

    def tags(self, repo: str) -> set[str]:
        """List the tags' names."""
        with _quiet(repo):
            return {ref.name for ref in self._api.list_repo_refs(repo, repo_type=self.kind).tags}

    def tag(self, repo: str, name: str, revision: str) -> None:
        """Name a commit."""
        with _quiet(repo):
            self._api.create_tag(repo, tag=name, revision=revision, repo_type=self.kind)


def _listed(entry: "RepoFile") -> Listed:
    return Listed(entry.size, sha256=entry.lfs.sha256) if entry.lfs else Listed(entry.size, git=entry.blob_id)


@contextlib.contextmanager
def _quiet(what: str) -> Iterator[None]:
    """Let nothing of the client out: no exception, no log line, no progress bar."""
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    told = constants.HF_HUB_DISABLE_PROGRESS_BARS is not None  # then the client takes no other word
    bars = contextlib.nullcontext() if told else disable_progress_bars()
    with seam(_LOGIN, what), bars, quiet_logger("huggingface_hub"):
        yield
