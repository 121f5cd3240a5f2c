"""What decontamination looked at, as a run records it beside its PROMPTS."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from fusedata.errors import RunError
from fusedata.schema import PROMPTS
from fusedata.store import Run, writing

_NAME = "contamination.json"


@dataclass(frozen=True)
class Report:
    """Which benchmarks the prompts of a run were held against, and which not.

    `checked`: the prompts that were dropped for each benchmark. `unchecked`: why a benchmark could not be had.
    `revisions`: the exact state of those checked: a hub's commit or, for files, "sha256:…" over names and contents.
    """

    checked: Mapping[str, int]
    unchecked: Mapping[str, str]
    revisions: Mapping[str, str]


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
    reasons: dict[str, list[str]] = {}
    for name, reason in report.unchecked.items():
        reasons.setdefault(reason, []).append(name)
    missed = [f"Not checked: {', '.join(names)} ({reason})." for reason, names in reasons.items()]
    return [held, *missed] if held else missed


def _folder(run: Run) -> Path:
    return run.parts("prompts", "", PROMPTS).folder
