"""Programs a second: the sandbox against `docker run` for each program and against EvalPlus's own runner.

The mix: the canonical solutions of MBPP and of LeetCodeDataset with their tests, each judged once. EvalPlus gets those
whose tests are all `assert f(literals) == literal`, by its `untrusted_check` in a process pool with as many workers; it
runs programs without a container. Its import is not counted; the start of the sandbox's containers is. `docker run`
starts a container of the same image for each of some programs, one after the other. All run in turn in one run.

    python benchmarks/sandbox.py [FOLDER] --evalplus /tmp/evalplus/bin/python [--endurance 20000]

FOLDER holds corpora/ (default: ../shared). Exits 1 where a verdict is wrong or a mark is missed: `PASS_DOCKER` times
`docker run`, faster than EvalPlus, `PASS_RATE` programs a second. `--endurance` judges so many programs without
recycling a container, and prints memory and processes of a container as it goes: 1 where they grow. A worker has up to
four containers: for the second hash seed, and for programs that use numpy.
"""

import argparse
import ast
import gzip
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fusedata.verify.sandbox import Program, Sandbox, pool

PASS_DOCKER = 50.0
PASS_RATE = 200.0
PASS_GROWTH = 1.10
"""Largest ratio of a container's memory in the last quarter of an endurance run to that in the first."""
DOCKER_RUNS = 12
SLOW = {"mbpp/123"}
"""Takes more than the 2 s of the processor that programs get: a timeout is right."""
SHARED = Path(os.environ.get("FUSEDATA_SHARED") or Path(__file__).resolve().parents[2] / "shared")

EVALPLUS = """
import json, os, sys, time
from concurrent.futures import ProcessPoolExecutor
os.environ["TQDM_DISABLE"] = "1"
from evalplus.eval import PASS, untrusted_check

def check(job):
    code, entry, inputs, expected = job
    status, _ = untrusted_check("humaneval", code, inputs, entry, expected, 0, [0.5] * len(inputs), True)
    return status == PASS

if __name__ == "__main__":
    jobs = [eval(line) for line in sys.stdin]
    began = time.perf_counter()
    with ProcessPoolExecutor(max_workers=int(sys.argv[1])) as workers:
        passed = sum(workers.map(check, jobs))
    print(json.dumps({"seconds": time.perf_counter() - began, "passed": passed}))
"""


def mbpp(shared: Path) -> Iterator[tuple[str, Program]]:
    for line in (shared / "corpora/code/mbpp.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield f"mbpp/{row['task_id']}", Program(row["code"], tuple(row["test_list"]), setup=row["test_setup_code"])


def leetcode(shared: Path) -> Iterator[tuple[str, Program]]:
    with gzip.open(shared / "corpora/code/LeetCodeDataset-v0.2.0-train.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            code = f"{row['prompt']}\n{row['completion']}"
            yield f"leetcode/{row['task_id']}", Program(code, check=row["test"], entry_point=row["entry_point"])


def plain_job(program: Program) -> tuple[str, str, list[Any], list[Any]] | None:
    """A program as EvalPlus takes it: code, the name of a function, its inputs, what it returns; or None."""
    tests = program.check.split("\n", 1)[1] if program.check else "\n".join(program.tests)
    lines = "\n".join(line.strip() for line in tests.splitlines())
    inputs, expected, names = [], [], set()
    try:
        for node in ast.parse(lines).body:
            call = node.test.left  # type: ignore[attr-defined]
            names.add(call.func.id)
            inputs.append([ast.literal_eval(a) for a in [*call.args, *(k.value for k in call.keywords)]])
            expected.append(ast.literal_eval(node.test.comparators[0]))  # type: ignore[attr-defined]
            if len(node.test.ops) != 1 or not isinstance(node.test.ops[0], ast.Eq):  # type: ignore[attr-defined]
                return None
    except (SyntaxError, ValueError, AttributeError, TypeError):
        return None
    if len(names) != 1 or program.setup:
        return None
    if program.entry_point:
        return f"{program.code}\n\ndef entry(*a):\n    return {program.entry_point}(*a)\n", "entry", inputs, expected
    return program.code, names.pop(), inputs, expected


def ours(programs: list[tuple[str, Program]], workers: int) -> tuple[float, Counter[str], list[str]]:
    """Seconds, isolation of the passes, and what did not pass."""
    kinds, wrong = Counter[str](), []
    began = time.perf_counter()
    with Sandbox(workers=workers) as sandbox:
        for (name, _), outcome in zip(programs, sandbox.run(p for _, p in programs), strict=True):
            kinds[outcome.isolation] += bool(outcome.passed)
            if not outcome.passed and name not in SLOW:
                wrong.append(f"{name}: {outcome.status}: {outcome.detail}")
    return time.perf_counter() - began, kinds, wrong


def docker_run(programs: list[tuple[str, Program]]) -> float:
    """The middle of the seconds that a container for one program takes."""
    times = []
    for _, program in programs:
        source = "\n".join([program.code, program.setup, *program.tests])
        began = time.perf_counter()
        command = [
            "docker",
            "run",
            "--rm",
            "-i",
            "--network",
            "none",
            "--entrypoint",
            "python3",
            "fusedata-sandbox",
            "-",
        ]
        subprocess.run(command, input=source.encode(), check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def evalplus(python: str, jobs: list[tuple[str, str, list[Any], list[Any]]], workers: int) -> dict[str, float]:
    command = [python, "-c", EVALPLUS, str(workers)]
    done = subprocess.run(command, input="\n".join(map(repr, jobs)), text=True, check=True, capture_output=True)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def endurance(programs: list[tuple[str, Program]], count: int, workers: int) -> bool:
    """Judge `count` programs in the same containers; whether their memory and processes stayed as they were."""
    pool.RECYCLED_AFTER = 10**9  # type: ignore[misc]
    seen: list[tuple[float, float]] = []
    quick = [p for name, p in programs if name not in SLOW]
    endless = (quick[n % len(quick)]._replace(code=f"{quick[n % len(quick)].code}\n# {n}\n") for n in range(count))
    with Sandbox(workers=workers) as sandbox:
        failed = 0
        for number, outcome in enumerate(sandbox.run(endless), start=1):
            failed += outcome.passed is not True
            if number % max(count // 20, 1) == 0:
                seen.append(used())
                own = int(Path("/proc/self/statm").read_text().split()[1]) * 4 // 1024
                size, processes = seen[-1]
                print(f"  {number:6} programs: {size / 1e6:.1f} MB, {processes:.2f} processes; host {own} MB")
    growth = statistics.median(m for m, _ in seen[-5:]) / statistics.median(m for m, _ in seen[:5])
    print(f"  {failed} failed; memory {growth:.3f} times what it was; containers left: {len(containers())}")
    return failed == 0 and growth <= PASS_GROWTH and statistics.median(n for _, n in seen) <= 2 and not containers()


def containers() -> list[str]:
    listed = ["docker", "ps", "-q", "--filter", "label=fusedata.sandbox"]
    return subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split()


def used() -> tuple[float, float]:
    """Bytes and processes of a sandbox container, the mean of all; the runner and a child that waits are two."""
    import docker

    client = docker.from_env()
    stats = [client.containers.get(name).stats(stream=False) for name in containers()]
    client.close()
    sizes = [s["memory_stats"]["usage"] for s in stats]
    return statistics.mean(sizes), statistics.mean(s["pids_stats"].get("current", 0) for s in stats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=SHARED)
    parser.add_argument("--evalplus", help="a Python that has evalplus (pip install evalplus)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--endurance", type=int, default=0)
    options = parser.parse_args()
    corpora = {"MBPP": list(mbpp(options.folder)), "LeetCodeDataset": list(leetcode(options.folder))}
    everything = [p for programs in corpora.values() for p in programs]
    if options.endurance:
        sys.exit(not endurance(everything, options.endurance, options.workers))
    fine = True
    for name, programs in corpora.items():
        seconds, kinds, wrong = ours(programs, options.workers)
        rate = len(programs) / seconds
        fine &= not wrong and rate >= PASS_RATE
        print(f"{name}: {len(programs)} programs, {rate:.0f} a second; {dict(kinds)}; wrong: {wrong or 'none'}")
        alone = docker_run([p for p in programs if not p[1].check][:DOCKER_RUNS] or corpora["MBPP"][:DOCKER_RUNS])
        fine &= alone * rate >= PASS_DOCKER
        print(f"  docker run: {alone * 1000:.0f} ms a program, so the sandbox is {alone * rate:.0f} times as fast")
        if options.evalplus:
            fine &= against_evalplus(options.evalplus, programs, options.workers)
    sys.exit(not fine)


def against_evalplus(python: str, programs: list[tuple[str, Program]], workers: int) -> bool:
    """Time both on the programs that EvalPlus can take, the sandbox once before and once after."""
    taken = [(p, job) for p in programs if p[0] not in SLOW and (job := plain_job(p[1]))]
    mine = [ours([p for p, _ in taken], workers)[0]]
    theirs = evalplus(python, [job for _, job in taken], workers)
    mine.append(ours([p for p, _ in taken], workers)[0])
    ratio = theirs["seconds"] / statistics.mean(mine)
    rate, rival = len(taken) / statistics.mean(mine), len(taken) / theirs["seconds"]
    print(f"  EvalPlus, {len(taken)} of them: {rival:.0f} a second ({theirs['passed']:.0f} pass),", end=" ")
    print(f"the sandbox {rate:.0f}: {ratio:.2f} times as fast")
    return ratio > 1


if __name__ == "__main__":
    main()
