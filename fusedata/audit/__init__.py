"""Auditing datasets: ours or anyone's, a run, a folder or a dataset on a hub.

>>> report = audit("runs/math")
>>> report.errors
()
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from fusedata.audit.card import card_license
from fusedata.audit.expected import MAX_TOKENS, Expected, of_recipe, recipe_in
from fusedata.audit.facts import facts
from fusedata.audit.recheck import NAME as AGAIN
from fusedata.audit.recheck import recheck_findings
from fusedata.audit.report import SEVERITIES, Example, Finding, Report, Severity, Size
from fusedata.audit.rows import row_findings
from fusedata.audit.run import run_findings
from fusedata.audit.scans import READ_ALL, scan_findings
from fusedata.audit.sets import Checked, set_findings
from fusedata.contamination.overlap import Index
from fusedata.contamination.sources import Places, find_benchmarks, read_items
from fusedata.errors import RunError
from fusedata.readers import recipe_of
from fusedata.sources import Dataset, Hub, open_datasets
from fusedata.store import first_line

__all__ = ["READ_ALL", "Example", "Finding", "Report", "Severity", "Size", "audit"]


def audit(
    *sources: str | Path,
    gap: tuple[float, float] | None = None,
    max_tokens: int = MAX_TOKENS,
    languages: Sequence[str] = (),
    skip: Sequence[str] = (),
    recheck: bool = False,
    benchmarks: Path | None = None,
    tokenizer: str | None = None,
    hub: Hub = "huggingface",
    revision: str | None = None,
    cache: Path | None = None,
) -> Report:
    """Audit a run, a folder, a file or a dataset on a hub; several are held against each other too.

    What a run's or a dataset's own recipe says is held against it; `gap`, `max_tokens` and `languages` say it for
    others. `skip` names checks of READ_ALL to leave out; `recheck` judges a run's answers again; `benchmarks` is a
    folder of those that no text may come from; `tokenizer`, a folder or a hub's model, counts tokens.

    Raises RunError where there is nothing to audit, CorpusError where a file cannot be read, HubError where the hub
    refuses, ConfigError where the tokenizer cannot be loaded, and with `recheck` VerifierError.
    """
    opened = [open_datasets(source, hub=hub, revision=revision, cache=cache) for source in sources]
    datasets = [dataset for found, _ in opened for dataset in found]
    recipe = next((recipe_of(run) for _, run in opened if run), None)
    recipe = recipe or next((r for d in datasets if (r := recipe_in(d.folder))), None)
    expected = of_recipe(recipe, max_tokens) if recipe else Expected(max_tokens=max_tokens)
    expected = replace(expected, gap=gap or expected.gap, languages=tuple(languages) or expected.languages)
    names = _names(datasets)
    checked = [
        Checked(name, dataset.kind, _collected(dataset), dataset.ours)
        for name, dataset in zip(names, datasets, strict=True)
    ]
    found = [*_findings(checked, expected)]
    index, unchecked = _index(benchmarks) if "contamination" not in skip else (None, ())
    found += unchecked
    for name, dataset in zip(names, datasets, strict=True):
        found += scan_findings(name, dataset.kind, dataset.rows, expected, skip, index=index, tokenizer=tokenizer)
        found.append(card_license(name, dataset.folder))
    for own, run in opened:
        found += run_findings(run) if run else ()
        if recheck and run:
            found += recheck_findings(run, {dataset.name: (dataset.kind, dataset.rows) for dataset in own})
        elif recheck:
            found.append(Finding(AGAIN, "skipped", "gold answers and tests are in runs only"))
    sizes = [_size(one, dataset) for one, dataset in zip(checked, datasets, strict=True)]
    order = sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))
    return Report(", ".join(map(str, sources)), tuple(sizes), tuple(order))


def _index(folder: Path | None) -> tuple[Index | None, tuple[Finding, ...]]:
    """Index the benchmarks in a folder, and say which are not there."""
    if folder is None:
        return None, ()
    shelf = find_benchmarks((), Places(folder=folder, none="it is not in the folder"))
    items, shelf = read_items(shelf)
    missing = ", ".join(shelf.unchecked)
    told = Finding("contamination", "note", f"not at hand: {missing}", count=len(shelf.unchecked))
    return Index(items) if items else None, (told,) if missing else ()


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


def _findings(checked: Sequence[Checked], expected: Expected) -> Iterator[Finding]:
    for dataset in checked:
        yield from row_findings(dataset.name, dataset.kind, dataset.facts, expected)
    yield from set_findings(checked, expected)


def _size(checked: Checked, dataset: Dataset) -> Size:
    splits = dict(checked.facts.group_by("split", maintain_order=True).len().iter_rows())
    return Size(checked.name, dataset.kind, dataset.shape.name, splits)
