"""What the driver of a build on Ray holds: its peak memory from 10,000 to 10,000,000 responses, stage by stage.

    python benchmarks/ray_memory.py [RESPONSES ...]

Engine, check and reward model answer at once; every part is written and flushed to disk, as in a build. Each size is
sampled, verified and scored by a driver of its own on a cluster of one node, 1,000 responses a batch, four a prompt of
about 230 characters. PROMPTS are written beforehand by another process: collecting them is not measured here, nor the
selection, which reads the keys and numbers of the whole run. Beside it, up to a million responses, the same samples in
one process without Ray.

The largest size takes about ten minutes and 3 GB of disk.

Pass mark: from the smallest size to the largest the driver's peak grows by less than 300 MB.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import polars as pl

from fusedata.build import Silent
from fusedata.config import validate
from fusedata.on_ray import OnRay, Seams
from fusedata.profile import Profile, RewardHost
from fusedata.recipe import Recipe
from fusedata.reward.protocol import Item, Scored
from fusedata.sample.protocol import Completion, Group, Request
from fusedata.schema import PROMPTS
from fusedata.store import Run, read_run
from fusedata.verify.checks import Check, Verdict
from fusedata.work import Work

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
LOCAL = 1_000_000
SAMPLES = 4
BATCH = 1_000
TEXT = "The answer is 42. " * 10
GROWTH_MB = 300
STORE = 200 << 20
NAMES = {"prompts": "", "responses": "made/model", "verdicts": "made/model", "rewards": "made/model"}


class Instant:
    """Engine and reward model that answer at once."""

    name = "instant"
    batch_size = BATCH
    tolerance = 0.0
    self_test = ""

    def identity(self) -> dict[str, str]:
        return {"engine": self.name}

    def generate(self, batches: Iterable[Sequence[Request]]) -> Iterator[Group]:
        for batch in batches:
            yield [(request, Completion(TEXT, "stop", 30, 45)) for request in batch]

    def score(self, items: Sequence[Item]) -> list[Scored]:
        return [Scored(0.5, 75)] * len(items)

    def close(self) -> None:
        pass


def make(*_: object) -> Instant:
    return Instant()


@contextmanager
def open_check(*_: object) -> Iterator[Check]:
    yield Check(lambda rows: iter([Verdict(passed=True, status="right", detail="42")] * rows.height), None, {})  # type: ignore[arg-type]


def recipe() -> Recipe:
    data = {
        "name": "memory",
        "description": "Nothing.",
        "corpora": [{"id": "made/corpus", "path": "none.jsonl", "prompt": "q", "answer": "a", "license": "mit"}],
        "source_models": [{"id": "made/model", "samples": SAMPLES, "license": "mit"}],
        "correctness": {"check": "math_answer"},
        "reward": {"model": "instant"},
    }
    return validate(Recipe, data, "benchmark")


def prompts(folder: Path, count: int) -> None:
    """Write a run with its PROMPTS."""
    text = pl.format("What is {} plus {}? " + "Think of it. " * 15, "corpus_row", "corpus_row")
    rows = pl.select(corpus_row=pl.int_range(count)).with_columns(
        prompt_id=pl.col("corpus_row").hash().map_elements(lambda n: f"{n:024x}", pl.String),
        corpus=pl.lit("made/corpus"),
        messages=pl.concat_list(pl.struct(role=pl.lit("user"), content=text)),
        answer=pl.lit("42"),
        tests=pl.lit(None),
        sampled=pl.lit(value=True),
        chars=text.str.len_chars(),
    )
    tables = {stage: {label: {"fingerprint": "0" * 16, "samples": SAMPLES}} for stage, label in NAMES.items()}
    tables["prompts"][""].pop("samples")
    run = Run(folder)
    run.begin({"recipe": {}, "tables": tables, "reward_tolerance": {}, "reward_self_test": {}})
    run.parts("prompts", "", PROMPTS).write("all", rows.sort("prompt_id"))


def driver(folder: Path, *, on_ray: bool) -> list[tuple[str, float, float]]:
    """Do the stages, and give of each its name, its seconds and the peak of this process so far, in MB."""
    host = Profile(name="benchmark", reward=RewardHost(batch_size=BATCH))
    run, engine = read_run(folder), Instant()
    told = []

    def after(name: str, began: float) -> None:
        told.append((name, time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))

    with OnRay(Seams(recipe(), host, make, make, open_check), run) if on_ray else nullcontext() as cluster:
        work = Work(run, recipe(), Silent(), [], cluster)
        began = time.perf_counter()
        work.sample({"made/model": engine})
        after("sample", began)
        with open_check() as check:
            began = time.perf_counter()
            work.verify("math_answer", check)
            after("verify", began)
        began = time.perf_counter()
        work.reward(engine, BATCH)
        after("reward", began)
    return told


@contextmanager
def cluster() -> Iterator[None]:
    from ray.cluster_utils import Cluster

    limits = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": STORE, "include_dashboard": False}
    started = Cluster(initialize_head=True, head_node_args=limits)
    os.environ["RAY_ADDRESS"] = started.address
    try:
        yield
    finally:
        started.shutdown()


def measured(kind: str, folder: Path, size: int) -> list[list[str]]:
    command = [sys.executable, __file__, kind, str(folder), str(size)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [line.split() for line in told.splitlines()]


def main() -> int:
    if sys.argv[1:2] == ["prompts"]:
        prompts(Path(sys.argv[2]), int(sys.argv[3]) // SAMPLES)
        return 0
    if sys.argv[1:2] in (["ray"], ["here"]):
        for told in driver(Path(sys.argv[2]), on_ray=sys.argv[1] == "ray"):
            print(*told)
        return 0
    sizes = [int(size) for size in sys.argv[1:]] or SIZES
    print(
        f"{'responses':>10}  {'':4} "
        + "  ".join(f"{stage + ', s':>10} {'peak MB':>8}" for stage in ("sample", "verify", "reward"))
    )
    peaks = []
    with cluster():
        for size in sizes:
            for kind in ("ray", "here") if size <= LOCAL else ("ray",):
                with tempfile.TemporaryDirectory() as place:
                    measured("prompts", Path(place), size)
                    rows = measured(kind, Path(place), size)
                print(
                    f"{size:>10,}  {kind:4} " + "  ".join(f"{float(s):>10.1f} {float(p):>8.0f}" for _, s, p in rows),
                    flush=True,
                )
                if kind == "ray":
                    peaks.append(float(rows[-1][2]))
    growth = peaks[-1] - peaks[0]
    print(
        "PASS" if growth < GROWTH_MB else "FAIL", f"(the driver's peak grows by {growth:.0f} MB; mark: {GROWTH_MB} MB)"
    )
    return 0 if growth < GROWTH_MB else 1


if __name__ == "__main__":
    sys.exit(main())
