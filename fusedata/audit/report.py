"""What an audit found: one finding a check and dataset, with counts, examples and a severity."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["error", "warning", "note", "ok", "skipped"]
"""`error`: the dataset should not be published so. `warning`: somebody should look. `note`: good to know. `ok`: looked
for and not found. `skipped`: could not be looked for; the message says why."""

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note", "skipped", "ok")


@dataclass(frozen=True)
class Example:
    """One row that a finding is about; `row` counts from 0 within the split."""

    split: str
    row: int
    prompt_id: str | None = None
    detail: str | None = None


@dataclass(frozen=True)
class Finding:
    """What one check found in one dataset (`dataset` empty: in the run, or in all of them together).

    `count` of `of` rows, and by split in `splits`; `rate` is in characters a second, where a check states its own.
    """

    check: str
    severity: Severity
    message: str
    dataset: str = ""
    count: int = 0
    of: int = 0
    splits: Mapping[str, int] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()
    rate: float | None = None


@dataclass(frozen=True)
class Size:
    """How many rows a dataset has, by split, and the shape they are kept in."""

    dataset: str
    kind: str
    shape: str
    splits: Mapping[str, int]


@dataclass(frozen=True)
class Report:
    """The outcome of an audit: every check that was made, and those that could not be."""

    source: str
    datasets: tuple[Size, ...]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What should keep the datasets from being published."""
        return self.of("error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """What somebody should look at."""
        return self.of("warning")

    def of(self, *severities: Severity) -> tuple[Finding, ...]:
        """Give the findings of these severities."""
        return tuple(finding for finding in self.findings if finding.severity in severities)
