"""`fusedata doctor`."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fusedata.cli.show import heading, line, say, table

if TYPE_CHECKING:
    from fusedata.cli.show import Cell
    from fusedata.doctor import Finding

_MARKS = {"ok": ("✓", "green"), "absent": ("-", "dim"), "broken": ("✗", "bold red")}
_TITLES = {"machine": "This machine", "packages": "Packages", "services": "Docker, hubs, log-ins"}


@click.command("doctor")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="runs",
    show_default=True,
    help="Where runs will lie: the disk to look at.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as one JSON array.")
def doctor_command(out: Path, as_json: bool) -> None:
    """Say what is here (GPUs, vLLM, Docker, hubs, tokens, disk), and what each missing thing would enable.

    Takes three seconds at most and changes nothing. Of tokens it says only whether they are present. Exits with 1 where
    something is here and does not work (✗), with 0 where things are merely absent (-).
    """
    from fusedata.doctor import broken, examine
    from fusedata.plots import json_text

    findings = examine(out)
    if as_json:
        click.echo(json_text([asdict(finding) for finding in findings]))
    else:
        for group, title in _TITLES.items():
            rows = [_cells(finding) for finding in findings if finding.group == group]
            say(heading(title), table(["", "", ""], rows, left=range(3), header=False))
        counts = {state: sum(found.state == state for found in findings) for state in _MARKS}
        say(line("\n", ", ".join(f"{count} {state}" for state, count in counts.items() if count), "."))
    if broken(findings):
        sys.exit(1)


def _cells(finding: "Finding") -> "list[Cell]":
    hint = f"\nfor {finding.enables}: {finding.remedy}" if finding.remedy else ""
    return [_MARKS[finding.state], (finding.name, "bold"), line(finding.found, (hint, "dim"))]
