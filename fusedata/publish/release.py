"""What is to leave: a dataset folder, its files with their hashes, its rows counted against its own card."""

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from fusedata.errors import RunError
from fusedata.store import first_line

KINDS = ("sft", "dpo")
RepoKind = Literal["dataset", "model"]
_CHUNK = 1 << 20
_FRONT = re.compile(r"\A---\r?\n(.*?\r?\n)---\r?\n", re.DOTALL)
_STAND_INS = "**Made with stand-ins.**"


@dataclass(frozen=True)
class Local:
    """One file on this disk, with the two hashes that hubs know files by."""

    path: Path
    size: int
    sha256: str
    git: str


@dataclass(frozen=True)
class Release:
    """One dataset, or one trained model, whole and consistent: what is pushed to one repository."""

    folder: Path
    kind: str
    """"sft" or "dpo": of a model the stage that it went through last."""
    recipe: str
    """What made it: a recipe's name, of a model its target's."""
    license: str
    stand_ins: bool
    rows: Mapping[str, int]
    """Rows a split, read from the footers of the Parquet files."""
    files: Mapping[str, Local]
    holds: RepoKind = "dataset"

    @property
    def tag(self) -> str:
        """Name this release by its content: "data-" or "model-", and 12 digits of a SHA-256 over names and hashes."""
        lines = "".join(f"{local.sha256}  {name}\n" for name, local in sorted(self.files.items()))
        return f"{self.holds.removesuffix('set')}-{hashlib.sha256(lines.encode()).hexdigest()[:12]}"


def find_datasets(path: Path) -> list[Path]:
    """Give the dataset folders of a run, of a folder with sft/ and dpo/, or `path` itself. Raises RunError."""
    root = path / "dataset" if (path / "run.json").is_file() else path
    found = [root / kind for kind in KINDS if (root / kind / "data").is_dir()]
    found = found or ([root] if (root / "data").is_dir() else [])
    if not found:
        raise RunError(f"{path} holds no dataset: neither a finished run, nor a folder with sft/, dpo/ or data/.")
    return found


def run_of(path: Path) -> Path | None:
    """Give the run that a dataset folder lies in; None: it stands by itself."""
    return next((root for root in (path, *path.absolute().parents[:2]) if (root / "run.json").is_file()), None)


def recipe_name(folder: Path) -> str:
    """Give the name of the recipe that a dataset folder was made by. Raises RunError."""
    path = folder / "recipe.toml"
    try:
        return str(tomllib.loads(path.read_text(encoding="utf-8"))["name"])
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{path} cannot be read ({first_line(error)}): it is no dataset that fusedata wrote.") from error


def read_release(folder: Path) -> Release:
    """Read one dataset folder. Raises RunError: not one that fusedata wrote, or its data, card and checksums differ."""
    try:
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        local = {name: hashed(path) for name, path in files.items() if not _hidden(name)}
        for name in ("README.md", "recipe.toml", "checksums.json"):
            if name not in local:
                raise RunError(f"{folder} has no {name}: it is no dataset that fusedata wrote. Build it again.")
        readme = files["README.md"].read_text(encoding="utf-8")
        sums = orjson.loads(files["checksums.json"].read_bytes())
        rows, columns = _counted(folder, files)
        card = front_matter(readme)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise RunError(f"{folder}: cannot be read as a dataset ({first_line(error)}). Build it again.") from error
    _check(folder, local, sums, rows, card)
    license_ = str(card.get("license", "other"))
    stand_ins = _STAND_INS in readme
    return Release(folder, _kind(folder, columns), recipe_name(folder), license_, stand_ins, rows, local)


def front_matter(readme: str) -> dict[str, Any]:
    """Give the metadata at the top of a card; empty where there is none that can be read."""
    found = _FRONT.match(readme)
    try:
        data = yaml.safe_load(found[1]) if found else {}
    except yaml.YAMLError:
        return {}
    return data if isinstance(data, dict) else {}


def kind_of_card(card: Mapping[str, Any]) -> str | None:
    """Say which of the two datasets a card's features describe; None: neither can be told."""
    info = card.get("dataset_info")
    features = info.get("features") if isinstance(info, dict) else None
    names = {str(feature.get("name")) for feature in features or () if isinstance(feature, dict)}
    return _kind_of(names)


def _kind(folder: Path, columns: set[str]) -> str:
    kind = _kind_of(columns)
    if kind is None:
        raise RunError(f"{folder}: its rows have neither `messages` nor `chosen` and `rejected`: it cannot be pushed.")
    return kind


def _kind_of(names: set[str]) -> str | None:
    return "dpo" if {"chosen", "rejected"} <= names else "sft" if "messages" in names else None


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def hashed(path: Path) -> Local:
    """Hash one file."""
    size = path.stat().st_size
    sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            sha256.update(chunk)
            git.update(chunk)
    return Local(path, size, sha256.hexdigest(), git.hexdigest())


def _counted(folder: Path, files: Mapping[str, Path]) -> tuple[dict[str, int], set[str]]:
    """Count rows a split by the footers alone, and name the columns that all files share."""
    rows: dict[str, int] = {}
    columns: list[set[str]] = []
    for name, path in files.items():
        if name.startswith("data/") and name.endswith(".parquet"):
            footer = pq.read_metadata(path)
            split = path.name.split("-")[0]
            rows[split] = rows.get(split, 0) + footer.num_rows
            columns.append(set(footer.schema.to_arrow_schema().names))
    if not columns:
        raise RunError(f"{folder} holds no Parquet file under data/: build it first.")
    return rows, set.intersection(*columns)


def _check(folder: Path, local: Mapping[str, Local], sums: Any, rows: dict[str, int], card: Mapping[str, Any]) -> None:  # noqa: ANN401 - JSON
    """Hold data files to checksums.json, and the counts of their footers to the card."""
    known = sums if isinstance(sums, dict) else {}
    data = {name for name in {*local, *known} if name.startswith("data/")}
    for name in sorted(data):
        if name not in local or known.get(name) != local[name].sha256:
            raise RunError(f"{folder / name} is not the file that checksums.json names. Build the dataset again.")
    info = card.get("dataset_info")
    splits = info.get("splits") if isinstance(info, dict) else None
    told = {str(s.get("name")): int(s.get("num_examples", 0)) for s in splits or () if isinstance(s, dict)}
    if told != rows:
        raise RunError(f"{folder}: its card tells {_told(told)}, its Parquet files hold {_told(rows)}. Build it again.")


def _told(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{count} rows in {split}" for split, count in rows.items()) or "no rows"
