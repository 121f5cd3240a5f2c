"""Checks that look at all rows of a dataset, or at several datasets, together. Pure, on facts."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import polars as pl

from fusedata.audit.expected import Expected
from fusedata.audit.report import Finding, Severity
from fusedata.audit.rows import finding
from fusedata.shapes import PARTS, Kind
from fusedata.shares import interval

HELD_OUT = re.compile("test|val|eval|dev|heldout|held_out")
"""What the names of splits begin with that are not trained on."""
LONGER = 0.6
"""Share of pairs whose longer answer is chosen, from which on the report warns: a model may learn length from it."""
_PLACE = ("split", "row", "prompt_id")


@dataclass(frozen=True)
class Checked:
    """One dataset under audit: its facts, and whether its rows are as fusedata writes them."""

    name: str
    kind: Kind
    facts: pl.DataFrame
    ours: bool


def set_findings(datasets: Sequence[Checked], expected: Expected) -> Iterator[Finding]:
    """Make every check on whole datasets."""
    for dataset in datasets:
        yield from duplicates(dataset)
        yield within(dataset)
        if dataset.kind == "dpo":
            yield length_bias(dataset)
    for first, second in combinations(datasets, 2):
        yield from across(first, second, expected)


def duplicates(dataset: Checked) -> Iterator[Finding]:
    """Find rows that stand twice, and prompts that do: with a `weight`, a prompt may have a row a source model."""
    rows = dataset.facts
    texts = [f"{part}_turns" for part in PARTS[dataset.kind]]
    weighted = rows["weight"].null_count() < rows.height
    key = ["prompt_turns", "source_model"] if weighted else ["prompt_turns"]
    severity: Severity = "error" if dataset.ours else "warning"
    yield _repeated(dataset, [*texts, *key[1:]], "duplicate rows", severity, "the row stands in the dataset already")
    what = "prompt and source model" if weighted else "prompt"
    again: Severity = "error" if dataset.ours else "note"
    yield _repeated(dataset, key, "repeated prompts", again, f"the {what} has a row in the dataset already")


def _repeated(dataset: Checked, key: Sequence[str], name: str, severity: Severity, message: str) -> Finding:
    rows = dataset.facts
    first = rows.with_row_index("at").group_by(key).agg(pl.col("at").min())
    found = rows.with_row_index("at").join(first, on="at", how="anti").select(_PLACE)
    return finding(dataset.name, rows.height, name, severity, message, found)


def _held_out(rows: pl.DataFrame) -> pl.Expr:
    names = [split for split in rows["split"].unique() if HELD_OUT.match(split)]
    return pl.col("split").is_in(names)


def within(dataset: Checked) -> Finding:
    """Find prompts that are held out and trained on in one dataset."""
    rows = dataset.facts
    held = _held_out(rows)
    found = rows.filter(held).join(rows.filter(~held), on="prompt_turns", how="semi").select(_PLACE)
    message = "a held-out prompt is in the training split of the same dataset"
    return finding(dataset.name, rows.height, "train and test overlap", "error", message, found)


def across(first: Checked, second: Checked, expected: Expected) -> Iterator[Finding]:
    """Find prompts held out in one dataset and trained on in the other, and prompts that both train on."""
    name = f"{first.name} and {second.name}"
    held, trained = ({d.name: d.facts.filter(k(_held_out(d.facts))) for d in (first, second)} for k in (_same, _other))
    leaks = [
        held[one.name].join(trained[other.name], on="prompt_turns", how="semi").select(_PLACE)
        for one, other in ((first, second), (second, first))
    ]
    rows = first.facts.height + second.facts.height
    message = "a prompt held out of one dataset is trained on in the other"
    yield finding(name, rows, "held-out prompts leak", "error", message, pl.concat(leaks))
    both = trained[second.name].join(trained[first.name], on="prompt_turns", how="semi").select(_PLACE)
    severity: Severity = "warning" if expected.shared is False and first.kind != second.kind else "note"
    yield finding(name, rows, "shared prompts", severity, "both datasets train on the prompt", both)


def _same(condition: pl.Expr) -> pl.Expr:
    return condition


def _other(condition: pl.Expr) -> pl.Expr:
    return ~condition


def length_bias(dataset: Checked) -> Finding:
    """Say how often the longer answer is the chosen one, with the interval that chance leaves (95 %, Wilson)."""
    more = dataset.facts["chosen_chars"] - dataset.facts["rejected_chars"]
    longer, unequal = int((more > 0).sum()), int((more != 0).sum())
    if not unequal:
        return Finding("length bias", "skipped", "no pair has answers of two lengths", dataset.name)
    low, high = interval(longer, unequal)
    told = f"the longer answer is chosen in {longer / unequal:.1%} of the pairs of unequal length"
    message = f"{told} (95 % interval {low:.1%} to {high:.1%})"
    severity: Severity = "warning" if low > LONGER else "note"
    return Finding("length bias", severity, message, dataset.name, longer, unequal)
