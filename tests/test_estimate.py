"""What a build will take, told before it is begun."""

import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import questions, recipe_over, twin_build, write_corpus

from fusedata import estimate as rules
from fusedata.build import Build
from fusedata.config import validate
from fusedata.plan import Advance
from fusedata.profile import Profile, Ray, find_profile, load_profile
from fusedata.recipe import Recipe, find_recipe, load_recipe
from fusedata.testing import EchoEngine
from fusedata.trial import Stopwatch


def work(estimate, model):
    return next(w for w in estimate.work if w.model == model)


@pytest.fixture
def math(tmp_path: Path):
    """The shipped recipe on the profile for one node of eight GPUs: nothing of it is on this machine."""
    return Build(load_recipe(find_recipe("math")), load_profile(find_profile("vllm-8xh100"))).plan(tmp_path / "run")


def test_a_corpus_on_a_hub_is_counted_by_what_the_recipe_takes(math):
    model = work(math, "Qwen/Qwen2.5-Math-72B-Instruct")
    assert (model.prompts, model.requests) == (58_546, 5 * 58_546)
    assert model.completion_tokens_at_most == 5 * 58_546 * 4096


def test_gpu_hours_are_tokens_by_the_profiles_throughput_times_its_devices(math):
    model = work(math, "Qwen/Qwen2.5-Math-72B-Instruct")
    assert (model.tokens_per_second, model.gpus) == (9000, 8)
    assert model.hours == pytest.approx(5 * 58_546 * rules.COMPLETION_TOKENS / 9000 / 3600)
    assert model.gpu_hours == pytest.approx(8 * model.hours)


def test_the_reward_model_reads_every_sampled_and_every_carried_response(math):
    sampled, scored = math.work
    carried = 58_546
    assert scored.requests == sampled.requests + carried
    read = sampled.prompt_tokens + sampled.completion_tokens
    assert scored.prompt_tokens == read + carried * (rules.PROMPT_TOKENS + rules.COMPLETION_TOKENS)
    assert scored.gpu_hours == pytest.approx(scored.prompt_tokens / 25_000 / 3600)


def test_rows_are_expected_by_the_published_shares(math):
    assert (math.sft_rows, math.dpo_pairs) == (40_188, 11_615)


def test_corpora_on_a_hub_are_counted_by_what_was_published_of_them_where_the_recipe_takes_all(tmp_path):
    build = Build(load_recipe(find_recipe("instruction")), load_profile(find_profile("vllm-8xh100")))
    plan = build.plan(tmp_path / "run")
    assert work(plan, "google/gemma-2-27b-it").requests == 5 * (51_098 + 20_374 + 9_435)
    assert (plan.sft_rows, plan.dpo_pairs) == (20_439 + 8_149 + 3_774, 30_659 + 12_225 + 5_661)
    assert any("openbmb/UltraFeedback" in line and "come on top" in line for line in plan.assumptions)


def test_engines_side_by_side_take_fewer_hours_and_as_many_gpu_hours(tmp_path, math):
    profile = load_profile(find_profile("vllm-8xh100")).model_copy(update={"ray": Ray(gpus=64)})
    plan = Build(load_recipe(find_recipe("math")), profile).plan(tmp_path / "run")
    assert [w.side_by_side for w in plan.work] == [8, 64]
    ray = [
        (rules.RAY_START_SECONDS + rules.RAY_SECONDS_A_RESPONSE * w.requests / w.side_by_side) / 3600 for w in plan.work
    ]
    assert [w.hours for w in plan.work] == [
        pytest.approx(math.work[0].hours / 8 + ray[0]),
        pytest.approx(math.work[1].hours / 64 + ray[1]),
    ]
    assert sum(ray) * 64 > plan.gpu_hours - math.gpu_hours > 0
    assert plan.hours == pytest.approx(sum(w.hours for w in plan.work))


def test_verification_is_told_in_hours_of_one_core(math):
    assert math.verify_core_hours == pytest.approx(5 * 58_546 / rules.JUDGED_A_SECOND["math_answer"] / 3600)


def test_the_assumptions_are_told(math):
    assert any("512 completion tokens" in line for line in math.assumptions)
    assert any("`throughput` in the profile" in line for line in math.assumptions)


def test_prompts_on_this_machine_are_counted_and_their_tokens_reckoned_from_their_length(modulo, tmp_path):
    estimate = twin_build(modulo).plan(tmp_path / "run", limit=10)
    model = work(estimate, "test/echo")
    assert (model.prompts, model.requests, model.hours) == (10, 60, None)
    characters = len("What is 10 modulo 4?")
    assert model.prompt_tokens == pytest.approx(60 * (characters / 4 + rules.TEMPLATE_TOKENS), rel=0.02)
    assert [path.name for path in tmp_path.iterdir()] == ["modulo.jsonl"]


def test_responses_that_the_run_holds_are_not_asked_for_again(modulo, tmp_path):
    twin_build(modulo).run(tmp_path / "run", limit=15)
    model = work(twin_build(modulo).plan(tmp_path / "run"), "test/echo")
    assert (model.done, model.requests) == (90, 240 - 90)


def test_responses_that_were_sampled_otherwise_are_not_taken_for_done(modulo, tmp_path):
    twin_build(modulo).run(tmp_path / "run")
    hotter = recipe_over(
        Path(modulo.corpora[0].path), source_models=[{"id": "test/echo", "samples": 6, "temperature": 1.1}]
    )
    assert work(twin_build(hotter).plan(tmp_path / "run"), "test/echo").done == 0


def test_a_corpus_of_unknown_size_leaves_unknown_what_follows_from_it(tmp_path):
    data = {
        "name": "open",
        "corpora": [{"id": "org/corpus", "prompt": "q"}],
        "source_models": [{"id": "m"}],
        "reward": {"model": "r"},
    }
    estimate = Build(validate(Recipe, data, "test"), Profile(name="none")).plan(tmp_path)
    assert [(w.requests, w.completion_tokens, w.gpu_hours) for w in estimate.work] == [(None, None, None)] * 2
    assert (estimate.disk_bytes, estimate.sft_rows, estimate.dpo_pairs) == (None, None, None)


class Slow(EchoEngine):
    """Answers after a while, with 5 completion tokens each."""

    def generate(self, batches):
        for group in super().generate(batches):
            time.sleep(0.02)
            yield group


def test_a_calibration_builds_for_real_beside_the_run_and_is_reckoned_from(modulo, tmp_path):
    engine = Slow(answers=4)
    estimate = twin_build(modulo, engine).plan(tmp_path / "run", calibrate=12)
    assert len(engine.asked) == 72
    assert not (tmp_path / "run").exists()
    assert (tmp_path / "run-calibration" / "dataset").is_dir()
    model = work(estimate, "test/echo")
    assert (model.requests, model.completion_tokens, model.prompt_tokens) == (240, 240 * 5, 240)
    assert 0 < model.tokens_per_second < 5 * engine.batch_size / 0.02
    assert estimate.sft_rows + estimate.dpo_pairs > 0
    assert estimate.assumptions == ("tokens, speed, disk and rows: measured on a real sample of 12 prompts",)


def test_a_stopwatch_passes_on_what_it_hears_and_leaves_the_loading_out():
    heard = []

    class Inner:
        def changed(self, fields, redone):
            heard.append((fields, redone))

        @contextmanager
        def stage(self, name, total):
            heard.append((name, total))
            yield heard.append

    watch = Stopwatch(Inner())
    watch.changed(["a"], ["b"])

    def work_through(advance: Advance) -> None:
        time.sleep(0.3)
        advance(7)
        for _ in range(3):
            time.sleep(0.01)
            advance(10)

    with watch.stage("sample", 37) as advance:
        work_through(advance)
    assert heard == [(["a"], ["b"]), ("sample", 37), 7, 10, 10, 10]
    assert watch.rates["sample"] > 37 / 0.3


def test_one_corpus_of_questions_has_no_published_yield(modulo, tmp_path):
    estimate = twin_build(modulo).plan(tmp_path / "run")
    assert (estimate.sft_rows, estimate.dpo_pairs) == (None, None)


def test_a_model_that_no_engine_serves_has_no_devices(tmp_path):
    path = write_corpus(tmp_path / "c.jsonl", questions(3))
    table = {"engine": "vllm", "models": ["org/*"], "tensor_parallel_size": 4}
    profile = validate(Profile, {"name": "p", "engines": [table]}, "test")
    models = [{"id": "org/a"}, {"id": "other/b"}]
    estimate = Build(recipe_over(path, source_models=models), profile).plan(tmp_path / "run")
    assert (work(estimate, "org/a").gpus, work(estimate, "other/b").gpus) == (4, None)


def test_a_target_model_answers_only_the_prompts_that_feed_dpo(modulo, tmp_path):
    changes = {
        "source_models": [{"id": "test/echo", "samples": 6}, {"id": "test/target", "samples": 6}],
        "dpo": {"method": "wrpo", "target": "test/target"},
        "split": {"order": "random", "sft": 0.3333333333333333},
    }
    plan = twin_build(recipe_over(Path(modulo.corpora[0].path), **changes)).plan(tmp_path / "run")
    assert [w.requests for w in plan.work[:2]] == [40 * 6, (40 - 13) * 6]
