"""What is planned on the cluster, so that the driver holds counts: which samples are missing, which responses are left.

A plan lies in the cluster's object store. The functions run as tasks, on any node.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from operator import itemgetter
from typing import Any

from fusedata.on_ray.reading import piece
from fusedata.on_ray.workers import Place
from fusedata.plan import WINDOW_BYTES, cut, unfinished
from fusedata.recipe import Recipe, SourceModel
from fusedata.sample.plan import Plan, planned
from fusedata.split import asked
from fusedata.storage import place as folder
from fusedata.store import Parts, collect

Tables = Sequence[tuple[Parts, Parts]]
"""RESPONSES of each source, with the table that a stage makes of them."""
_WINDOWS = 8
"""Windows that are read one after another, at most: what is done is read once for all of them."""
_ROUNDS = 4
"""Slices that each node is to get at least, where there are windows for so many."""


@dataclass(frozen=True)
class Planned:
    """A plan in the object store: how many samples are missing, and in how many batches."""

    missing: int
    batches: int
    plan: Any
    """A reference to it; its rows are those of the run's PROMPTS."""


def plan_samples(
    seen: Place, prompts: Parts, recipe: Recipe, model: SourceModel, batch_size: int, parts: Parts, kind: str
) -> tuple[tuple[int, int], Plan]:
    """Plan the samples of a source model, and count them and their batches. Raises RunError."""
    with seen.begun(f"sample {model.id}: planning"):
        columns = ("row", "prompt_id", "corpus", "sampled", "chars")
        rows = collect(prompts.scan(first=0).select(columns), [prompts])
        plan = planned(asked(rows, recipe, model.id), model.id, model.samples, batch_size, parts, kind)
        return (plan.missing, len(plan.batches)), plan


def slices(tables: Tables, nodes: int) -> list[tuple[int, list[str]]]:
    """Cut the parts of all responses into slices of neighbouring windows, each of one table, by its number."""
    cuts = [(n, w) for n, (responses, _) in enumerate(tables) for w in cut(responses.paths("part"), WINDOW_BYTES)]
    most = max(1, min(_WINDOWS, len(cuts) // (_ROUNDS * nodes)))
    windows = {number: [own for _, own in group] for number, group in groupby(cuts, key=itemgetter(0))}
    return [
        (number, [str(path.absolute()) for path in chain(*own[start : start + most])])
        for number, own in windows.items()
        for start in range(0, len(own), most)
    ]


def count_left(seen: Place, prompts: Parts, responses: Parts, done: Parts, paths: Sequence[str]) -> tuple[int, None]:
    """Count what is left of the responses in some parts. Raises RunError."""
    with seen.begun("counting what is left to do", (done.folder, paths)):
        return unfinished(prompts.scan(), piece(responses, [folder(path) for path in paths]), done), None
