"""Files of a dataset out of Hugging Face and ModelScope, through their own clients and into their caches.

The seam to both: no exception of theirs leaves it, nothing is printed, and no message repeats what a server
or a client said, so that no token can slip into one.
"""

import contextlib
import errno
import glob
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fusedata.causes import causes, status_of
from fusedata.errors import FusedataError, HubError, MissingExtraError
from fusedata.quiet import quiet_logger

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Choose = Callable[[Sequence[str]], list[str]]

_COMMIT = re.compile("[0-9a-f]{40}")
_SHA256 = re.compile("[0-9a-f]{64}")
_LOCAL = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM}  # with or without a file name
_KEPT = "What was fetched so far is kept."
_ELSEWHERE = "Check the network, or set the corpus's path or the profile's mirror to a copy on this disk."


def from_huggingface(
    corpus: str, choose: Choose, revision: str | None, cache: Path | None
) -> tuple[str, dict[str, Path]]:
    """The commit that `revision` (default: main) means now, and the chosen files at it by their names.

    `choose` picks from the names of all files. A commit whose files are all in the cache is served without
    network; another revision then by what the cache last knew it as. Raises HubError.
    """
    import huggingface_hub as hub

    def cached(name: str) -> Path | None:
        path = hub.try_to_load_from_cache(corpus, name, cache_dir=cache, revision=commit, repo_type="dataset")
        return Path(path) if isinstance(path, str) else None

    api = hub.HfApi()  # before _quiet: the client sets its logger's level when this is imported
    with _seam("Hugging Face", "hf auth login", corpus, revision), _without_bars(), quiet_logger("huggingface_hub"):
        commit = api.resolve_revision(corpus, repo_type="dataset", revision=revision, cache_dir=cache).resolved
        chosen = choose(_tree(api, corpus, commit, cache))
        if new := [name for name in chosen if cached(name) is None]:
            patterns = [glob.escape(name) for name in new]
            hub.snapshot_download(
                corpus, repo_type="dataset", revision=commit, cache_dir=cache, allow_patterns=patterns
            )
        found = {name: path for name in chosen if (path := cached(name))}
        for name in new:
            _check_blob(corpus, name, found[name])
    return commit, found


def from_modelscope(
    corpus: str, choose: Choose, revision: str | None, cache: Path | None
) -> tuple[str, dict[str, Path]]:
    """The state of `revision` (default: master), and the chosen files at it by their names.

    ModelScope's client tells no commit for a branch, so the state is "BRANCH@sha256:…" over names and hashes
    of the chosen files; a commit that was asked for stays as it is. The client checks size and SHA-256 of
    each file, cached ones too. Raises HubError; MissingExtraError where the client is not installed.
    """
    try:
        from modelscope_hub import HubApi
    except ImportError:
        raise MissingExtraError("hub", f"Fetching {corpus} from ModelScope") from None
    with _seam("ModelScope", "modelscope login", corpus, revision), quiet_logger("modelscope_hub"), _without_stderr():
        api = HubApi()
        listed = {file.path: file for file in api.list_repo_files(corpus, "dataset", revision=revision)}
        found, state = {}, hashlib.sha256()
        for name in choose([name for name, file in listed.items() if not file.is_dir]):
            size, digest = listed[name].size or None, listed[name].sha256 or None
            path = Path(
                api.download_file(
                    corpus,
                    "dataset",
                    name,
                    revision=revision,
                    cache_dir=cache,
                    expected_sha256=digest,
                    file_size=size,
                )
            )
            found[name] = path
            state.update(f"{digest or _sha256(path)}  {name}\n".encode())
    if revision and _COMMIT.fullmatch(revision):
        return revision, found
    return f"{revision or 'master'}@sha256:{state.hexdigest()}", found


def _tree(api: "HfApi", corpus: str, commit: str, cache: Path | None) -> list[str]:
    """The names of all files at a commit: from the cache, since a commit never changes, else from the hub."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError
    from huggingface_hub.hf_api import RepoFile

    try:
        entries = get_cached_repo_tree(corpus, repo_type="dataset", revision=commit, cache_dir=cache)
        return [entry.path for entry in entries]
    except CachedRepoTreeNotFoundError:
        tree = api.list_repo_tree(corpus, repo_type="dataset", revision=commit, recursive=True)
        return [entry.path for entry in tree if isinstance(entry, RepoFile)]


def _check_blob(corpus: str, name: str, path: Path) -> None:
    """Hold a new file to its SHA-256, which the cache names large files by and the client does not compare."""
    blob = path.resolve()
    if _SHA256.fullmatch(blob.name) and _sha256(blob) != blob.name:
        blob.unlink()
        path.unlink(missing_ok=True)
        raise HubError(f"Hugging Face sent {corpus}, file {name}, with other content than it lists. Run again.")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def _seam(hub: str, login: str, corpus: str, revision: str | None) -> Iterator[None]:
    try:
        yield
    except FusedataError:
        raise
    except Exception as error:  # noqa: BLE001  # two clients, two HTTP libraries under them: nothing may leave
        what = f"{corpus} at revision {revision}" if revision else corpus
        raise HubError(_sentence(hub, login, what, error)) from None


def _sentence(hub: str, login: str, what: str, error: BaseException) -> str:
    """What went wrong, by kinds and numbers only: never the error's own words."""
    chain = list(causes(error))
    kinds = {kind.__name__ for link in chain for kind in type(link).__mro__}
    if code := next(filter(None, map(status_of, chain)), 0):
        return _answer(hub, login, what, code)
    for link in chain:
        if isinstance(link, OSError) and link.errno and (link.errno in _LOCAL or link.filename):
            return f"{what} cannot be stored in the cache: {os.strerror(link.errno)}. Make room, or set another cache."
    if "OfflineModeIsEnabled" in kinds:
        return f"{what} is not in the cache of {hub}, and HF_HUB_OFFLINE forbids to fetch it. {_ELSEWHERE}"
    if "FileIntegrityError" in kinds or "Consistency check" in str(error):
        return f"{hub} sent a file of {what} with other content or length than it lists. Run again. {_KEPT}"
    if kinds & {"HFValidationError", "InvalidParameter"}:
        return f"{what} is no name of a dataset on {hub}. It must be owner/name."
    return f"{hub} could not be reached for {what} ({type(error).__name__}). {_ELSEWHERE} {_KEPT}"


def _answer(hub: str, login: str, what: str, code: int) -> str:
    """What a hub's refusal with this HTTP status means."""
    access = f"Check the id, accept its terms on its page, and log in with `{login}`."
    if code == 401:  # noqa: PLR2004
        return f"{hub} does not show {what} (401): it is gated or private, or not there. {access}"
    if code == 403:  # noqa: PLR2004
        return f"{hub} forbids to read {what} (403): it is gated or private. {access}"
    if code == 404:  # noqa: PLR2004
        return f"{hub} has no dataset {what}, or not that file (404). Check the id and the revision."
    if code == 429:  # noqa: PLR2004
        return f"{hub} limits requests and refused {what} (429). Wait, or log in with `{login}`. {_KEPT}"
    fault = f"failed while it served {what}" if code >= 500 else f"refused {what}"  # noqa: PLR2004
    return f"{hub} {fault} ({code}). Run again later. {_KEPT}"


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """Hugging Face's progress bars off, unless its own environment variable asks for them."""
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    with contextlib.nullcontext() if constants.HF_HUB_DISABLE_PROGRESS_BARS is not None else disable_progress_bars():
        yield


def _without_stderr() -> contextlib.redirect_stderr[io.StringIO]:
    """ModelScope's client draws its bars on stderr and has no switch for them."""
    return contextlib.redirect_stderr(io.StringIO())
