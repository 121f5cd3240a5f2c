"""What runs in the workers of a cluster: they write finished parts into the run themselves, and give back counts.

A batch that Ray repeats, because its worker died before it could tell, has the same rows and so the same name: it
replaces itself. Errors of ours come back as receipts, never as exceptions: Ray would show a traceback.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from platform import node
from typing import Any

import polars as pl
import pyarrow as pa

from fusedata.errors import EngineError, FusedataError, RewardError, RunError, VerifierError
from fusedata.on_ray.tries import counted
from fusedata.profile import Profile
from fusedata.recipe import Correctness, Recipe, Reward, SourceModel
from fusedata.reward.protocol import RewardModel
from fusedata.reward.stage import score
from fusedata.sample.protocol import Completion, Engine, Request
from fusedata.sample.stage import requests, write
from fusedata.schema import keys_digest
from fusedata.screen.stage import screened
from fusedata.storage import is_url, place
from fusedata.store import Parts, State, count, read_run
from fusedata.verify.checks import Check
from fusedata.verify.stage import judge


@dataclass(frozen=True)
class Seams:
    """What a build is made of: its recipe and profile, and the makers of engine, reward model and check."""

    recipe: Recipe
    profile: Profile
    make_engine: Callable[..., Engine]
    make_reward: Callable[..., RewardModel]
    open_check: Callable[[Correctness | None, Profile], AbstractContextManager[Check | None]]


@dataclass(frozen=True)
class Place:
    """The run that a worker writes into, by path or URL: as the driver sees it, and so as the worker must."""

    root: str
    tables: State
    counter: Any = None
    """The actor that counts how often each piece of work is begun; None: nobody does."""

    def check(self) -> None:
        """Raise RunError where this node sees no such run, MissingExtraError where it cannot read such a URL."""
        root = place(self.root)
        try:
            same = read_run(root).state["tables"] == self.tables
        except RunError:
            same = False
        if not same:
            remedy = "--out must lie on storage that all nodes of the cluster share"
            if is_url(root):
                remedy = (
                    "start Ray on every node with the environment variables that say where the store is, and who asks"
                )
            raise RunError(f"{root}: the node {node()} does not see this run there; {remedy}.")

    @contextlib.contextmanager
    def begun(self, doing: str, piece: object = "") -> Iterator[None]:
        """Do some work for the run beside its workers, counted by what `doing` and `piece` say of it.

        Raises as `check` does, and RunError where it was begun too often.
        """
        self.check()
        with counted(self.counter, f"{doing}: {piece}".encode(), RunError, doing):
            yield


def packed(rows: pl.DataFrame) -> bytes:
    """Pack rows for the way to a worker; the same prompt in one row after another takes little space."""
    with BytesIO() as held:
        rows.write_ipc(held, compression="zstd")
        return held.getvalue()


def work(table: int, rows: pl.DataFrame) -> pa.Table:
    """Give one piece of work: rows that belong to the `table`-th table of its stage."""
    return pa.table({"table": [table], "rows": [packed(rows)], "kind": [""], "error": [""]})


def failure(error: FusedataError) -> dict[str, list[str]]:
    """Give an error as columns of a receipt."""
    return {"kind": [type(error).__name__], "error": [str(error)]}


class Worker:
    """An actor of a pool: takes a piece of work at a time, and gives a receipt for it.

    It opens what it works with at the first piece, so that whatever goes wrong with that is told in a receipt, too.
    """

    tolerance = 0.0
    error: type[FusedataError] = EngineError

    def __init__(self, seams: Seams, place: Place, doing: str) -> None:
        """Open nothing yet; `doing` names the work."""
        self.seams, self.place, self.doing, self.stack = seams, place, doing, ExitStack()
        self._seen = False

    def __call__(self, pieces: pa.Table) -> pa.Table:
        """Do the work, and give a receipt: the rows that are done, or an error."""
        told = {"kind": [""], "error": [""]}
        done = 0
        for piece in pieces.to_pylist():
            if piece["kind"]:
                told = {"kind": [piece["kind"]], "error": [piece["error"]]}
                continue
            try:
                if not self._seen:
                    self.place.check()
                    self._seen = True
                with counted(self.place.counter, piece["rows"], self.error, self.doing):
                    done += self.act(piece["table"], pl.read_ipc(BytesIO(piece["rows"])))
            except FusedataError as error:
                told = failure(error)
        return pa.table({"rows": [done], "tolerance": [float(self.tolerance)], **told})

    def act(self, table: int, rows: pl.DataFrame) -> int:
        """Do one piece of work, write what came of it, and count its rows. Raises FusedataError."""
        raise NotImplementedError

    def __del__(self) -> None:
        """Free what was opened: Ray lets go of a worker when its pool has nothing left to do."""
        with contextlib.suppress(Exception):
            self.stack.close()


class Sampler(Worker):
    """Holds the engine of one source model."""

    def __init__(
        self, seams: Seams, place: Place, model: SourceModel, parts: Parts, identity: Mapping[str, str]
    ) -> None:
        """Make no engine yet; `identity` is that of the driver's."""
        super().__init__(seams, place, f"sample {model.id}")
        self._model, self._parts, self._identity = model, parts, identity

    @cached_property
    def _engine(self) -> Engine:
        engine = self.seams.make_engine(self._model, self.seams.profile)
        _check_same(engine.identity(), self._identity, self._model.id, EngineError)
        self.stack.callback(engine.close)
        return engine

    def act(self, table: int, rows: pl.DataFrame) -> int:  # noqa: ARG002 - there is one table
        """Answer some planned batches, each written as one part when its last response is there.

        A batch that a worker finished before it died is passed over: what Ray repeats is paid for once.
        """
        batches = dict(self._batches(rows))
        left = {name: batch for name, batch in batches.items() if not self._is_whole(name, len(batch))}
        done = sum(len(batch) for name, batch in batches.items() if name not in left)
        homes = {_key(request): name for name, batch in left.items() for request in batch}
        answers: dict[str, dict[tuple[str, int], tuple[Request, Completion]]] = {name: {} for name in left}
        for group in self._engine.generate(iter(left.values())) if left else ():
            for request, completion in group:
                name = homes[_key(request)]
                answers[name][_key(request)] = request, completion
                if len(answers[name]) == len(left[name]):
                    whole = answers.pop(name)
                    write([whole[_key(r)] for r in left[name]], self._model.id, self._engine.name, self._parts)
                    done += len(whole)
        return done

    def _batches(self, rows: pl.DataFrame) -> Iterator[tuple[str, list[Request]]]:
        for batch in rows.partition_by("batch", maintain_order=True):
            turns = zip(batch.select("prompt_id", "sample").iter_rows(), batch["messages"].to_list(), strict=True)
            yield keys_digest(batch), requests(turns, self._model.id, self.seams.recipe.seed)

    def _is_whole(self, name: str, size: int) -> bool:
        """Tell whether a batch stands in the run; what failed of one that does not is about to be tried again."""
        part, failed = (self._parts.folder / f"{kind}-{name}.parquet" for kind in ("part", "failed"))
        held = [path for path in (part, failed) if path.exists()]
        if held and count(self._parts.read(held), self._parts) == size:
            return True
        failed.unlink(missing_ok=True)
        return False


def _key(request: Request) -> tuple[str, int]:
    return request.prompt_id, request.sample


def _cut(rows: pl.DataFrame) -> list[pl.DataFrame]:
    return rows.partition_by("batch", maintain_order=True, include_key=False)


class Screener(Worker):
    """Applies the rules of a recipe's screen."""

    error = RunError

    def __init__(self, seams: Seams, place: Place, tables: list[Parts]) -> None:
        """Look at nothing yet."""
        super().__init__(seams, place, "flaws")
        self._tables = tables

    def act(self, table: int, rows: pl.DataFrame) -> int:
        """Screen some batches."""
        rules = self.seams.recipe.screen
        assert rules
        return sum(screened(batch, self._tables[table], rules) for batch in _cut(rows))


class Judge(Worker):
    """Holds the check of a recipe."""

    error = VerifierError

    def __init__(self, seams: Seams, place: Place, tables: list[Parts], identity: Mapping[str, object]) -> None:
        """Open no check yet; `identity` is that of the driver's."""
        super().__init__(seams, place, "verdicts")
        self._tables, self._identity = tables, identity

    @cached_property
    def _check(self) -> Check:
        asked = self.seams.recipe.correctness
        check = self.stack.enter_context(self.seams.open_check(asked, self.seams.profile))
        assert asked
        assert check
        _check_same(check.identity, self._identity, f"the check {asked.check}", VerifierError)
        return check

    def act(self, table: int, rows: pl.DataFrame) -> int:
        """Judge some batches."""
        asked = self.seams.recipe.correctness
        assert asked
        return sum(judge(batch, self._tables[table], self._check, asked.check) for batch in _cut(rows))


class Scorer(Worker):
    """Holds a reward model."""

    error = RewardError

    def __init__(self, seams: Seams, place: Place, tables: list[Parts], identity: Mapping[str, str]) -> None:
        """Make no reward model yet; `identity` is that of the driver's."""
        super().__init__(seams, place, "rewards")
        self._tables, self._identity = tables, identity

    @cached_property
    def _model(self) -> RewardModel:
        asked: Reward | None = self.seams.recipe.reward
        assert asked
        model = self.seams.make_reward(asked, self.seams.profile.reward)
        _check_same(model.identity(), self._identity, f"the reward model {model.name}", RewardError)
        self.stack.callback(model.close)
        return model

    def act(self, table: int, rows: pl.DataFrame) -> int:
        """Score some batches; the model may find its tolerance while it loads."""
        done = sum(score(batch, self._tables[table], self._model) for batch in _cut(rows))
        self.tolerance = self._model.tolerance
        return done


def _check_same(
    found: Mapping[str, object], driver: Mapping[str, object], name: str, kind: type[FusedataError]
) -> None:
    """Raise where a worker would work with something else than the run's fingerprints say."""
    different = sorted(key for key in {*found, *driver} if found.get(key) != driver.get(key))
    if different:
        key = different[0]
        told = f"{key} is {found.get(key)} on the node {node()} and {driver.get(key)} where the build was begun"
        raise kind(f"{name}: {told}; give all nodes the same.")
