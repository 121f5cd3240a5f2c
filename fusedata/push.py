"""A finished dataset, pushed: what may not leave is refused first, then each dataset goes to its repository.

targets = Publish(hubs=("hf",), repo="ORG/NAME-{split}-Data")
for pushed in push(Path("runs/math"), targets):
    print(pushed.url, pushed.commit, pushed.tag)
"""

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from fusedata.errors import RunError
from fusedata.mixture_status import MixtureStatus, status_of
from fusedata.plan import Advance
from fusedata.publish.huggingface import HuggingFace
from fusedata.publish.modelscope import ModelScope
from fusedata.publish.protocol import Hub, Stage
from fusedata.publish.release import Release, RepoKind, find_datasets, read_release, run_of
from fusedata.publish.send import Pushed, look, prepare, send
from fusedata.publishing import HubName, Publish
from fusedata.push_checks import CHECKS, Check
from fusedata.readers import to_try_again
from fusedata.schema import RESPONSES, REWARDS, VERDICTS
from fusedata.store import Run, read_run

STAND_INS = "it is a demonstration, not what its recipe describes. Give --allow-stand-ins to push it all the same."

_HUBS: dict[HubName, type[HuggingFace] | type[ModelScope]] = {"hf": HuggingFace, "modelscope": ModelScope}
_TABLES = {"responses": RESPONSES, "verdicts": VERDICTS, "rewards": REWARDS}


def make_hub(name: HubName, kind: RepoKind = "dataset") -> Hub:
    """Open a hub's datasets, or its models, by its short name. Raises MissingExtraError."""
    return _HUBS[name](kind=kind)


@contextlib.contextmanager
def _silent(name: str, total: int | None) -> Iterator[Advance]:  # noqa: ARG001 - the signature of a stage
    yield lambda _: None


def push(
    path: Path,
    target: Publish,
    *,
    tag: str | None = None,
    allow_stand_ins: bool = False,
    make_hub: Callable[[HubName], Hub] = make_hub,
    stage: Stage = _silent,
    checks: Sequence[Check] = CHECKS,
) -> list[Pushed]:
    """Push the datasets of a run, or of a folder that holds them, to every hub of `target`.

    All hubs and repositories are looked at before the first is written. A push that was cut is continued by the same
    call. Success is what the hub lists at the new commit: every file's hash is compared. Raises FusedataError.
    """
    releases = ready(path, allow_stand_ins=allow_stand_ins, stage=stage, checks=checks)
    hubs = [make_hub(name) for name in target.hubs]
    with stage("look at the hubs", None):
        for hub in hubs:
            hub.account()
        shipments = [
            prepare(hub, target.repo_of(release.kind), release, tag, public=target.public)
            for hub in hubs
            for release in releases
        ]
    return [send(shipment, stage, public=target.public) for shipment in shipments]


def ready(
    path: Path, *, allow_stand_ins: bool = False, stage: Stage = _silent, checks: Sequence[Check] = CHECKS
) -> list[Release]:
    """Read the datasets at `path`. Raises RunError with the reason why one of them must not be pushed."""
    folders = find_datasets(path)
    made_with_stand_ins = False
    if root := run_of(path):
        with stage("check the run", None):
            made_with_stand_ins = _checked_run(root)
    with stage("check the dataset", None):
        releases = [read_release(folder) for folder in folders]
        made_with_stand_ins |= any(release.stand_ins for release in releases)
        if made_with_stand_ins and not allow_stand_ins:
            raise RunError(f"{path} was made with stand-ins: {STAND_INS}")
        for check in checks:
            if reasons := check(path):
                more = f" And {len(reasons) - 1} more such reasons." if len(reasons) > 1 else ""
                raise RunError(f"{path} must not be pushed. {reasons[0]}{more}")
    return releases


def check_target(
    recipe: str, kinds: Collection[str], target: Publish, make_hub: Callable[[HubName], Hub] = make_hub
) -> None:
    """Refuse, before a build begins, what a push after it would refuse: the token and the repositories.

    Raises HubError, MissingExtraError.
    """
    for name in target.hubs:
        hub = make_hub(name)
        hub.account()
        for kind in kinds:
            look(hub, target.repo_of(kind), recipe, kind, public=target.public)


def _checked_run(root: Path) -> bool:
    """Refuse a run that is not finished, and say whether stand-ins took part in it."""
    found = status_of(root)
    runs = [root / name for name in found.recipes] if isinstance(found, MixtureStatus) else [root]
    again = f"Finish it first: {found.next[0]}"
    if failed := sum(_failed(read_run(run)) for run in runs if (run / "run.json").is_file()):
        what = "row that failed and is" if failed == 1 else "rows that failed and are"
        raise RunError(f"{root} has {failed:,} {what} to be tried again. {again}")
    if found.dataset is None:
        raise RunError(f"{root} holds no finished dataset. {again}")
    if found.dataset.stale:
        raise RunError(f"{root} is not finished: {', '.join(found.dataset.stale)}. {again}")
    return bool(found.stand_ins)


def _failed(run: Run) -> int:
    """Count the rows that another build would try again."""
    return sum(to_try_again(run, name, schema) for name, schema in _TABLES.items())
