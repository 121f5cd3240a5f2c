"""The report of a big run, and the staging of its dataset: seconds, beside what reading and copying alone take.

The run: 80,000 prompts, 4 source models, 5 samples: 1.6 million responses, as `benchmarks/selection.py` writes them,
with an empty funnel and a dataset assembled from them. Measured are `fusedata report` (all numbers, 2,000 texts) and
the staging for publishing (select, split, join, Parquet, cards, checksums). The floors, in the same run: polars' scan
of the columns of numbers that the report needs, and a write and a hash of the same rows with polars' defaults. Exits 1
where the report takes more than `REPORT_SECONDS`, the staging more than `STAGE_SECONDS`, or the page has more than
`PASS_MB`. The seconds are for 2 cores; the ratios hold anywhere.

    python benchmarks/report.py [--prompts N]
"""

import argparse
import hashlib
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import polars as pl
from selection import GAP, MODELS, SAMPLES, TABLES, files, generate, parts_of

from fusedata.candidates import Tables
from fusedata.card import Facts
from fusedata.corpus import Corpus
from fusedata.dataset import decide
from fusedata.publish.stage import publish
from fusedata.recipe import Correctness, Dpo, Recipe, Reward, SourceModel
from fusedata.report.page import write_report
from fusedata.store import Run
from fusedata.winners import winners

REPORT_SECONDS = 60
STAGE_SECONDS = 120
PASS_MB = 25
RECIPE = Recipe(
    name="benchmark",
    corpora=(Corpus(id="org/corpus", prompt="question", answer="answer", path=".", license="mit"),),
    source_models=tuple(SourceModel(id=model, samples=SAMPLES, license="apache-2.0") for model in MODELS),
    correctness=Correctness(check="math_answer"),
    reward=Reward(model="none"),
    dpo=Dpo(reward_gap=GAP, reward_gap_model="none"),
)


def as_run(root: Path) -> None:
    """Make the generated tables a run: run.json, and PROMPTS where it says."""
    (root / "prompts").rename(root / "all")
    (root / "prompts").mkdir()
    (root / "all").rename(root / "prompts" / "all")
    (root / "prompts" / "all" / "funnel.json").write_bytes(orjson.dumps([["org/corpus", "rows read", 0]]))
    tables: dict[str, object] = {"prompts": {"": {"fingerprint": "all"}}}
    for stage in TABLES:
        names = {model: parts_of(root, stage, model).folder.name for model in MODELS}
        tables[stage] = {model: {"fingerprint": name, "samples": SAMPLES} for model, name in names.items()}
    recipe = RECIPE.model_dump(mode="json", exclude_none=True)
    Run(root).begin({"recipe": recipe, "tables": tables, "profile": "none", "stand_ins": [], "fusedata": "0"})


def stage(root: Path, recipe: Recipe = RECIPE) -> None:
    tables = {stage: [parts_of(root, stage, model) for model in MODELS] for stage in TABLES}
    prompts = pl.read_parquet(files(root, "prompts"))
    held = Tables(prompts, tables["responses"], tables["verdicts"], tables["rewards"])
    decided = decide(held, recipe)
    facts = Facts(recipe, "none", [], [("org/corpus", "rows read", 0)], decided.places)
    with winners(held, decided, recipe, root) as found:
        publish(root / "dataset", found, facts)


def copy_floor(root: Path) -> None:
    """Read the published rows, write them with polars' defaults, hash the file."""
    for kind in ("sft", "dpo"):
        paths = sorted((root / "dataset" / kind / "data").glob("*.parquet"))
        if paths:
            pl.read_parquet(paths).write_parquet(root / "floor.parquet")
            with (root / "floor.parquet").open("rb") as file:
                hashlib.file_digest(file, "sha256")


def scan_floor(root: Path) -> None:
    """Read the columns that the report's numbers rest on."""
    for name, columns in (("responses", ["completion_tokens"]), ("verdicts", ["passed"]), ("rewards", ["reward"])):
        keys = ["prompt_id", "source_model", "sample", "text_id", *columns]
        pl.scan_parquet(files(root, name)).select(keys).collect(engine="streaming")


def seconds(work: Callable[[Path], object], root: Path) -> float:
    start = time.perf_counter()
    work(root)
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=80_000)
    prompts = parser.parse_args().prompts
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        generate(root, prompts, 10_000)
        as_run(root)
        page = root / "report.html"
        work = {
            "stage": stage,
            "floor: copy": copy_floor,
            "report": lambda root: write_report(root, page),
            "floor: scan": scan_floor,
        }
        took = {name: seconds(job, root) for name, job in work.items()}
        pairs = pl.scan_parquet(root / "dataset" / "dpo" / "data" / "*.parquet").select(pl.len()).collect().item()
        size = page.stat().st_size / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{prompts * len(MODELS) * SAMPLES:,} responses, {pairs:,} pairs, {os.cpu_count()} cores, peak {peak:,.0f} MB"
    )
    for name, floor, most in (("stage", "copy", STAGE_SECONDS), ("report", "scan", REPORT_SECONDS)):
        own, least = took[name], took[f"floor: {floor}"]
        print(f"{name:8}{own:7.1f} s (<= {most}), {own / least:5.1f} times the floor ({floor}, {least:.1f} s)")
    print(f"page    {size:7.1f} MB (<= {PASS_MB})")
    return 0 if took["report"] <= REPORT_SECONDS and took["stage"] <= STAGE_SECONDS and size <= PASS_MB else 1


if __name__ == "__main__":
    sys.exit(main())
