"""Mixtures under audit: each recipe's rows are held to its own recipe, each recipe's run is checked as any."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import polars as pl

from fusedata.audit.expected import recipe_in
from fusedata.audit.report import Finding
from fusedata.audit.run import run_findings
from fusedata.mixture import is_mixture
from fusedata.mixture_status import status_of
from fusedata.recipe import Recipe
from fusedata.sources import Dataset
from fusedata.store import Run, read_run

PLACE = ["split", "row"]


def member_runs(source: str | Path) -> dict[str, Run]:
    """Give the runs of a mixture's recipes, by name; empty where `source` is no run of a mixture. Raises RunError."""
    root = Path(source).expanduser()
    if not (root / "run.json").is_file() or not is_mixture(run := read_run(root)):
        return {}
    names = run.state["recipe"]["recipes"]
    return {name: read_run(root / name) for name in names if (root / name / "run.json").is_file()}


def recipes_of(dataset: Dataset) -> dict[str, Recipe]:
    """Give the recipes that lie in the folder of a mixture's dataset, by name; empty: it is none of a mixture."""
    if "recipe" not in dataset.stored.collect_schema():
        return {}
    found = {path.parent.name: recipe_in(path.parent) for path in sorted(dataset.folder.glob("recipes/*/recipe.toml"))}
    return {name: recipe for name, recipe in found.items() if recipe}


def rows_of(dataset: Dataset, recipe: str, rows: pl.LazyFrame) -> pl.LazyFrame:
    """Keep those of `rows`, which have a split and a row, that `recipe` made."""
    own = dataset.stored.filter(pl.col("recipe") == recipe).select(PLACE)
    return rows.join(own, on=PLACE, how="semi", maintain_order="left")


def mixture_findings(root: Path, parts: Mapping[str, Run]) -> Iterator[Finding]:
    """Check the run of each recipe, and that the whole is what they add up to. Raises RunError."""
    for name, run in parts.items():
        for finding in run_findings(run):
            yield replace(finding, dataset=f"{name}/{finding.dataset}".rstrip("/"))
    whole = status_of(root).dataset
    stale = whole.stale if whole else ("there is no dataset",)
    message = f"{'; '.join(stale)}; build again" if stale else "the rows of the whole are those of its recipes"
    yield Finding("lineage", "error" if stale else "ok", message, count=len(stale))
