"""Opening a run folder to write it: whose it is, and that nobody else writes it."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fusedata.errors import RunError
from fusedata.lease import Lease
from fusedata.shards import Shard, Writer
from fusedata.storage import failures, is_url
from fusedata.store import Run, first_line, read_run

_OURS = re.compile("[a-z]+/[0-9a-f]{16}|dataset/(sft|dpo)")


@contextlib.contextmanager
def write_run(root: Path, recipe: str, shard: Shard | None = None) -> Iterator[Run]:
    """Open `root` as the one writer of a run of `recipe`, or of one shard of it, creating it where absent.

    Raises RunError where the folder cannot be written or holds something else, RunLockedError where another process
    writes it.
    """
    with contextlib.ExitStack() as stack:
        try:
            writer = stack.enter_context(_writer(root, shard))
        except failures() as error:
            why = getattr(error, "strerror", None) or first_line(error)
            raise RunError(f"{root}: cannot be written ({why}); choose another --out.") from error
        run = read_run(root) if (root / "run.json").exists() else Run(root)
        _check_recipe(run, recipe)
        if writer.alone and not is_url(root):
            for leftover in (*root.glob(".*.tmp"), *root.glob("*/*/.*.tmp")):
                with contextlib.suppress(OSError):
                    leftover.unlink()
        yield replace(run, shard=shard, writer=writer)


def _writer(root: Path, shard: Shard | None) -> Writer:
    if not is_url(root):
        _check_folder(root)
        return Writer(root, shard)
    if shard:
        raise RunError(f"{root}: shards need file locks, which an object store lacks; give --out on a shared folder.")
    return Lease(root)


def _check_folder(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise RunError(f"{root}: is a file; choose another --out.")
    root.mkdir(parents=True, exist_ok=True)
    strangers = sorted(path.name for path in root.iterdir() if not (path.name.startswith(".") or _ours(path)))
    if strangers and not (root / "run.json").exists():
        raise RunError(f"{root}: holds other files ({strangers[0]}, …) and no run; choose an empty or new --out.")


def _ours(path: Path) -> bool:
    """Tell the folders that a build writes, so that a run whose run.json was deleted can be taken up again."""
    return path.is_dir() and all(_OURS.fullmatch(f"{path.name}/{p.name}") for p in path.glob("[!.]*"))


def _check_recipe(run: Run, recipe: str) -> None:
    found = run.state.get("recipe", {}).get("name", recipe)
    if found != recipe:
        raise RunError(f"{run.root}: is a run of recipe {found}, not {recipe}; choose another --out.")
