"""Pushing to ModelScope, through the pieces that its client's own `upload_folder` is made of.

Not through `upload_folder` itself: it commits in batches and takes old files away in a commit of its own (between the
two a reader would load old and new files together), makes a missing repository public, and prints a report.
"""

import base64
import contextlib
import io
import re
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from fusedata.errors import HubError, MissingExtraError
from fusedata.plan import Advance
from fusedata.publish.protocol import Listed, Repo
from fusedata.publish.refusals import Login, seam
from fusedata.publish.release import Local, RepoKind
from fusedata.quiet import quiet_logger

_LOGIN = Login("ModelScope", "modelscope login", "MODELSCOPE_API_TOKEN")
_BRANCH = "master"
_INLINE = 64 << 10
_STORED = (".parquet", ".safetensors", ".model")
"""Larger files, and these of any size, go to the hub's storage rather than into the commit: the client's own rule."""
_TRIES = 3
_WAIT = 2.0
"""Seconds before a large file is sent a second time; twice as long before the third."""
_COMMIT = re.compile("[0-9a-f]{40}")


class ModelScope:
    """The hub at `endpoint` (default: the client's own), as the account of MODELSCOPE_API_TOKEN or the login."""

    name = _LOGIN.hub

    def __init__(self, endpoint: str | None = None, kind: RepoKind = "dataset") -> None:
        """Open nothing yet. Raises MissingExtraError where the client is not installed."""
        self.kind = kind
        try:
            from modelscope_hub import HubApi
            from modelscope_hub.config import HubConfig
        except ImportError:
            raise MissingExtraError("hub", "Pushing to ModelScope") from None
        with _quiet("its configuration"):
            self._config = HubConfig(endpoint=endpoint)
            self._api = HubApi(self._config)

    def account(self) -> str:
        """Give the account's name."""
        if not self._config.token:
            raise HubError(f"There is no token for ModelScope. {_LOGIN.advice}")
        with _quiet("the account"):
            return str(self._api.whoami().username or "")

    def url(self, repo: str) -> str:
        """Give the page of a repository."""
        return f"{self._config.endpoint}/{self.kind}s/{repo}"

    def look(self, repo: str) -> Repo | None:
        """Give a repository as it stands. Its revision is the branch: the client tells no commit for one."""
        from modelscope_hub.constants import Visibility
        from modelscope_hub.errors import NotExistError

        with _quiet(repo):
            try:
                info = self._api.get_repo(repo, self.kind)
            except NotExistError:
                return None
            return Repo(_BRANCH, info.visibility != Visibility.PRIVATE, self.files(repo, _BRANCH))

    def create(self, repo: str, license_: str, *, public: bool) -> None:
        """Make a repository."""
        visibility = "public" if public else "private"
        with _quiet(repo):
            self._api.create_repo(repo, self.kind, visibility=visibility, license=license_)

    def files(self, repo: str, revision: str) -> dict[str, Listed]:
        """List all files at a branch, tag or commit."""
        with _quiet(repo):
            listed = self._api.list_repo_files(repo, self.kind, revision=revision)
            return {file.path: Listed(file.size, sha256=file.sha256 or None) for file in listed if not file.is_dir}

    def read(self, repo: str, revision: str, name: str) -> bytes:
        """Fetch one file, past the cache."""
        with _quiet(repo), tempfile.TemporaryDirectory() as folder:
            path = self._api.download_file(repo, self.kind, name, revision=revision, cache_dir=Path(folder))
            return Path(path).read_bytes()

    def layout(self, files: Mapping[str, Local]) -> Mapping[str, Local]:
        """Show the Chinese card first, where there is one; the English one stands beside it."""
        if "README_zh.md" not in files:
            return files
        cards = {"README.md": files["README_zh.md"], "README_en.md": files["README.md"]}
        return {name: local for name, local in files.items() if name != "README_zh.md"} | cards

    def commit(
        self,
        repo: str,
        parent: str,  # noqa: ARG002 - this hub's commits name none
        files: Mapping[str, Local],
        gone: Collection[str],
        message: str,
        advance: Advance,
    ) -> str:
        """Commit to the branch; the branch's name stands for the commit where the hub does not tell it."""
        with _quiet(repo):
            large = {name: local for name, local in files.items() if _is_large(name, local)}
            for name, local in files.items():
                if name in large:
                    self._send(repo, local)
                advance(1)
            actions = [_added(name, local, large=name in large) for name, local in files.items()]
            actions += [_action("delete", name, 0) for name in gone]
            answer = self._api.legacy.create_commit(repo, self.kind, actions, message, _BRANCH)
        told = answer.values() if isinstance(answer, dict) else ()
        return next((value for value in told if isinstance(value, str) and _COMMIT.fullmatch(value)), _BRANCH)

    def _send(self, repo: str, local: Local) -> None:
        """Send one file to the hub's storage, unless it is there."""
        from modelscope_hub.errors import HubError as ClientError

        for tried in range(1, _TRIES + 1):
            try:
                objects = [{"oid": local.sha256, "size": local.size}]
                url = self._api.legacy.validate_blobs(repo, self.kind, objects).get(local.sha256)
                if url:
                    with local.path.open("rb") as file:
                        self._api.legacy.upload_blob(url, file, local.size)
            except ClientError as error:
                if not error.retryable or tried == _TRIES:
                    raise
                time.sleep(_WAIT * tried)
            else:
                return

    def tags(self, repo: str) -> set[str]:
        """List the tags' names."""
        with _quiet(repo):
            _, tags = self._api.legacy.list_revisions_detail(repo, self.kind)
            return {str(tag["Revision"]) for tag in tags}

    def tag(self, repo: str, name: str, revision: str) -> None:
        """Name a revision."""
        with _quiet(repo):
            self._api.create_repo_tag(repo, self.kind, name, revision=revision)


def _is_large(name: str, local: Local) -> bool:
    is_card = name.startswith("README") and name.endswith(".md")
    return not is_card and (name.endswith(_STORED) or local.size > _INLINE)


def _added(name: str, local: Local, *, large: bool) -> dict[str, Any]:
    if large:
        return _action("create", name, local.size) | {"type": "lfs", "sha256": local.sha256}
    content = base64.b64encode(local.path.read_bytes()).decode()
    return _action("create", name, local.size) | {"content": content, "encoding": "base64"}


def _action(what: str, name: str, size: int) -> dict[str, Any]:
    return {"action": what, "path": name, "type": "normal", "size": size, "sha256": "", "content": "", "encoding": ""}


@contextlib.contextmanager
def _quiet(what: str) -> Iterator[None]:
    """Let nothing of the client out: no exception, no log line, no bar; it draws those on stderr, without a switch."""
    with seam(_LOGIN, what), quiet_logger("modelscope_hub"), contextlib.redirect_stderr(io.StringIO()):
        yield
