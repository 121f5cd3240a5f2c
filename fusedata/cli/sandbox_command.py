"""`fusedata sandbox`."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fusedata.verify.sandbox.attacks import Finding

_MARKS = ("right", "false pass", "false fail", "other status", "broken")


@click.group("sandbox")
def sandbox_command() -> None:
    """Build the image in which programs are judged, and test it on this machine."""


@sandbox_command.command("build")
@click.option("--image", default="fusedata-sandbox", show_default=True, help="Name of the image.")
@click.option("--base", help="Base image with Python 3.11 or newer.  [default: python:3.12-slim]")
@click.option(
    "--base-rootfs",
    type=click.Path(path_type=Path, exists=True),
    help="Folder or tar archive of a root file system, for a machine without a registry.",
)
def build_command(image: str, base: str | None, base_rootfs: Path | None) -> None:
    """Build the sandbox image with the Docker engine of this machine."""
    from fusedata.errors import ConfigError
    from fusedata.verify.sandbox.image import build_image

    if base and base_rootfs:
        raise ConfigError("--base and --base-rootfs exclude each other: name one of them.")
    digest = build_image(image, base=base, base_rootfs=base_rootfs)
    click.echo(
        f"{image} is built ({digest.removeprefix('sha256:')[:12]}); try it on this machine: fusedata sandbox test"
    )


@sandbox_command.command("test")
@click.option("--image", default="fusedata-sandbox", show_default=True, help="Name of the image.")
@click.option("--runtime", type=click.Choice(["runc", "runsc"]), default="runc", show_default=True)
@click.option("--category", "categories", multiple=True, help="Only programs of this category; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line a program.")
def test_command(image: str, runtime: str, categories: tuple[str, ...], as_json: bool) -> None:
    """Run the attack suite, hostile and honest programs whose verdicts are known; exit with 1 if one is wrong."""
    import platform

    from fusedata.errors import ConfigError
    from fusedata.verify.sandbox import Sandbox
    from fusedata.verify.sandbox.attacks import TIMEOUT, read_attacks, run_attacks

    attacks = read_attacks(platform.machine())
    unknown = set(categories) - {attack.category for attack in attacks}
    if unknown:
        known = ", ".join(sorted({attack.category for attack in attacks}))
        raise ConfigError(f"There is no category {min(unknown)}; there are {known}.")
    chosen = [attack for attack in attacks if not categories or attack.category in categories]
    findings = []
    with Sandbox(image=image, runtime=runtime, workers=1, timeout=TIMEOUT) as sandbox:
        for finding in run_attacks(sandbox, chosen):
            findings.append(finding)
            if as_json:
                click.echo(json.dumps(_line(finding)))
            elif sys.stderr.isatty():
                click.echo(f"\r{len(findings)} of {len(chosen)} programs", nl=False, err=True)
    if not as_json:
        _table(findings)
    if any(finding.mark != "right" for finding in findings):
        sys.exit(1)


def _line(finding: "Finding") -> dict[str, object]:
    attack = finding.attack
    return {"id": attack.id, "category": attack.category, "mark": finding.mark, **finding.outcome._asdict()}


def _table(findings: "list[Finding]") -> None:
    """Print what became of each category, then every program whose verdict is not right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from fusedata.cli.show import width

    table = Table("programs", "number", *_MARKS, box=box.SIMPLE, header_style="")
    groups: dict[str, Counter[str]] = {}
    for finding in findings:
        groups.setdefault(finding.attack.category, Counter())[finding.mark] += 1
    for name, counts in [*groups.items(), ("all", sum(groups.values(), Counter[str]()))]:
        table.add_row(name, str(counts.total()), *(str(counts[mark] or "") for mark in _MARKS))
    console = Console(width=width())
    console.print(table)
    for finding in findings:
        if finding.mark != "right":
            outcome = finding.outcome
            expected = " or ".join(finding.attack.accept)
            console.print(
                f"{finding.attack.id}: {finding.mark}: {outcome.status}, expected {expected} ({outcome.detail})",
                markup=False,
                highlight=False,
            )
