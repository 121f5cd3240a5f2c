"""What the run of a mixture has done: each of its recipes, and the whole. A reader: no lock, nothing written."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from fusedata.ledger import Difference
from fusedata.mixing import together
from fusedata.mixture import is_mixture
from fusedata.readers import KINDS, published, settled
from fusedata.status import Published, Status, status
from fusedata.store import Run, read_run


@dataclass(frozen=True)
class MixtureStatus:
    """The state of a mixture's run; a recipe that was not begun has no status.

    `left` counts the rows that are left to do, None where a recipe was not begun or does not know. `repeated` counts,
    for each recipe, the prompts that were left to an earlier one. `dataset` is the whole one.
    """

    run: Path
    recipe: str
    description: str
    profile: str
    fusedata: str
    limit: int | None
    recipes: Mapping[str, Status | None]
    stand_ins: tuple[Difference, ...]
    left: int | None
    repeated: Mapping[str, int]
    dataset: Published | None
    next: tuple[str, ...]


def status_of(root: Path) -> Status | MixtureStatus:
    """Read the state of the run in `root`, a recipe's or a mixture's. Raises RunError."""
    return settled(lambda: _mixture_status(read_run(root))) if is_mixture(read_run(root)) else status(root)


def _mixture_status(run: Run) -> MixtureStatus:
    state = run.state["recipe"]
    begun = [name for name in state["recipes"] if (run.root / name / "run.json").is_file()]
    found = {name: status(run.root / name) if name in begun else None for name in state["recipes"]}
    rows = {name: {kind: published(run.root / name / "dataset" / kind, kind) for kind in KINDS} for name in begun}
    frames = [{name: rows[name][kind] for name in begun} for kind in KINDS]
    wanted, repeated = together(frames) if begun else ([], {})
    dataset = _whole(run, found, dict(zip(KINDS, wanted, strict=False)))
    lefts = [part.left if part else None for part in found.values()]
    return MixtureStatus(
        run=run.root,
        recipe=state["name"],
        description=state["description"],
        profile=run.state["profile"],
        fusedata=run.state["fusedata"],
        limit=state["limit"],
        recipes=found,
        stand_ins=tuple((f"{n}: {k}", a, b) for n, part in found.items() if part for k, a, b in part.stand_ins),
        left=None if None in lefts else sum(left or 0 for left in lefts),
        repeated=repeated,
        dataset=dataset,
        next=_next(run, found, dataset),
    )


def _whole(run: Run, found: Mapping[str, Status | None], wanted: Mapping[str, pl.DataFrame]) -> Published | None:
    """Compare the whole dataset with those of the recipes."""
    folder = run.root / "dataset"
    if not folder.is_dir():
        return None
    rows = {kind: published(folder / kind, kind) for kind in KINDS}
    same = all(kind in wanted and _sorted(rows[kind]).equals(_sorted(wanted[kind].drop("recipe"))) for kind in KINDS)
    behind = [name for name, part in found.items() if part is None or part.dataset is None or part.dataset.stale]
    stale = (*(f"{name} is not up to date" for name in behind), *(() if same else ("the recipes give other rows",)))
    splits = {k: dict(sorted(frame["split"].value_counts().iter_rows(), reverse=True)) for k, frame in rows.items()}
    near = sum(part.dataset.near_limits for part in found.values() if part and part.dataset)
    return Published(splits["sft"], splits["dpo"], stale, near)


def _sorted(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.sort(rows.columns)


def _next(run: Run, found: Mapping[str, Status | None], dataset: Published | None) -> tuple[str, ...]:
    look = f"fusedata inspect {shlex.quote(str(run.root))}"
    failed = any(progress.failed for part in found.values() if part for progress in part.progress)
    if dataset and not dataset.stale and not failed:
        return (look,)
    state = run.state["recipe"]
    name, profile = run.state.get("typed") or (state["name"], run.state["profile"])
    limit = ["--limit", str(state["limit"])] if state["limit"] else []
    build = shlex.join(["fusedata", "build", name, "--profile", profile, *limit, "--out", str(run.root)])
    return (build, look) if dataset else (build,)
