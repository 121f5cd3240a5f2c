"""What a Ray cluster adds: 1, 2 and 4 nodes with an engine of fixed speed.

    python benchmarks/ray_scaling.py

The nodes are real ones, each with its own Ray processes, all on this machine; the engine sleeps, so that two cores
are enough for four of them. Rates are taken while every worker is busy: from the moment when the last has answered its
first call until the first has nothing left. How long workers take to start is told beside. Every part is written and
flushed to disk, as in a build. What the driver holds is measured by benchmarks/ray_memory.py.

Pass mark: at 2 and 4 nodes at least 0.95 of linear.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import polars as pl

from fusedata.config import validate
from fusedata.on_ray import OnRay, Seams
from fusedata.profile import Profile
from fusedata.recipe import Recipe
from fusedata.sample.protocol import Completion, Group, Request
from fusedata.schema import PROMPTS, RESPONSES
from fusedata.store import Run

NODES = (1, 2, 4)
SAMPLES = 4
BATCH = 32
SECONDS = 1.0
"""What the engine of fixed speed takes for a call of BATCH responses."""
CALLS = 15
"""Calls a worker gets."""
TEXT = "The answer is 42. " * 10
LINEAR = 0.95
STORE = 100 << 20


class Sleeper:
    """Answers a batch in SECONDS, and writes down in `folder` from when to when it took."""

    name = "sleeper"

    batch_size = BATCH

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def identity(self) -> dict[str, str]:
        return {"engine": self.name}

    def generate(self, batches: Iterable[Sequence[Request]]) -> Iterator[Group]:
        for batch in batches:
            began = time.time()
            time.sleep(SECONDS)
            yield [(request, Completion(TEXT, "stop", 30, 45)) for request in batch]
            with (self.folder / f"calls-{os.getpid()}").open("a") as file:
                file.write(f"{began} {time.time()}\n")

    def close(self) -> None:
        pass


def make_engine(folder: Path, *_: object) -> Sleeper:
    return Sleeper(folder)


def recipe() -> Recipe:
    data = {
        "name": "scaling",
        "description": "Nothing.",
        "corpora": [{"id": "made/corpus", "path": "none.jsonl", "prompt": "q", "license": "mit"}],
        "source_models": [{"id": "made/model", "samples": SAMPLES, "license": "mit"}],
    }
    return validate(Recipe, data, "benchmark")


def prompts(count: int) -> pl.DataFrame:
    """Make prompts of 230 characters."""
    text = pl.format("What is {} plus {}? " + "Think of it. " * 15, "corpus_row", "corpus_row")
    turn = pl.struct(role=pl.lit("user"), content=text)
    rows = pl.select(corpus_row=pl.int_range(count)).with_columns(
        prompt_id=pl.col("corpus_row").cast(pl.String).str.zfill(24),
        corpus=pl.lit("made/corpus"),
        messages=pl.concat_list(turn),
        answer=pl.lit("0"),
        tests=pl.lit(None),
        sampled=pl.lit(value=True),
        chars=text.str.len_chars(),
    )
    return rows.select(PROMPTS.names()).cast(PROMPTS)


def sampled(folder: Path, responses: int) -> float:
    """Sample, and give the seconds that took, connecting to the cluster included."""
    asked, run = recipe(), Run(folder)
    tables = {"prompts": {"": {"fingerprint": "0" * 16}}, "responses": {"made/model": {"fingerprint": "0" * 16}}}
    run.begin({"recipe": {}, "tables": tables})
    run.parts("prompts", "", PROMPTS).write("all", prompts(responses // SAMPLES))
    parts = run.parts("responses", "made/model", RESPONSES)
    make = partial(make_engine, folder)
    model, engine = asked.source_models[0], make()
    began = time.perf_counter()
    with OnRay(Seams(asked, Profile(name="benchmark"), make, None, None), run) as cluster:  # type: ignore[arg-type]
        cluster.sample(cluster.plan(model, BATCH, parts), model, engine, parts, lambda _: None)
    return time.perf_counter() - began


@contextmanager
def cluster(nodes: int) -> Iterator[None]:
    from ray.cluster_utils import Cluster

    limits = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": STORE}
    started = Cluster(initialize_head=True, head_node_args={**limits, "include_dashboard": False})
    for _ in range(nodes - 1):
        started.add_node(**limits)
    os.environ["RAY_ADDRESS"] = started.address
    try:
        yield
    finally:
        started.shutdown()


def steady(folder: Path) -> tuple[float, int]:
    """Give calls a second while all workers were busy, and how many workers there were."""
    logs = [[tuple(map(float, line.split())) for line in path.open()] for path in folder.glob("calls-*")]
    began = max(calls[0][1] for calls in logs)
    ended = min(calls[-1][1] for calls in logs)
    rates = [
        (len(inside) - 1) / (inside[-1][1] - inside[0][1]) for calls in logs if (inside := within(calls, began, ended))
    ]
    return sum(rates), len(logs)


def within(calls: list[tuple[float, ...]], began: float, ended: float) -> list[tuple[float, ...]]:
    return [call for call in calls if began <= call[1] <= ended]


def scaling() -> bool:
    ideal = 1 / SECONDS
    print(
        f"{'nodes':>5} {'workers':>7} {'calls/s':>8} {'of linear':>9} {'ms a call':>9} "
        f"{'ms a response':>13} {'all, s':>7}"
    )
    rates = []
    for nodes in NODES:
        with tempfile.TemporaryDirectory() as place, cluster(nodes):
            whole = sampled(Path(place), nodes * CALLS * BATCH)
            rate, workers = steady(Path(place))
        rates.append(rate)
        over = (workers / rate - 1 / ideal) * 1000
        share = rate / (nodes * rates[0])
        print(f"{nodes:>5} {workers:>7} {rate:>8.3f} {share:>9.3f} {over:>9.1f} {over / BATCH:>13.3f} {whole:>7.1f}")
    return all(rate / (nodes * rates[0]) >= LINEAR for nodes, rate in zip(NODES, rates, strict=True))


def main() -> int:
    passed = scaling()
    print("PASS" if passed else "FAIL", f"(>= {LINEAR} of linear)")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
