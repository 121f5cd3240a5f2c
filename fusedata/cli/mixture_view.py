"""How `fusedata build` and `fusedata status` treat a mixture."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fusedata.cli.show import heading, hung, line, say, say_shard_is_done, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from fusedata.cli.show import Cell
    from fusedata.mixing import MixtureBuild
    from fusedata.mixture_card import Whole
    from fusedata.mixture_status import MixtureStatus
    from fusedata.status import Status


def build_mixture(
    task: "MixtureBuild",
    folder: Path,
    *,
    limit: int | None,
    shard: str | None,
    dry_run: bool,
    calibrate: int | None,
    force: "Sequence[str]",
    as_json: bool,
) -> None:
    """Build a mixture or a shard of it, or print what that would take."""
    from fusedata.errors import ConfigError
    from fusedata.shards import read_shard

    if dry_run:
        _show_plans(task, folder, limit, calibrate, as_json)
        return
    if calibrate:
        raise ConfigError("--calibrate measures for an estimate: give --dry-run with it.")
    share = read_shard(shard) if shard else None
    whole = task.run_shard(folder, share, limit=limit) if share else task.run(folder, limit=limit, force=force)
    if whole:
        _show_whole(whole, folder, task.failures(folder), as_json)
    elif share:
        say_shard_is_done(share, folder, as_json)


def _show_plans(task: "MixtureBuild", folder: Path, limit: int | None, calibrate: int | None, as_json: bool) -> None:
    import json

    from fusedata.cli.estimate_view import estimate_json, most_of_them, show_estimate
    from fusedata.estimate import total

    plans = task.plan(folder, limit=limit, calibrate=calibrate)
    named = {
        "hours": "hours",
        "gpu_hours": "GPU-hours",
        "verify_core_hours": "core-hours of verification",
        "disk_bytes": "bytes on disk",
        "sft_rows": "SFT rows",
        "dpo_pairs": "DPO pairs",
    }
    sums = {key: total(getattr(plan, key) for plan in plans.values()) for key in named}
    if as_json:
        click.echo(json.dumps({"recipes": {name: estimate_json(plan) for name, plan in plans.items()}, **sums}))
        return
    for name, plan in plans.items():
        say(heading(f"Recipe {name}"))
        show_estimate(plan, as_json=False)
    rows: list[list[Cell]] = [
        [named[k], "?" if n is None else f"{n:,.{1 if 'hours' in k else 0}f}"] for k, n in sums.items()
    ]
    rows[1:1] = most_of_them(plans.values())
    say(heading(f"The whole of {task.mixture.name}", "recipes one after another"), table(["", ""], rows, header=False))


def _splits(rows: "pl.DataFrame") -> dict[str, int]:
    return {"train": int((~rows["test"]).sum()), "test": int(rows["test"].sum())}


def _show_whole(whole: "Whole", folder: Path, failed: int, as_json: bool) -> None:
    import json

    counts = {kind: _splits(getattr(whole, kind)) for kind in ("sft", "dpo")}
    parts = {
        name: {
            "prompts": part.places.height,
            "dropped": dict(part.places["dropped"].drop_nulls().value_counts(sort=True).iter_rows()),
            "repeated": whole.repeated[name],
            **{kind: int((getattr(whole, kind)["recipe"] == name).sum()) for kind in ("sft", "dpo")},
        }
        for name, part in whole.parts.items()
    }
    if as_json:
        click.echo(json.dumps({"run": str(folder), **counts, "recipes": parts, "failed": failed}))
        return
    rows: list[list[Cell]] = [
        [name, *(f"{n:,}" for n in (part["prompts"], part["sft"], part["dpo"], part["repeated"]))]
        for name, part in parts.items()
    ]
    say(table(["recipe", "prompts", "SFT rows", "DPO pairs", "left to an earlier one"], rows))
    for kind, count in counts.items():
        total = sum(count.values())
        where = f"  {folder / 'dataset' / kind}" if total else ""
        click.echo(f"{kind.upper()}  {total:,} rows ({count['train']:,} train, {count['test']:,} test){where}")
    if failed:
        click.echo(f"{failed:,} samples failed (see: fusedata status {folder}); the same command tries them again.")
    click.echo(f"Look inside: fusedata inspect {folder}")


def show_mixture_status(found: "MixtureStatus", as_json: bool) -> None:
    """Print the state of a mixture's run: a line a recipe, then the whole."""
    from fusedata.cli.status_command import dataset_lines
    from fusedata.plots import json_text

    if as_json:
        click.echo(json_text(found))
        return
    limit = f", limit {found.limit:,} a recipe" if found.limit else ""
    facts = f"  mixture {found.recipe}, profile {found.profile}{limit}, fusedata {found.fusedata}"
    say(line((str(found.run), "bold"), facts), line((found.description, "dim")))
    rows = [_recipe(name, part, found.repeated.get(name, 0)) for name, part in found.recipes.items()]
    headers = ["recipe", "prompts", "rows left", "SFT", "DPO", "left to an earlier one", "state"]
    say(line(), table(headers, rows, left=(0, 6)), whole=True)
    if found.stand_ins:
        note = f"fusedata status {found.run}/RECIPE says what replaced what"
        say(heading(f"{len(found.stand_ins):,} choices were replaced by stand-ins", note))
    parts = [line(), *dataset_lines(found.dataset)]
    parts += [line("Next: " if n == 0 else "  or: ", (command, "bold")) for n, command in enumerate(found.next)]
    say(*parts, hung(line(("Each recipe's run lies in its own folder there.", "dim"))))


def _recipe(name: str, part: "Status | None", repeated: int) -> "list[Cell]":
    if part is None:
        return [name, "-", "-", "-", "-", "-", ("not begun", "yellow")]
    counts = [part.prompts, part.left]
    counts += [sum(getattr(part.dataset, kind).values()) if part.dataset else None for kind in ("sft", "dpo")]
    done = part.dataset is not None and not part.dataset.stale
    holds = all(flow.holds for flow in part.flows)
    state = ("done", "green") if done and holds else ("not finished", "yellow")
    state = state if holds else ("its sums do NOT hold", "bold red")
    return [name, *("?" if n is None else f"{n:,}" for n in counts), f"{repeated:,}", state]
