"""What a response costs besides the engine: a no-op engine, durable parts, 10,000 to 1,000,000 responses.

    python benchmarks/driver_overhead.py

The floor is polars writing the same rows as the same parts, flushed the same way, with nothing planned or resumed.
Pass marks: less than 0.05 ms a response at every size, and flat: the largest size costs at most 1.5 times the
smallest.
"""

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import polars as pl

from fusedata.sample.protocol import Completion, Group, Request
from fusedata.sample.stage import sample, text_id
from fusedata.schema import PROMPTS, RESPONSES, prompt_id
from fusedata.store import Parts

SIZES = (10_000, 100_000, 1_000_000)
SAMPLES = 5
BATCH = 1_000
TEXT = "The answer is 42. " * 10
LIMIT_MS = 0.05
FLAT = 1.5


class NoOp:
    """Answers at once, with a text of 180 characters."""

    name = "no-op"
    batch_size = BATCH

    def identity(self) -> dict[str, str]:
        return {"engine": self.name}

    def generate(self, batches: Iterable[Sequence[Request]]) -> Iterator[Group]:
        for batch in batches:
            yield [(request, Completion(TEXT, "stop", 30, 45)) for request in batch]

    def close(self) -> None:
        pass


def prompts(count: int) -> pl.DataFrame:
    texts = [f"What is {number} plus {number}? " + "Think of it. " * 15 for number in range(count)]
    turns = [[{"role": "user", "content": text}] for text in texts]
    columns = {
        "prompt_id": [prompt_id(t) for t in turns],
        "corpus": "made",
        "corpus_row": range(count),
        "messages": turns,
        "answer": "0",
        "tests": None,
        "sampled": True,
        "chars": [len(text) for text in texts],
    }
    return pl.DataFrame(columns, schema=PROMPTS)


def driver(count: int, folder: Path) -> float:
    table = prompts(count // SAMPLES)
    began = time.perf_counter()
    sample(table, "made/model", SAMPLES, NoOp(), Parts(folder, RESPONSES), seed=1, advance=lambda _: None)
    return time.perf_counter() - began


def floor(count: int, folder: Path) -> float:
    parts = Parts(folder, RESPONSES)
    row = {"prompt_id": "0" * 24, "source_model": "made/model", "sample": 0, "text": TEXT, "text_id": text_id(TEXT)}
    row |= {"finish_reason": "stop", "prompt_tokens": 30, "completion_tokens": 45, "seed": 1, "engine": "no-op"}
    rows = pl.DataFrame([{**row, "error": None}] * BATCH, schema=RESPONSES)
    began = time.perf_counter()
    for number in range(count // BATCH):
        parts.write(str(number), rows)
    return time.perf_counter() - began


def main() -> int:
    if len(sys.argv) == 3:
        with tempfile.TemporaryDirectory() as folder:
            seconds = {"driver": driver, "floor": floor}[sys.argv[1]](int(sys.argv[2]), Path(folder) / "parts")
        print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return 0
    print(f"{'responses':>10} {'driver, ms each':>16} {'floor, ms each':>15} {'ratio':>6} {'peak MB':>8}")
    costs = []
    for size in SIZES:
        (ours, memory), (least, _) = (measured(kind, size) for kind in ("driver", "floor"))
        costs.append(ours / size * 1000)
        print(f"{size:>10,} {costs[-1]:>16.4f} {least / size * 1000:>15.4f} {ours / least:>6.1f} {memory:>8.0f}")
    passed = max(costs) < LIMIT_MS and costs[-1] <= FLAT * costs[0]
    print("PASS" if passed else "FAIL", f"(< {LIMIT_MS} ms a response, largest at most {FLAT} x smallest)")
    return 0 if passed else 1


def measured(kind: str, size: int) -> tuple[float, float]:
    command = [sys.executable, __file__, kind, str(size)]
    seconds, megabytes = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(seconds), float(megabytes)


if __name__ == "__main__":
    sys.exit(main())
