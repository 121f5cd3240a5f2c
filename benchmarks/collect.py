"""Collecting 58,546 prompts from millions of rows of OpenMathInstruct-2's schema, beside polars that only decodes them.

The rows are made up, in Parquet files of 250,000 (14 million rows are about 19 GB of text): some 607,000 distinct
problems of 260 characters on average, each in many rows, in random order, a gold answer a problem, solutions of 1,100
characters. Collecting filters them by `problem_source`, merges rows with the same problem, ranks problems by hash, and
passes them through a filter that looks at their gold answers until enough are found. The peer is polars' streaming
engine, which decodes the same three columns and adds up the lengths of their texts. Each runs in a process of its own,
imports outside its seconds and inside its memory, both with the memory settings of the command line; they take turns,
`RUNS` each, and of each the fastest counts. Exits 1 where memory is above `PASS_MB`, or the speed below `PASS_RATIO` of
the peer's.

    python benchmarks/collect.py [--rows N] [--folder FOLDER]

Two million rows are the default; `--rows 14000000` is the size of the corpus, and takes 4 GB of disk.
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
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl

from fusedata.cli import MEMORY
from fusedata.collect.gold import gold_check
from fusedata.collect.locate import Located
from fusedata.collect.prompts import collect
from fusedata.corpus import Corpus
from fusedata.recipe import Recipe, SourceModel

PASS_MB = 1_500
PASS_RATIO = 0.5
RUNS = 3

DISTINCT = 607_000
TAKE = 58_546
FILE_ROWS = 250_000
COLUMNS = ("problem", "expected_answer", "problem_source")
SOURCES = ("augmented_math", "augmented_gsm8k", "math", "gsm8k")
WANTED = SOURCES[:3]


def generate(folder: Path, rows: int) -> None:
    """Write the corpus; the same on every machine."""
    draw = np.random.default_rng(7)
    words = np.array(["".join(draw.choice(list("etaoinshrdlucmfwyp"), draw.integers(2, 9))) for _ in range(20_000)])
    problems = pl.Series([f"{_text(draw, words, 45)} {number}?" for number in range(DISTINCT)])
    solutions = pl.Series([_text(draw, words, 190) for _ in range(5_000)])
    sources = pl.Series(draw.choice(SOURCES, DISTINCT, p=[0.6, 0.3, 0.05, 0.05]))
    answers = pl.Series([str(number) for number in range(DISTINCT)])
    each = np.concatenate([np.arange(DISTINCT), draw.integers(0, DISTINCT, max(0, rows - DISTINCT))])[:rows]
    draw.shuffle(each)
    for at in range(0, rows, FILE_ROWS):
        which = pl.Series(each[at : at + FILE_ROWS])
        frame = {
            "problem": problems.gather(which),
            "generated_solution": solutions.gather(draw.integers(0, len(solutions), len(which))),
            "expected_answer": answers.gather(which),
            "problem_source": sources.gather(which),
        }
        pl.DataFrame(frame).write_parquet(folder / f"train-{at:09d}.parquet", compression_level=1)


def _text(draw: np.random.Generator, words: np.ndarray, count: int) -> str:
    return " ".join(words[draw.integers(0, len(words), draw.integers(count // 2, count * 3 // 2))])


def collected(folder: Path) -> int:
    """Collect through fusedata, and count the prompts."""
    files = sorted(folder.glob("*.parquet"))
    corpus = Corpus(
        id="org/corpus",
        prompt="problem",
        answer="expected_answer",
        where={"problem_source": WANTED},
        take=TAKE,
    )
    recipe = Recipe(name="benchmark", corpora=(corpus,), source_models=(SourceModel(id="org/model"),))
    located = Located(corpus.id, "folder", "", tuple(files), tuple(file.name for file in files))
    found = collect([(corpus, located)], recipe, [gold_check(_believed)])
    assert found.prompts["prompt_id"].n_unique() == found.prompts.height
    assert set(found.prompts["corpus"]) == {corpus.id}
    return found.prompts.height


def _believed(rows: pl.DataFrame) -> Iterator[None]:
    yield from (None for _ in range(rows.height))


def decoded(folder: Path) -> int:
    """Decode the columns, and add up the lengths of their texts."""
    rows = pl.scan_parquet(folder / "*.parquet").select(pl.col(COLUMNS).str.len_bytes().sum())
    return sum(rows.collect(engine="streaming").row(0))


JOBS: dict[str, Callable[[Path], int]] = {"fusedata": collected, "polars": decoded}


def measured(job: str, folder: Path) -> tuple[float, float, int]:
    """Run a job in a process of its own: seconds, MB, what it found."""
    command = [sys.executable, __file__, "--job", job, "--folder", str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **MEMORY})
    seconds, memory, found = json.loads(done.stdout)
    return seconds, memory, found


def run_job(job: str, folder: Path) -> None:
    start = time.perf_counter()
    found = JOBS[job](folder)
    seconds = time.perf_counter() - start
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, found]))


def compare(folder: Path, rows: int) -> bool:
    """Print the figures, and tell whether they pass."""
    made = [sys.executable, __file__, "--job", "generate", "--folder", str(folder), "--rows", str(rows)]
    subprocess.run(made, check=True)  # in a process of its own: a child's memory would count its parent's
    size = sum(file.stat().st_size for file in folder.glob("*.parquet")) / 1e9
    print(f"{rows:,} rows, {size:.1f} GB of Parquet")
    runs: dict[str, list[tuple[float, float, int]]] = {job: [] for job in JOBS}
    for _ in range(RUNS):
        for job, found in runs.items():
            found.append(measured(job, folder))
    peer, (seconds, _, prompts) = min(runs["polars"]), min(runs["fusedata"])
    memory = max(run[1] for run in runs["fusedata"])
    ratio = peer[0] / seconds
    print(f"polars, decoding {len(COLUMNS)} columns  {peer[0]:7.1f} s  {peer[1]:7,.0f} MB")
    print(f"fusedata, {prompts:,} prompts       {seconds:7.1f} s  {memory:7,.0f} MB")
    print(f"speed {ratio:.2f} of polars' (at least {PASS_RATIO}), memory {memory:,.0f} MB (at most {PASS_MB:,})")
    return ratio >= PASS_RATIO and memory <= PASS_MB and prompts == TAKE


def main() -> int:
    parser = argparse.ArgumentParser(description="Collect from millions of rows.")
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--folder", type=Path, help="where the rows are written, and removed again")
    parser.add_argument("--job", choices=[*JOBS, "generate"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job == "generate":
        generate(options.folder, options.rows)
        return 0
    if options.job:
        run_job(options.job, options.folder)
        return 0
    folder = Path(tempfile.mkdtemp(prefix="fusedata-collect-", dir=options.folder))
    try:
        return 0 if compare(folder, options.rows) else 1
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
