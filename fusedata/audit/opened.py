"""What is under audit, opened: datasets, each with the recipe that its rows are held to, and the runs behind them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl

from fusedata.audit.expected import recipe_in
from fusedata.audit.mixture import PLACE, member_runs, mixture_findings, recipes_of, rows_of
from fusedata.audit.recheck import NAME, recheck_findings
from fusedata.audit.report import Finding
from fusedata.audit.run import run_findings
from fusedata.audit.sets import Checked
from fusedata.readers import recipe_of, settled
from fusedata.recipe import Recipe
from fusedata.sources import Dataset, Hub, open_datasets
from fusedata.store import Run, collect


@dataclass(frozen=True)
class Source:
    """What one name stands for: its datasets, and its run where it is one, or those of a mixture's recipes."""

    name: str | Path
    datasets: Sequence[Dataset]
    run: Run | None
    parts: Mapping[str, Run]

    def runs(self) -> dict[str, Run]:
        """Give the run of a recipe by the name "", or those of a mixture by the names of its recipes."""
        return {**self.parts} if self.run is None else {"": self.run}

    def with_recipes(self) -> Iterator[tuple[Dataset, dict[str, Recipe]]]:
        """Give each dataset with the recipe of its rows by the name "", or those of a mixture by theirs."""
        own = recipe_of(self.run) if self.run else None
        for dataset in self.datasets:
            one = own or recipe_in(dataset.folder)
            yield dataset, {"": one} if one else recipes_of(dataset)

    def findings(self, *, recheck: bool) -> Iterator[Finding]:
        """Check the tables of its run or runs, and judge its answers again where that is asked for."""
        if self.run:
            yield from run_findings(self.run)
        if self.parts:
            yield from mixture_findings(Path(self.name).expanduser(), self.parts)
        if not recheck:
            return
        if not self.runs():
            yield Finding(NAME, "skipped", f"gold answers and tests are in runs only, and {self.name} is none")
        for part, run in self.runs().items():
            own = {f"{d.name}: {part}" if part else d.name: d for d in self.datasets}
            rows = {name: (d.kind, rows_of(d, part, d.rows) if part else d.rows) for name, d in own.items()}
            yield from recheck_findings(run, rows)


def open_source(name: str | Path, *, hub: Hub, revision: str | None, cache: Path | None) -> Source:
    """Open what a user named. Raises RunError, CorpusError, HubError."""
    return Source(name, *open_datasets(name, hub=hub, revision=revision, cache=cache), member_runs(name))


def runs_of(sources: Sequence[Source]) -> dict[str, Run]:
    """Give all runs behind the sources, by names that tell them apart: "" where there is one run, of one recipe."""
    if len(sources) == 1:
        return sources[0].runs()
    return {" ".join(filter(None, (str(s.name), name))): run for s in sources for name, run in s.runs().items()}


def by_recipe(
    checked: Checked, dataset: Dataset, recipes: Mapping[str, Recipe]
) -> Iterator[tuple[str, pl.DataFrame, Recipe | None]]:
    """Give the facts that row checks look at and their recipe: of a mixture's dataset recipe by recipe.

    Raises RunError.
    """
    rest = checked.facts
    for name, recipe in recipes.items():
        if not name:
            yield checked.name, rest, recipe
            return
        keys = settled(partial(collect, rows_of(dataset, name, rest.lazy().select(PLACE)), ()))
        yield f"{checked.name}: {name}", rest.join(keys, on=PLACE, how="semi", maintain_order="left"), recipe
        rest = rest.join(keys, on=PLACE, how="anti", maintain_order="left")
    if rest.height or not recipes:
        yield checked.name, rest, None
