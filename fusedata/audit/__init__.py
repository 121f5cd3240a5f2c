"""Auditing datasets: ours or anyone's, a run, a folder or a dataset on a hub.

>>> report = audit("runs/math")
>>> report.errors
()
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import polars as pl

from fusedata.audit.benchmarks import hold, usual_benchmarks
from fusedata.audit.card import card_license
from fusedata.audit.expected import MAX_TOKENS, Expected, expected_of
from fusedata.audit.facts import facts
from fusedata.audit.opened import Source, by_recipe, open_source, runs_of
from fusedata.audit.report import SEVERITIES, Example, Finding, Report, Severity, Size
from fusedata.audit.rows import row_findings
from fusedata.audit.scans import READ_ALL, scan_findings
from fusedata.audit.sets import Checked, set_findings
from fusedata.contamination.sources import Places
from fusedata.errors import RunError
from fusedata.readers import settled
from fusedata.recipe import Recipe
from fusedata.sources import Dataset, Hub
from fusedata.store import first_line

__all__ = ["READ_ALL", "Example", "Finding", "Report", "Severity", "Size", "audit", "usual_benchmarks"]


def audit(
    *sources: str | Path,
    gap: tuple[float, float] | None = None,
    max_tokens: int = MAX_TOKENS,
    languages: Sequence[str] = (),
    skip: Sequence[str] = (),
    recheck: bool = False,
    benchmarks: Path | Places | None = None,
    usual: Places | None = None,
    tokenizer: str | None = None,
    hub: Hub = "huggingface",
    revision: str | None = None,
    cache: Path | None = None,
) -> Report:
    """Audit a run, a folder, a file or a dataset on a hub; several are held against each other too.

    What a run's or a dataset's own recipe says is held against it; `gap`, `max_tokens` and `languages` say it for
    others. `skip` names checks of READ_ALL to leave out; `recheck` judges a run's answers again; `benchmarks` is a
    folder of those that no text may come from, by default those that a run's build held its prompts against, where the
    build found them, else those in `usual`; `tokenizer`, a folder or a hub's model, counts tokens.

    Where a build writes meanwhile and a file went away, it is read again: what is told may be of two states.

    Raises RunError where there is nothing to audit or a file is gone, CorpusError where a file cannot be read, HubError
    where the hub refuses, ConfigError where the tokenizer cannot be loaded, and with `recheck` VerifierError.
    """
    opened, under, checked = settled(partial(_read, sources, hub=hub, revision=revision, cache=cache))
    told = _Told(gap, tuple(languages), max_tokens)
    every = [recipe for _, recipes in under for recipe in recipes.values()]
    expected = told.held_to(every)
    found: list[Finding] = []
    for one, (dataset, recipes) in zip(checked, under, strict=True):
        for name, rows, recipe in by_recipe(one, dataset, recipes):
            found += row_findings(name, one.kind, rows, told.held_to([recipe] if recipe else []))
    found += set_findings(checked, expected)
    held = hold(benchmarks, runs_of(opened), every, usual) if "contamination" not in skip else None
    found += held.told if held else ()
    for one, (dataset, _) in zip(checked, under, strict=True):
        scan = partial(scan_findings, one.name, one.kind, dataset.rows, expected, skip, held=held, tokenizer=tokenizer)
        found += settled(scan)
        found.append(card_license(one.name, dataset.folder))
    found += [finding for source in opened for finding in source.findings(recheck=recheck)]
    sizes = [_size(one, dataset) for one, (dataset, _) in zip(checked, under, strict=True)]
    order = sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))
    return Report(", ".join(map(str, sources)), tuple(sizes), tuple(order))


_Under = list[tuple[Dataset, dict[str, Recipe]]]
"""The datasets under audit, each with the recipe that its rows are held to, or those of a mixture."""


def _read(
    sources: Sequence[str | Path], *, hub: Hub, revision: str | None, cache: Path | None
) -> tuple[list[Source], _Under, list[Checked]]:
    """Open what is under audit, and give the facts of its datasets."""
    opened = [open_source(source, hub=hub, revision=revision, cache=cache) for source in sources]
    under = [(dataset, recipes) for source in opened for dataset, recipes in source.with_recipes()]
    names = _names([dataset for dataset, _ in under])
    checked = [Checked(name, d.kind, _collected(d), d.ours) for name, (d, _) in zip(names, under, strict=True)]
    return opened, under, checked


@dataclass(frozen=True)
class _Told:
    """What the caller says of the rows: it comes before what their recipes say."""

    gap: tuple[float, float] | None
    languages: tuple[str, ...]
    max_tokens: int

    def held_to(self, recipes: Sequence[Recipe]) -> Expected:
        found = expected_of(recipes, self.max_tokens)
        return replace(found, gap=self.gap or found.gap, languages=self.languages or found.languages)


def _names(datasets: Sequence[Dataset]) -> list[str]:
    """Give each dataset a name of its own: that of its folder before it where two have one name."""
    names = [dataset.name for dataset in datasets]
    if len(set(names)) == len(names):
        return names
    return [f"{number}: {dataset.folder.name}/{dataset.name}" for number, dataset in enumerate(datasets, start=1)]


def _collected(dataset: Dataset) -> pl.DataFrame:
    try:
        return facts(dataset.rows, dataset.kind).collect(engine="streaming")
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise RunError(f"{dataset.folder}: cannot be read ({first_line(error)}); fetch or write it again.") from error


def _size(checked: Checked, dataset: Dataset) -> Size:
    splits = dict(checked.facts.group_by("split", maintain_order=True).len().iter_rows())
    return Size(checked.name, dataset.kind, dataset.shape.name, splits)
