"""What a Ray cluster adds: 1, 2 and 4 nodes with an engine of fixed speed, and what the driver's memory does.

    python benchmarks/ray_scaling.py [RESPONSES ...]

The nodes are real ones, each with its own Ray processes, all on this machine; the engine sleeps, so that two cores
are enough for four of them. Rates are taken while every worker is busy: from the moment when the last has answered its
first call until the first has nothing left. How long workers take to start is told beside. Every part is written and
flushed to disk, as in a build.

The driver's memory is its peak, sampling RESPONSES (10,000 and 100,000) from an engine that answers at once; beside
it, the same in one process without Ray.

Pass marks: at 2 and 4 nodes at least 0.95 of linear; memory grows by less than 1,000 bytes a response, which is what
keys and prompts take: nothing of the texts.
"""

import os
import resource
import subprocess
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
from fusedata.sample.stage import sample
from fusedata.schema import PROMPTS, RESPONSES
from fusedata.store import Run

NODES = (1, 2, 4)
SIZES = (10_000, 100_000)
SAMPLES = 4
BATCH = 32
SECONDS = 1.0
"""What the engine of fixed speed takes for a call of BATCH responses."""
CALLS = 15
"""Calls a worker gets."""
TEXT = "The answer is 42. " * 10
LINEAR = 0.95
GROWTH = 1000
STORE = 100 << 20


class Sleeper:
    """Answers a batch in `seconds`, and writes down in `folder` from when to when it took."""

    name = "sleeper"

    def __init__(self, folder: Path, batch_size: int, seconds: float) -> None:
        self.folder, self.batch_size, self.seconds = folder, batch_size, seconds

    def identity(self) -> dict[str, str]:
        return {"engine": self.name}

    def generate(self, batches: Iterable[Sequence[Request]]) -> Iterator[Group]:
        for batch in batches:
            began = time.time()
            time.sleep(self.seconds)
            yield [(request, Completion(TEXT, "stop", 30, 45)) for request in batch]
            if self.seconds:
                with (self.folder / f"calls-{os.getpid()}").open("a") as file:
                    file.write(f"{began} {time.time()}\n")

    def close(self) -> None:
        pass


def make_engine(folder: Path, batch_size: int, seconds: float, *_: object) -> Sleeper:
    return Sleeper(folder, batch_size, seconds)


def recipe() -> Recipe:
    data = {
        "name": "scaling",
        "description": "Nothing.",
        "corpora": [{"id": "made/corpus", "path": "none.jsonl", "prompt": "q", "license": "mit"}],
        "source_models": [{"id": "made/model", "samples": SAMPLES, "license": "mit"}],
    }
    return validate(Recipe, data, "benchmark")


def prompts(count: int) -> pl.DataFrame:
    """Make prompts of 230 characters without a Python object for each, which would be the peak that is measured."""
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


def sampled(folder: Path, responses: int, batch_size: int, seconds: float, *, on_ray: bool) -> float:
    """Sample, and give the seconds that took, connecting to the cluster included."""
    asked, run, table = recipe(), Run(folder), prompts(responses // SAMPLES)
    folder.mkdir(parents=True, exist_ok=True)
    run.begin({"recipe": {}, "tables": {"responses": {"made/model": {"fingerprint": "0" * 16}}}})
    parts = run.parts("responses", "made/model", RESPONSES)
    make = partial(make_engine, folder, batch_size, seconds)
    model, engine = asked.source_models[0], make()
    began = time.perf_counter()
    if on_ray:
        with OnRay(Seams(asked, Profile(name="benchmark"), make, None, None), run) as cluster:  # type: ignore[arg-type]
            cluster.sample(table, model, engine, parts, lambda _: None)
    else:
        sample(table, model.id, SAMPLES, engine, parts, seed=asked.seed, advance=lambda _: None)
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
            whole = sampled(Path(place), nodes * CALLS * BATCH, BATCH, SECONDS, on_ray=True)
            rate, workers = steady(Path(place))
        rates.append(rate)
        over = (workers / rate - 1 / ideal) * 1000
        share = rate / (nodes * rates[0])
        print(f"{nodes:>5} {workers:>7} {rate:>8.3f} {share:>9.3f} {over:>9.1f} {over / BATCH:>13.3f} {whole:>7.1f}")
    return all(rate / (nodes * rates[0]) >= LINEAR for nodes, rate in zip(NODES, rates, strict=True))


def memory(sizes: Sequence[int]) -> bool:
    print(f"{'responses':>10} {'on Ray, peak MB':>15} {'s':>6} {'here, peak MB':>14} {'s':>6}")
    peaks = []
    with cluster(1):
        for size in sizes:
            (took, peak), (local, beside) = (measured(kind, size) for kind in ("ray", "here"))
            peaks.append(peak)
            print(f"{size:>10,} {peak:>15.0f} {took:>6.1f} {beside:>14.0f} {local:>6.1f}")
    growth = (peaks[-1] - peaks[0]) * (1 << 20) / (sizes[-1] - sizes[0]) if len(sizes) > 1 else 0
    print(f"the driver's memory grows by {growth:,.0f} bytes a response (a text has {len(TEXT)} characters)")
    return growth < GROWTH


def measured(kind: str, size: int) -> tuple[float, float]:
    command = [sys.executable, __file__, kind, str(size)]
    seconds, megabytes = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-2:]
    return float(seconds), float(megabytes)


def main() -> int:
    if sys.argv[1:2] in (["ray"], ["here"]):
        with tempfile.TemporaryDirectory() as place:
            seconds = sampled(Path(place), int(sys.argv[2]), 1_000, 0, on_ray=sys.argv[1] == "ray")
        print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return 0
    sizes = [int(size) for size in sys.argv[1:]] or SIZES
    passed = scaling() & memory(sizes)
    print("PASS" if passed else "FAIL", f"(>= {LINEAR} of linear; < {GROWTH:,} bytes a response)")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
