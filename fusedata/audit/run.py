"""Checks on a run: that its funnel adds up, and that its datasets say what its tables say."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from fusedata.audit.report import Example, Finding, Severity
from fusedata.candidates import run_tables
from fusedata.dataset import placed
from fusedata.readers import KINDS, expected, published, recipe_of, settled
from fusedata.schema import DROPPED
from fusedata.store import Run, count, read_prompts


def run_findings(run: Run) -> list[Finding]:
    """Make every check on a run's tables. Raises RunError where one cannot be read."""
    return settled(lambda: list(_findings(run)))


def _findings(run: Run) -> Iterator[Finding]:
    recipe, prompts = recipe_of(run), read_prompts(run)
    found, selection, places = placed(run_tables(run, prompts), recipe)
    yield funnel(run, places)
    yield from _up_to_date(run.root, expected(recipe, found, selection, places))
    yield _stand_ins(run)


def funnel(run: Run, places: pl.DataFrame) -> Finding:
    """Hold what went in to what came out: every prompt feeds a dataset or has a reason, and is published so."""
    folders = [run.root / "dataset" / kind for kind in KINDS]
    out = [published(folder, kind)["prompt_id"] for folder, kind in zip(folders, KINDS, strict=True)]
    fed, dropped = pl.concat(out).n_unique(), places.filter(pl.col("dropped").is_not_null()).height
    collected = run.parts("dropped", "", DROPPED)
    before = count(collected.scan(), collected)
    told = f"{places.height:,} prompts = {fed:,} published + {dropped:,} dropped after sampling"
    if places.height == fed + dropped:
        return Finding("funnel", "ok", f"{told} ({before:,} rows were dropped before)", "", 0, places.height)
    wrong = f"{places.height:,} prompts, but {fed:,} are published and {dropped:,} dropped; build again"
    return Finding("funnel", "error", wrong, "", abs(places.height - fed - dropped), places.height)


def _up_to_date(root: Path, wanted: dict[str, pl.DataFrame]) -> Iterator[Finding]:
    """Hold each dataset's keys, rewards and splits to what the tables give now."""
    for kind, rows in wanted.items():
        own = published(root / "dataset" / kind, kind)
        other = pl.concat([rows.join(own, on=rows.columns, how="anti", nulls_equal=True), _strange(rows, own)])
        message = "rows of the dataset and of the run's tables differ (keys, rewards or splits); build again"
        examples = tuple(Example(row["split"], -1, row["prompt_id"]) for row in other.head(5).iter_rows(named=True))
        severity: Severity = "error" if other.height else "ok"
        yield Finding("lineage", severity, message, kind, other.height, rows.height, {}, examples)


def _strange(rows: pl.DataFrame, own: pl.DataFrame) -> pl.DataFrame:
    return own.join(rows, on=rows.columns, how="anti", nulls_equal=True)


def _stand_ins(run: Run) -> Finding:
    replaced = run.state.get("stand_ins") or []
    names = ", ".join(str(entry[0]) for entry in replaced[:5])
    message = f"the profile replaced parts of the recipe: {names}" if replaced else "nothing of the recipe was replaced"
    return Finding("stand-ins", "warning" if replaced else "ok", message, "", len(replaced))
