"""Auditing a run of 80,000 prompts and 1.6 million responses, beside polars merely scanning its files.

The run is that of `benchmarks/selection.py` (4 source models, 5 samples, texts of 1,050 to 3,100 characters, three in
five right), with its datasets written as a build writes them. The audit holds every published row and every key of the
tables to the recipe; the checks that read each text (language, secrets, personal data) are left out, and each states
its own rate over a smaller run (`--texts`). The floor is polars counting the nulls of all columns of all files. Both
run in processes of their own. Exits 1 where the audit takes more than `PASS_SECONDS` or `PASS_MB`.

    python benchmarks/audit.py [--prompts N] [--texts N] [--keep FOLDER]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl
import selection

from fusedata.audit import READ_ALL, audit
from fusedata.candidates import run_tables
from fusedata.corpus import Corpus
from fusedata.publish.folder import write_split
from fusedata.recipe import Correctness, Dpo, Recipe, Reward, SourceModel
from fusedata.schema import digest
from fusedata.store import Run, read_prompts
from fusedata.winners import assemble

PASS_SECONDS = 60
PASS_MB = 2_000
PART = 10_000


def recipe() -> Recipe:
    return Recipe(
        name="benchmark",
        corpora=(Corpus(id="org/corpus", prompt="question", answer="answer", path=".", license="mit"),),
        source_models=tuple(SourceModel(id=model, samples=selection.SAMPLES) for model in selection.MODELS),
        correctness=Correctness(check="math_answer"),
        reward=Reward(model="none"),
        dpo=Dpo(reward_gap=selection.GAP, reward_gap_model="none"),
    )


def generate(root: Path, prompts: int) -> None:
    """Write a run: its tables, run.json, and the datasets that they give."""
    selection.generate(root, prompts, PART)
    asked = recipe()
    whole = {"": {"fingerprint": "."}}
    sources = {m: {"fingerprint": digest(m), "samples": selection.SAMPLES} for m in selection.MODELS}
    tables = {"prompts": whole, "dropped": whole, **dict.fromkeys(("responses", "verdicts", "rewards"), sources)}
    run = Run(root)
    run.begin({"recipe": asked.model_dump(mode="json", exclude_none=True), "tables": tables})
    made = assemble(run_tables(run, read_prompts(run)), asked)
    for kind, rows in (("sft", made.sft), ("dpo", made.dpo)):
        for split, part in (("train", rows.filter(~pl.col("test"))), ("test", rows.filter("test"))):
            if part.height:
                write_split(root / "dataset" / kind, split, part.drop("test"))


def by_audit(root: Path) -> dict[str, Any]:
    report = audit(root, skip=READ_ALL)
    return {"rows": sum(sum(s.splits.values()) for s in report.datasets), "errors": [f.check for f in report.errors]}


def by_scan(root: Path) -> dict[str, Any]:
    rows = 0
    for folder in ("prompts", "responses", "verdicts", "rewards", "dataset/sft", "dataset/dpo"):
        found = sorted((root / folder).rglob("*.parquet"))
        scanned = pl.scan_parquet(found, glob=False).select(pl.len(), pl.all().null_count().name.suffix("_nulls"))
        rows += scanned.collect(engine="streaming")["len"].item() if found else 0
    return {"rows": rows, "errors": []}


def by_texts(root: Path) -> dict[str, Any]:
    report = audit(root)
    rates = {f"{f.check}, {f.dataset}": f.rate for f in report.findings if f.check in READ_ALL and f.rate}
    return {"rates": rates, "errors": [f.check for f in report.errors]}


CONTENDERS = {"audit": by_audit, "scan": by_scan, "texts": by_texts}


def contend(name: str, root: Path) -> dict[str, Any]:
    before, start = time.process_time(), time.perf_counter()
    found = CONTENDERS[name](root)
    seconds, cpu = time.perf_counter() - start, time.process_time() - before
    return {**found, "seconds": seconds, "cpu": cpu, "mb": peak()}


def peak() -> float:
    """Most memory of this process in MB: `ru_maxrss` begins with that of the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def measure(name: str, root: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--contender", name, "--folder", str(root)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def compare(root: Path) -> bool:
    found = {name: measure(name, root) for name in ("scan", "audit")}
    print(f"{'':8}{'seconds':>9}{'CPU s':>8}{'peak MB':>9}{'rows':>11}")
    for name, run in found.items():
        print(f"{name:8}{run['seconds']:9.2f}{run['cpu']:8.2f}{run['mb']:9.0f}{run['rows']:11,}")
    ours = found["audit"]
    print(f"errors found: {ours['errors'] or 'none'}; {ours['seconds'] / found['scan']['seconds']:.1f} times the scan")
    print(f"pass mark: {ours['seconds']:.1f} s (<= {PASS_SECONDS}), {ours['mb']:.0f} MB (<= {PASS_MB})")
    return ours["seconds"] <= PASS_SECONDS and ours["mb"] <= PASS_MB and not ours["errors"]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=80_000)
    parser.add_argument("--texts", type=int, default=1_000, help="prompts of the run whose texts are read")
    parser.add_argument("--keep", type=Path, help="write the run here, or take the one that is there")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        print(json.dumps(contend(arguments.contender, arguments.folder)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        root = arguments.keep or Path(folder) / "run"
        if not (root / "run.json").exists():
            generate(root, arguments.prompts)
        size = sum(path.stat().st_size for path in root.rglob("*.parquet"))
        print(f"{arguments.prompts:,} prompts, {size / 1e6:,.0f} MB, {os.cpu_count()} cores")
        passed = compare(root)
        generate(Path(folder) / "small", arguments.texts)
        for name, rate in measure("texts", Path(folder) / "small")["rates"].items():
            print(f"  {name}: {rate / 1e6:.2f} M characters a second")
        return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
