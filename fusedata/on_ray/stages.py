"""The stages of a build on a cluster: planned by the driver as on one machine, done by pools of workers.

The driver holds keys and counts. Prompts go to workers with their batches; responses are read and written by the
workers, in the run folder, which all nodes must see.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import polars as pl
import pyarrow as pa

from fusedata.on_ray.cluster import (
    Pool,
    check_pool,
    connected,
    dataset_of,
    engine_pool,
    readings,
    receipts,
    reward_pool,
)
from fusedata.on_ray.tries import counter
from fusedata.on_ray.workers import Judge, Place, Reading, Sampler, Scorer, Seams, Worker, piece, work
from fusedata.plan import WINDOW_BYTES, Advance, cut
from fusedata.recipe import SourceModel
from fusedata.reward.protocol import RewardModel
from fusedata.reward.stage import batches as reward_batches
from fusedata.reward.stage import scored_with
from fusedata.sample.engines import host_of
from fusedata.sample.protocol import Engine
from fusedata.sample.stage import check_answered, todo
from fusedata.store import Parts, Run
from fusedata.verify.stage import batches as verify_batches
from fusedata.verify.stage import judged_by

if TYPE_CHECKING:
    from fusedata.profile import EngineHost

Tables = Sequence[tuple[Parts, Parts]]
"""RESPONSES of each source, with the table that a stage makes of them."""
_ROUNDS = 4
"""Calls of an engine that each worker is to get at least, where there is work for so many: the last ends evenly."""
_FILLS = 8
"""How often one call fills an engine that takes many requests at a time: it runs empty once a call."""


class OnRay:
    """Samples, verifies and scores on a cluster, which is connected to when there is something to do."""

    def __init__(self, seams: Seams, run: Run) -> None:
        """Connect to nothing yet."""
        self._seams, self._run, self._stack = seams, run, ExitStack()
        self._is_connected = False
        self._counter: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def sample(self, prompts: pl.DataFrame, model: SourceModel, engine: Engine, parts: Parts, advance: Advance) -> None:
        """Draw the samples of `model` that `parts` lacks; `engine` is not loaded here. Raises FusedataError."""
        self._connect()
        parts.forget_failed()
        host = host_of(model, self._seams.profile)
        pool = engine_pool(host, self._seams.profile.ray, model.id)
        missing = todo(prompts, model.id, model.samples, engine.batch_size, parts)
        given = dataset_of(_shares(prompts, missing, _batches_a_call(missing, engine.batch_size, host, pool)))
        del missing
        arguments = {"model": model, "parts": parts, "identity": engine.identity()}
        for receipt in self._receipts(given, Sampler, arguments, pool):
            advance(receipt["rows"])
        check_answered(prompts, model.id, model.samples, engine, parts)

    def verify(self, prompts: pl.DataFrame, tables: Tables, identity: Mapping[str, object], advance: Advance) -> None:
        """Judge the responses that lack a verdict, by the check of this identity. Raises FusedataError."""
        self._connect()
        profile = self._seams.profile
        kind = self._seams.recipe.correctness
        limits = profile.verification if kind and kind.check == "math_answer" else profile.sandbox
        pool = check_pool(limits.workers, profile.ray)
        workers = {"workers": pool.cpus}
        sized = {
            "verification": profile.verification.model_copy(update=workers),
            "sandbox": profile.sandbox.model_copy(update=workers),
        }
        seams = replace(self._seams, profile=profile.model_copy(update=sized))
        given = _windows(judged_by(prompts), tables, partial(verify_batches), self._counter)
        own = [parts for _, parts in tables]
        arguments: dict[str, object] = {"tables": own, "identity": dict(identity), "seams": seams}
        for receipt in self._receipts(given, Judge, arguments, pool):
            advance(receipt["rows"])

    def reward(self, prompts: pl.DataFrame, tables: Tables, model: RewardModel, advance: Advance) -> float:
        """Score the responses that lack a reward; `model` is not loaded here.

        Gives the largest `tolerance` that a worker's model has. Raises FusedataError.
        """
        self._connect()
        host = self._seams.profile.reward
        pool = reward_pool(host, self._seams.profile.ray)
        cut = partial(reward_batches, batch_size=host.batch_size)
        given = _windows(scored_with(prompts), tables, cut, self._counter)
        arguments: dict[str, object] = {"tables": [parts for _, parts in tables], "identity": model.identity()}
        tolerance = model.tolerance
        for receipt in self._receipts(given, Scorer, arguments, pool):
            tolerance = max(tolerance, receipt["tolerance"])
            advance(receipt["rows"])
        return tolerance

    def _receipts(
        self,
        given: Any,  # noqa: ANN401
        worker: type[Worker],
        arguments: dict[str, object],
        pool: Pool,
    ) -> Iterator[dict[str, Any]]:
        place = Place(str(self._run.root.absolute()), json.loads(json.dumps(self._run.state["tables"])), self._counter)
        return receipts(given, worker, {"seams": self._seams, "place": place, **arguments}, pool)

    def _connect(self) -> None:
        if not self._is_connected:
            self._stack.enter_context(connected())
            self._counter = counter()
            self._is_connected = True


def _batches_a_call(missing: pl.DataFrame, batch_size: int, host: "EngineHost | None", pool: Pool) -> int:
    """Say how many planned batches a worker gets at once.

    One, for an engine that runs batches. One that takes requests as it has room is kept full by more, as long as
    every worker gets several calls.
    """
    in_flight = getattr(host, "in_flight", 0)
    most = max(1, _FILLS * in_flight // batch_size)
    fair = missing["batch"].n_unique() // (_ROUNDS * pool.size)
    least = max(1, min(-(-in_flight // batch_size), missing["batch"].n_unique() // pool.size))
    return max(least, min(most, fair))


def _shares(prompts: pl.DataFrame, missing: pl.DataFrame, batches: int) -> Iterator[pa.Table]:
    """Cut what is missing into pieces of work of so many planned batches, those with the longest prompts first."""
    share = missing["batch"].rle_id() // batches
    starts = [*share.rle_id().to_frame("n").with_row_index().group_by("n").agg(pl.col("index").min())["index"].sort()]
    for start, end in reversed([*pairwise([*starts, missing.height])]):
        rows = missing[start:end]
        messages = prompts["messages"].gather(rows["row"])
        yield work(0, rows.select("prompt_id", "sample", "batch").with_columns(messages))


def _windows(prompts: pl.DataFrame, tables: Tables, cut: Any, counter: Any) -> Any:  # noqa: ANN401
    """Give the dataset of all batches: windows of parts are cut here, and read on the cluster."""
    import ray

    known = tuple((responses, piece(parts, parts.paths("part"))) for responses, parts in tables)
    reading = Reading(ray.put(prompts.to_arrow()), known, cut, counter)
    return readings(dataset_of(_window_rows(tables)), reading)


def _window_rows(tables: Tables) -> Iterator[pa.Table]:
    for number, (responses, _) in enumerate(tables):
        for paths in cut(responses.paths("part"), WINDOW_BYTES):
            yield pa.table({"table": [number], "paths": [[str(path.absolute()) for path in paths]]})
