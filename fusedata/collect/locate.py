"""Where a corpus is: a folder, a folder in the hub's layout, Hugging Face or ModelScope."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fusedata.errors import CorpusError

SUFFIXES = (".parquet", *(f".{kind}{packed}" for kind in ("jsonl", "ndjson", "json") for packed in ("", ".gz", ".zst")))
"""The endings of the files that `collect.read` reads."""

_USUAL_FOLDERS = ("", "data/", "default/")
_LISTED = 8


@dataclass(frozen=True)
class CorpusFile:
    """One file of a corpus, and the words for what is wrong with it."""

    corpus: str
    name: str
    path: Path

    def error(self, found: str, *, at: str = "", do: str = "") -> CorpusError:
        """The error that says which corpus, which file, where in it, what was found and what to do."""
        where = f", {at}" if at else ""
        return CorpusError(f"Corpus {self.corpus}, file {self.name}{where}: {found}.{' ' if do else ''}{do}")


@dataclass(frozen=True)
class Located:
    """The files of one split of a corpus, on this disk, and the exact state that they are.

    `origin` is "folder", "huggingface" or "modelscope". `revision` is the hub's commit, or for a folder
    "sha256:…" over names and contents of the chosen files. `names` are the files' names within the
    corpus, sorted, with forward slashes; `files` are the local paths in the same order.
    """

    id: str
    origin: str
    revision: str
    files: tuple[Path, ...]
    names: tuple[str, ...]

    def parts(self) -> tuple[CorpusFile, ...]:
        """The files, each with the names that messages about it need."""
        return tuple(CorpusFile(self.id, name, path) for name, path in zip(self.names, self.files, strict=True))


def locate(
    id: str,  # noqa: A002  # the word of the recipe
    *,
    files: Sequence[str],
    split: str,
    path: Path | None = None,
    mirror: Path | None = None,
    hub: Literal["huggingface", "modelscope"] = "huggingface",
    modelscope_id: str | None = None,
    revision: str | None = None,
    cache: Path | None = None,
) -> Located:
    """The corpus `id` on this disk, fetched from its hub unless it is here.

    Looked for in this order: `path` (a folder, or a single file); `mirror`/"org__name", a folder in the
    hub's layout; the hub. `files` are glob patterns inside the corpus; when there are none, the files of
    `split` are chosen by name (see `choose`). `revision` and `cache` matter for hubs only.

    Raises CorpusError when the corpus or the files are not there, HubError when a hub refuses or does not
    answer, MissingExtraError when ModelScope is asked for and its client is not installed.
    """
    if path is not None:
        return _in_folder(id, path.expanduser(), files, split)
    twin = mirror.expanduser() / id.replace("/", "__") if mirror is not None else None
    if twin is not None and twin.exists():
        return _in_folder(id, twin, files, split)
    from fusedata.collect import hubs  # noqa: PLC0415  # a corpus on this disk needs no hub client

    fetch = hubs.from_modelscope if hub == "modelscope" else hubs.from_huggingface
    source = modelscope_id or id if hub == "modelscope" else id
    commit, found = fetch(source, lambda names: choose(id, names, files, split), revision, cache)
    return Located(id, hub, commit, tuple(found.values()), tuple(found))


def choose(corpus: str, names: Sequence[str], patterns: Sequence[str], split: str) -> list[str]:
    """The names, sorted, that match a pattern; without patterns, the files of `split` as hubs name them.

    A pattern matches whole names; `*` stops at a slash, `**` does not. By name means `SPLIT.ext`, `SPLIT-….ext`,
    or either in one folder: the root before data/ before default/ before the only other folder that has some.
    Raises CorpusError when nothing matches, a pattern matches nothing, or several folders have the split.
    """
    if patterns:
        matches = {pattern: set(filter(_rule(pattern).fullmatch, names)) for pattern in patterns}
        chosen = sorted(set().union(*matches.values())) if all(matches.values()) else []
        wanted = ", ".join(pattern for pattern in patterns if not matches[pattern])
    else:
        chosen = _of_split(corpus, names, split)
        wanted = f"{split}.* or {split}-*.* ending in .parquet, .jsonl, .ndjson or .json (with .gz or .zst)"
    if not chosen:
        raise CorpusError(f"Corpus {corpus} has no file {wanted}. {_there(names)} Set `files` to the ones you want.")
    return chosen


def _rule(pattern: str) -> re.Pattern[str]:
    """The glob pattern as a regular expression over whole names."""
    wild = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*\*/|\*\*|\*|\?)", pattern.removeprefix("./"))
    return re.compile("".join(wild.get(piece, re.escape(piece)) for piece in pieces))


def _of_split(corpus: str, names: Sequence[str], split: str) -> list[str]:
    """The files of the split in the first of the usual folders that has some, else in the only folder that has."""
    named = re.compile(rf"(?P<folder>(?:.*/)?){re.escape(split)}(?:-[^/]*)?(?:{'|'.join(map(re.escape, SUFFIXES))})")
    folders: dict[str, list[str]] = {}
    for name in sorted(names):
        if match := named.fullmatch(name):
            folders.setdefault(match["folder"], []).append(name)
    for folder in _USUAL_FOLDERS:
        if folder in folders:
            return folders[folder]
    if len(folders) > 1:
        listed = ", ".join(sorted(folders))
        raise CorpusError(f"Corpus {corpus} has the split {split} in several folders: {listed}. Set `files` to one.")
    return next(iter(folders.values()), [])


def _there(names: Sequence[str]) -> str:
    if not names:
        return "It has no files at all."
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"It has {', '.join(sorted(names)[:_LISTED])}{more}."


def _in_folder(corpus: str, folder: Path, patterns: Sequence[str], split: str) -> Located:
    try:
        if folder.is_file():
            found = {folder.name: folder}
        elif folder.is_dir():
            found = _listed(folder)
            found = {name: found[name] for name in choose(corpus, list(found), patterns, split)}
        else:
            raise CorpusError(f"Corpus {corpus} is not at {folder}: there is no such file or folder. Check the path.")
        revision = _digest(found)
    except OSError as error:
        raise CorpusError(f"Corpus {corpus} at {folder} cannot be read ({error}).") from None
    return Located(corpus, "folder", revision, tuple(found.values()), tuple(found))


def _listed(folder: Path) -> dict[str, Path]:
    """Every file below the folder by its name in it; hidden ones are not part of a corpus."""
    named = ((file.relative_to(folder), file) for file in folder.rglob("*") if file.is_file())
    return {name.as_posix(): file for name, file in named if not any(part.startswith(".") for part in name.parts)}


def _digest(found: dict[str, Path]) -> str:
    """A hash over names and contents that a renamed, changed, added or missing file changes."""
    whole = hashlib.sha256()
    for name, path in found.items():
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        whole.update(f"{content}  {name}\n".encode())
    return f"sha256:{whole.hexdigest()}"
