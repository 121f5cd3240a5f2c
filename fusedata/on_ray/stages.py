"""The stages of a build on a cluster: planned as on one machine, done by pools of workers.

The driver holds counts. Slices of work are read by readers beside the workers, as
fast as these take their pieces; all of them read and write the run folder, which all nodes must see.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from fusedata.collect.locate import Located
from fusedata.collect.stage import Corpora, Funnel
from fusedata.contamination.overlap import Item
from fusedata.corpus import Corpus
from fusedata.on_ray.cluster import (
    connected,
    dataset_of,
    elsewhere,
    kept,
    nodes,
    readings,
    receipts,
)
from fusedata.on_ray.collecting import LEAST_BYTES, PART_BYTES, carry_there, put_together, read_elsewhere, shared
from fusedata.on_ray.planning import Planned, Tables, count_left, plan_samples, slices
from fusedata.on_ray.pools import Pool, check_pool, engine_pool, reward_pool
from fusedata.on_ray.reading import Drawing, Reading, piece
from fusedata.on_ray.tries import counter
from fusedata.on_ray.workers import Judge, Place, Sampler, Scorer, Screener, Seams, Worker
from fusedata.plan import Advance
from fusedata.recipe import SourceModel
from fusedata.reward.protocol import RewardModel
from fusedata.reward.stage import batches as reward_batches
from fusedata.reward.stage import scored_with
from fusedata.sample.engines import host_of
from fusedata.sample.protocol import Engine
from fusedata.sample.stage import check_answered
from fusedata.schema import PROMPTS
from fusedata.screen.stage import PART as SCREENED
from fusedata.screen.stage import batches as screen_batches
from fusedata.screen.stage import screened_by
from fusedata.store import Parts, Run
from fusedata.verify.stage import PART as JUDGED
from fusedata.verify.stage import batches as verify_batches
from fusedata.verify.stage import judged_by

if TYPE_CHECKING:
    from fusedata.profile import EngineHost

_ROUNDS = 4
"""Calls of an engine that each worker is to get at least, where there is work for so many: the last ends evenly."""
_CALLS = 10_000
"""Calls of workers that a stage has at most, as long as their pieces are not cut by something else."""
_SLICE = 1 << 19
"""Requests that a reader plans at a time."""
_FILLS = 8
"""How often one call fills an engine that takes many requests at a time: it runs empty once a call."""


class OnRay:
    """Samples, screens, verifies and scores on a cluster, to which it is connected while it is entered."""

    def __init__(self, seams: Seams, run: Run, least: int = LEAST_BYTES, size: int = PART_BYTES) -> None:
        """Connect to nothing yet; corpora of `least` bytes are read in parts of `size` bytes."""
        self._seams, self._run, self._stack = seams, run, ExitStack()
        self._least, self._size = least, size
        self._counter: Any = None

    def __enter__(self) -> Self:
        """Raise ConfigError where no cluster answers, MissingExtraError."""
        self._stack.enter_context(connected())
        self._counter = counter()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def collect(self, corpora: Corpora, items: Sequence[Item]) -> Funnel | None:
        """Collect PROMPTS and DROPPED out of `corpora`, and give the funnel.

        None: they are small, all together, and nothing was done. Raises FusedataError.
        """
        if _bytes([located for _, located in corpora]) < self._least:
            return None
        corpora = [(corpus, _absolute(located)) for corpus, located in corpora]
        tables, counts = read_elsewhere(self._seen, corpora, self._seams.recipe.seed, self._size)
        together = partial(put_together, self._seen, self._seams, corpora, items, tables, counts)
        found: list[tuple[Funnel, Any]] = elsewhere([together])
        return found[0][0]

    def carry(self, corpus: Corpus, located: Located) -> bool:
        """Read the responses that a corpus carries. Raises FusedataError.

        False: it is small, or not all nodes see it, and nothing was done.
        """
        located = _absolute(located)
        if _bytes([located]) < self._least or not all(shared([(corpus, located)])):
            return False
        elsewhere([partial(carry_there, self._seen, self._seams, corpus, located)])
        return True

    def plan(self, model: SourceModel, batch_size: int, parts: Parts, kind: str = "part") -> Planned:
        """Plan the samples of `model` that are in no part of this `kind`. Raises FusedataError."""
        asked = self._seams.recipe, model, batch_size, parts, kind
        (((missing, batches), plan),) = elsewhere([partial(plan_samples, self._seen, self._prompts, *asked)])
        return Planned(missing, batches, plan)

    def left(self, tables: Tables) -> list[int]:
        """Count the responses of each table that are left to do. Raises FusedataError."""
        cuts = slices(tables, len(nodes()))
        calls = (partial(count_left, self._seen, self._prompts, *tables[number], paths) for number, paths in cuts)
        left = [0] * len(tables)
        for (number, _), (rows, _) in zip(cuts, elsewhere(calls), strict=True):
            left[number] += rows
        return left

    def sample(self, plan: Planned, model: SourceModel, engine: Engine, parts: Parts, advance: Advance) -> None:
        """Draw the samples of `model` that are missing; `engine` is not loaded here. Raises FusedataError."""
        parts.forget_failed()
        host = host_of(model, self._seams.profile)
        pool = engine_pool(host, self._seams.profile.ray, model.id, nodes())
        batches = _batches_a_call(plan.batches, engine.batch_size, host, pool)
        drawing = Drawing(self._seen, self._prompts, f"sample {model.id}", kept(plan.plan), batches)
        given = readings(dataset_of(_slices(plan.batches, batches, engine.batch_size)), drawing)
        arguments = {"model": model, "parts": parts, "identity": engine.identity()}
        for receipt in self._receipts(given, Sampler, arguments, pool):
            advance(receipt["rows"])
        check_answered(self.plan(model, engine.batch_size, parts, "*").missing, model.id, engine)

    def screen(self, tables: Tables, missing: int, advance: Advance) -> None:
        """Screen the `missing` responses that nothing is said of. Raises FusedataError."""
        given = self._read("flaws", tables, missing, screened_by, screen_batches, SCREENED)
        pool = check_pool(1, self._seams.profile.ray, nodes())
        for receipt in self._receipts(given, Screener, {"tables": [parts for _, parts in tables]}, pool):
            advance(receipt["rows"])

    def verify(self, tables: Tables, missing: int, identity: Mapping[str, object], advance: Advance) -> None:
        """Judge the `missing` responses that lack a verdict, by the check of this identity. Raises FusedataError."""
        profile = self._seams.profile
        kind = self._seams.recipe.correctness
        limits = profile.verification if kind and kind.check == "math_answer" else profile.sandbox
        pool = check_pool(limits.workers, profile.ray, nodes())
        workers = {"workers": pool.cpus}
        sized = {
            "verification": profile.verification.model_copy(update=workers),
            "sandbox": profile.sandbox.model_copy(update=workers),
        }
        seams = replace(self._seams, profile=profile.model_copy(update=sized))
        given = self._read("verdicts", tables, missing, judged_by, verify_batches, JUDGED)
        own = [parts for _, parts in tables]
        arguments: dict[str, object] = {"tables": own, "identity": dict(identity), "seams": seams}
        for receipt in self._receipts(given, Judge, arguments, pool):
            advance(receipt["rows"])

    def reward(self, tables: Tables, missing: int, model: RewardModel, advance: Advance) -> float:
        """Score the `missing` responses that lack a reward; `model` is not loaded here.

        Gives the largest `tolerance` that a worker's model has. Raises FusedataError.
        """
        host = self._seams.profile.reward
        pool = reward_pool(host, self._seams.profile.ray, nodes())
        cut = partial(reward_batches, batch_size=host.batch_size)
        given = self._read("rewards", tables, missing, scored_with, cut, host.batch_size)
        arguments: dict[str, object] = {"tables": [parts for _, parts in tables], "identity": model.identity()}
        tolerance = model.tolerance
        for receipt in self._receipts(given, Scorer, arguments, pool):
            tolerance = max(tolerance, receipt["tolerance"])
            advance(receipt["rows"])
        return tolerance

    @property
    def _seen(self) -> Place:
        return Place(str(self._run.root.absolute()), json.loads(json.dumps(self._run.state["tables"])), self._counter)

    @property
    def _prompts(self) -> Parts:
        return self._run.parts("prompts", "", PROMPTS)

    def _read(self, doing: str, tables: Tables, missing: int, columns: Any, cut: Any, size: int) -> Any:  # noqa: ANN401
        """Give the dataset of all batches of `size`: windows of parts are cut here, and read on the cluster."""
        known = tuple((responses, piece(parts, parts.paths("part"))) for responses, parts in tables)
        batches = max(1, missing // size // _CALLS)
        given = (pa.table({"table": [number], "paths": [paths]}) for number, paths in slices(tables, len(nodes())))
        return readings(dataset_of(given), Reading(self._seen, self._prompts, doing, columns, known, cut, batches))

    def _receipts(
        self,
        given: Any,  # noqa: ANN401
        worker: type[Worker],
        arguments: dict[str, object],
        pool: Pool,
    ) -> Iterator[dict[str, Any]]:
        return receipts(given, worker, {"seams": self._seams, "place": self._seen, **arguments}, pool)


def _absolute(located: Located) -> Located:
    """Name the files as workers find them, which are in folders of their own."""
    return replace(located, files=tuple(path.absolute() for path in located.files))


def _bytes(corpora: Iterable[Located]) -> int:
    return sum(path.stat().st_size for located in corpora for path in located.files)


def _batches_a_call(missing: int, batch_size: int, host: "EngineHost | None", pool: Pool) -> int:
    """Say how many of the `missing` planned batches a worker gets at once.

    One, for an engine that runs batches. One that takes requests as it has room is kept full by more, as long as
    every worker gets several calls. No stage has very many calls: the driver keeps some kilobytes of each.
    """
    in_flight = getattr(host, "in_flight", 0)
    most = max(1, _FILLS * in_flight // batch_size)
    fair = missing // (_ROUNDS * pool.size)
    least = max(1, min(-(-in_flight // batch_size), missing // pool.size))
    return max(least, min(most, fair), missing // _CALLS)


def _slices(missing: int, batches: int, batch_size: int) -> Iterator[pa.Table]:
    """Cut the `missing` batches into slices of pieces of so many batches, those with the longest prompts first."""
    most = max(1, _SLICE // (batches * batch_size)) * batches
    for first in reversed(range(0, missing, most)):
        yield pa.table({"first": [first], "end": [min(first + most, missing)]})
