"""What decontamination looked at, as a run records it beside its PROMPTS."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from fusedata.contamination.sources import Hub
from fusedata.errors import RunError
from fusedata.schema import PROMPTS
from fusedata.store import Run, writing

_NAME = "contamination.json"


@dataclass(frozen=True)
class Report:
    """Which benchmarks the prompts of a run were held against, and which not.

    `checked`: the prompts that were dropped for each benchmark. `unchecked`: why a benchmark could not be had.
    `revisions`: the exact state of those checked: a hub's commit or, for files, "sha256:…" over names and contents.
    `folder`, `hub`: where they were found, for whoever checks again on this machine; never published.
    """

    checked: Mapping[str, int]
    unchecked: Mapping[str, str]
    revisions: Mapping[str, str]
    folder: str | None = None
    hub: Hub | None = None


def read_report(run: Run) -> Report | None:
    """Read the report of the prompts in force; None where they were not decontaminated, or not collected yet."""
    try:
        return Report(**orjson.loads((_folder(run) / _NAME).read_bytes()))
    except (OSError, ValueError, TypeError, RunError):
        return None


def write_report(run: Run, report: Report) -> None:
    """Write the report beside the prompts in force. Raises RunError."""
    with writing(_folder(run) / _NAME) as file:
        file.write(orjson.dumps(asdict(report)))


def lines(report: Report | None) -> list[str]:
    """Say in sentences what was checked and what not: for `status` and the dataset card."""
    if report is None:
        return ["Prompts were not held against benchmarks: decontamination is switched off."]
    found = [f"{name} {matches:,}" for name, matches in report.checked.items()]
    held = f"Prompts dropped for text that they share with a benchmark: {', '.join(found)}." if found else ""
    missed = [f"Not checked: {', '.join(names)} ({reason})." for reason, names in unchecked(report).items()]
    return [held, *missed] if held else missed


def unchecked(report: Report | None) -> dict[str, list[str]]:
    """Give the benchmarks that could not be had, by the reason."""
    reasons: dict[str, list[str]] = {}
    for name, reason in (report.unchecked if report else {}).items():
        reasons.setdefault(reason, []).append(name)
    return reasons


def _folder(run: Run) -> Path:
    return run.parts("prompts", "", PROMPTS).folder
