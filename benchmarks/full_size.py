"""Selecting, splitting and staging at full size, beside polars that merely reads the files once.

The run, as `benchmarks/selection.py` writes it: a million prompts, 4 source models, 5 samples: 20 million responses of
1,050 to 3,100 characters (17 GB of Parquet). From it to two dataset folders with cards and checksums: 400,000 SFT
rows and 600,000 pairs, by the ratio 4:6, with the texts of 1.6 million responses. Measured are the seconds and the
memory of the whole (`stage`), and of its decision (`decide`: which response goes where, keys and numbers, once they
are read). The peer decodes every column of every file once, and adds up what they hold. Each in a process of its own,
with the memory settings of the command line; they take turns, `RUNS` each, and of each the fastest counts. Then, in the
same run, pairs are selected from `HELD` prompts beside pandas and `datasets`, who hold all of them in memory. Exits 1
where a mark is missed.

    python benchmarks/full_size.py [--prompts N] [--folder FOLDER] [--keep]

100,000 prompts are the default; `--prompts 1000000` is full size, and takes 23 GB of disk.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path

import polars as pl
import selection
from report import RECIPE, stage
from selection import MODELS, SAMPLES, TABLES, files, made, parts_of

from fusedata import dataset
from fusedata.candidates import Tables, candidates
from fusedata.cli import MEMORY
from fusedata.rules import Split

PASS_RATIO = 0.5
PASS_MB = 4_000
RUNS = 2
AIM_DECISION_SECONDS = 10
HELD = 20_000
PART = 10_000
FULL = RECIPE.model_copy(update={"split": Split(order="ratio", sft=0.4)})


def decoded(root: Path) -> dict[str, float]:
    """Decode every column of every file."""
    numbers = pl.selectors.numeric() | pl.selectors.boolean()
    for name in TABLES:
        rows = pl.scan_parquet(files(root, name)).select(pl.selectors.string().str.len_bytes().sum(), numbers.sum())
        rows.collect(engine="streaming")
    return {}


def staged(root: Path) -> dict[str, float]:
    stage(root, FULL)
    return {kind: _height(root / "dataset" / kind / "data") for kind in ("sft", "dpo")}


def _height(folder: Path) -> float:
    return float(pl.scan_parquet(folder / "*.parquet").select(pl.len()).collect().item())


def decided(root: Path) -> dict[str, float]:
    """Time the reading of keys and numbers, and what is decided on them."""
    tables = {name: [parts_of(root, name, model) for model in MODELS] for name in TABLES}
    held = Tables(pl.read_parquet(files(root, "prompts")), tables["responses"], tables["verdicts"], tables["rewards"])
    start = time.perf_counter()
    found = candidates(held, located=True)
    read = time.perf_counter() - start
    start = time.perf_counter()
    dataset.decided(found, held, FULL)
    return {"read": read, "decision": time.perf_counter() - start}


JOBS: dict[str, Callable[[Path], dict[str, float]]] = {"polars": decoded, "stage": staged, "decide": decided}


def run_job(job: str, root: Path) -> None:
    start = time.perf_counter()
    found = JOBS[job](root)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "mb": peak, **found}))


def measured(job: str, root: Path) -> dict[str, float]:
    """Run a job in a process of its own."""
    command = [sys.executable, __file__, "--job", job, "--folder", str(root)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env={**os.environ, **MEMORY})
    found: dict[str, float] = json.loads(done.stdout)
    return found


def compare(root: Path, prompts: int) -> bool:
    """Print the figures, and tell whether they pass."""
    size = sum(path.stat().st_size for name in TABLES for path in (root / name).rglob("*.parquet")) / 1e9
    print(f"{prompts * len(MODELS) * SAMPLES:,} responses, {size:.1f} GB of Parquet, {os.cpu_count()} cores")
    runs: dict[str, list[dict[str, float]]] = {"polars": [], "stage": []}
    for _ in range(RUNS):
        for job, found in runs.items():
            found.append(measured(job, root))
    peer, own = (
        {**min(found, key=itemgetter("seconds")), "mb": max(run["mb"] for run in found)} for found in runs.values()
    )
    decision = measured("decide", root)
    ratio = peer["seconds"] / own["seconds"]
    print(f"polars, all columns once {peer['seconds']:8.1f} s {peer['mb']:8,.0f} MB")
    rows = f"{own['sft']:,.0f} SFT rows, {own['dpo']:,.0f} pairs"
    print(f"select, split, stage     {own['seconds']:8.1f} s {own['mb']:8,.0f} MB, {rows}")
    print(f"  keys and numbers read  {decision['read']:8.1f} s")
    print(f"  decision               {decision['decision']:8.1f} s (aim {AIM_DECISION_SECONDS})")
    print(f"speed {ratio:.2f} of polars' (at least {PASS_RATIO}), {own['mb']:,.0f} MB (at most {PASS_MB:,})")
    return ratio >= PASS_RATIO and own["mb"] <= PASS_MB


def held_in_memory(folder: Path) -> bool:
    """Compare with those who hold everything, on a size that they can hold."""
    root = Path(tempfile.mkdtemp(prefix="held-", dir=folder))
    try:
        made(root, HELD, PART)
        print(f"\n{HELD * len(MODELS) * SAMPLES:,} responses, pairs alone:")
        return selection.compare(root, 1)
    finally:
        shutil.rmtree(root)


def main() -> int:
    parser = argparse.ArgumentParser(description="Select, split and stage very many responses.")
    parser.add_argument("--prompts", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where the run is written, and removed again")
    parser.add_argument("--keep", action="store_true", help="keep the run in FOLDER/run, or take the one that is there")
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        run_job(options.job, options.folder)
        return 0
    folder = Path(tempfile.mkdtemp(prefix="fusedata-full-size-", dir=options.folder))
    root = options.folder / "run" if options.keep and options.folder else folder / "run"
    try:
        if not root.exists():
            made(root, options.prompts, PART)
        passed = [compare(root, options.prompts), held_in_memory(folder)]
    finally:
        shutil.rmtree(folder)
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
