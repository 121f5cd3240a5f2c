"""Which benchmarks an audit holds texts against: those that somebody names, else those that a run was held against."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fusedata.audit.report import Finding
from fusedata.collect.decontamination import places
from fusedata.contamination.overlap import Index
from fusedata.contamination.report import Report, lines, read_report
from fusedata.contamination.sources import Places, commits, find_benchmarks, read_items
from fusedata.profile import find_profile, load_profile
from fusedata.readers import recipe_of
from fusedata.recipe import Recipe
from fusedata.store import Run
from fusedata.user_config import load_user_config

NAME = "contamination"
AT_BUILD = "decontamination"
NOTHING_HERE = "not checked: no benchmark is at hand; name a folder of them (--benchmarks)"


@dataclass(frozen=True)
class Held:
    """What texts are held against (`index` None: nothing; `why` says why), and what else is to be told of it."""

    index: Index | None
    why: str = NOTHING_HERE
    told: tuple[Finding, ...] = ()


def usual_benchmarks() -> Places | None:
    """Give where the profile of the user's own configuration lets benchmarks be found; None: it names no place.

    Raises ConfigError where configuration or profile cannot be read.
    """
    name = load_user_config().profile
    found = places(load_profile(find_profile(name)), fetched=False) if name else Places()
    return found if found.folder or found.hub else None


def hold(
    named: Path | Places | None, runs: Mapping[str, Run], recipes: Sequence[Recipe], usual: Places | None = None
) -> Held:
    """Index the benchmarks that texts are held against, and say what the builds of `runs`, by name, held prompts to.

    `named` comes first; without it what the builds checked is looked for where they found it; else what is in `usual`.
    `recipes` say how long a match is.
    """
    reports = {name: read_report(run) for name, run in runs.items()}
    at_build = tuple(_at_build(name, report, recipe_of(runs[name])) for name, report in reports.items())
    checked = [report for report in reports.values() if report and report.checked]
    if named is None and checked:
        return _indexed(_same_place(checked[0]), recipes, at_build, checked)
    where = named or usual
    if where is None:
        return Held(None, told=at_build)
    return _indexed(where if isinstance(where, Places) else _folder(where), recipes, at_build)


def _folder(folder: Path) -> Places:
    return Places(folder, none="it is not in the folder")


def _same_place(report: Report) -> Places:
    """Give the place where a build found benchmarks, and the commits that it read there."""
    folder = Path(report.folder) if report.folder else None
    return Places(folder, report.hub, "it is not where the build found it", commits(report.revisions))


def _indexed(
    where: Places, recipes: Sequence[Recipe], told: tuple[Finding, ...], checked: Sequence[Report] = ()
) -> Held:
    """Find and read: the benchmarks that the builds checked, else all that are known.

    Where recipes differ on how long a match is, the longest counts: what one of them lets pass is no error of another.
    """
    revisions = {name: revision for report in checked for name, revision in report.revisions.items()}
    items, shelf = read_items(find_benchmarks(tuple(revisions), where))
    settings = [recipe.decontamination for recipe in recipes]
    sizes = {key: max(getattr(one, key) for one in settings) for key in ("words", "characters")} if settings else {}
    notes = [(f"not at hand: {', '.join(shelf.unchecked)}", len(shelf.unchecked))] if shelf.unchecked else []
    changed = [name for name, now in shelf.revisions().items() if revisions.get(name, now) != now]
    if changed:
        notes.append((f"another state than at the build: {', '.join(changed)}", len(changed)))
    told += tuple(Finding(NAME, "note", message, count=count) for message, count in notes)
    return Held(Index(items, **sizes) if items else None, "not checked: none of the benchmarks is at hand", told)


def _at_build(name: str, report: Report | None, recipe: Recipe) -> Finding:
    """Tell what prompts were held against when they were collected; a warning where it was to be done and was not."""
    severity = "note" if not recipe.decontamination.enabled or (report and report.checked) else "warning"
    if report is None and recipe.decontamination.enabled:
        said = "The run does not say what its prompts were held against."
    else:
        said = " ".join(lines(report))
    return Finding(AT_BUILD, severity, f"At the build: {said}", name)  # type: ignore[arg-type]
