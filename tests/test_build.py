import json
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
from conftest import dataset_bytes, questions, recipe_over, twin_build, write_corpus

from fusedata.build import Silent, failures
from fusedata.candidates import run_tables
from fusedata.collect import filters
from fusedata.errors import ConfigError, CorpusError, EngineError, RunError
from fusedata.recipe import Recipe
from fusedata.sample.protocol import Completion
from fusedata.schema import KEY, fingerprint
from fusedata.store import read_prompts, read_run
from fusedata.testing import EchoEngine


class Recorder(Silent):
    """Keeps what a build reports."""

    def __init__(self):
        self.changes = []
        self.stages = []

    def changed(self, fields, redone):
        self.changes.append((list(fields), list(redone)))

    @contextmanager
    def stage(self, name, total):
        self.stages.append(name)
        yield lambda _: None


class StopsAfter(EchoEngine):
    """Breaks down after some batches, as an engine whose machine is taken away."""

    def __init__(self, batches: int):
        super().__init__()
        self.left = batches

    def generate(self, batches):
        for group in super().generate(batches):
            if self.left == 0:
                raise EngineError("test/echo: gone.")
            self.left -= 1
            yield group


class FailsOnce(EchoEngine):
    """Gives an error for one prompt in five at the first try, and an answer at the second."""

    def __init__(self):
        super().__init__()
        self.failed = set()

    def _answer(self, request):
        if request.prompt_id[0] in "012" and request.prompt_id not in self.failed:
            self.failed.add(request.prompt_id)
            return Completion(None, "error", error="HTTP 500")
        return super()._answer(request)


def responses(run: Path) -> pl.DataFrame:
    run = read_run(run)
    return pl.concat([parts.scan().collect() for parts in run_tables(run, read_prompts(run)).responses])


def test_a_build_gives_rows_that_obey_the_rules(modulo, tmp_path):
    built = twin_build(modulo).run(tmp_path / "run")
    assert built.dpo.height >= 5
    gap = (built.dpo["chosen_reward"] - built.dpo["rejected_reward"]).round(9)
    assert gap.is_between(0.01, 0.1).all()
    assert (built.dpo["chosen_verdict"] == "right").all()
    assert (built.dpo["rejected_verdict"] == "wrong").all()


def test_every_prompt_is_published_or_dropped_with_a_reason(modulo, tmp_path):
    places = twin_build(modulo).run(tmp_path / "run").places
    assert places.height == 40
    assert (places["sft"] | places["dpo"] | places["dropped"].is_not_null()).all()
    assert not (places["dropped"].is_not_null() & (places["sft"] | places["dpo"])).any()


def test_two_builds_give_the_same_dataset_bytes(modulo, tmp_path):
    for name in ("one", "two"):
        twin_build(modulo).run(tmp_path / name)
    assert dataset_bytes(tmp_path / "one") == dataset_bytes(tmp_path / "two")


def test_a_finished_build_asks_the_engine_nothing_again(modulo, tmp_path):
    twin_build(modulo).run(tmp_path / "run")
    again = EchoEngine()
    twin_build(modulo, again).run(tmp_path / "run")
    assert again.asked == []


def test_an_interrupted_build_repeats_no_finished_sample(modulo, tmp_path):
    first, second = StopsAfter(7), EchoEngine()
    with pytest.raises(EngineError, match="gone"):
        twin_build(modulo, first).run(tmp_path / "run")
    twin_build(modulo, second).run(tmp_path / "run")
    keys = {(r.prompt_id, r.sample) for r in second.asked}
    assert len(second.asked) == len(keys) == 40 * 6 - 7 * first.batch_size


def test_an_interrupted_build_gives_the_bytes_of_an_undisturbed_one(modulo, tmp_path):
    with pytest.raises(EngineError):
        twin_build(modulo, StopsAfter(7)).run(tmp_path / "cut")
    twin_build(modulo).run(tmp_path / "cut")
    twin_build(modulo).run(tmp_path / "whole")
    assert dataset_bytes(tmp_path / "cut") == dataset_bytes(tmp_path / "whole")


def test_a_failed_sample_is_a_row_with_an_error_and_taken_up_by_the_next_build(modulo, tmp_path):
    engine = FailsOnce()
    twin_build(modulo, engine).run(tmp_path / "run")
    failed = responses(tmp_path / "run").filter(pl.col("error").is_not_null())
    assert failed.height == len(engine.failed) > 0
    assert failed["error"].unique().to_list() == ["HTTP 500"]
    twin_build(modulo, engine).run(tmp_path / "run")
    rows = responses(tmp_path / "run")
    assert rows["error"].null_count() == rows.height == 40 * 6
    assert rows.select(KEY).is_unique().all()


def test_a_failure_that_is_made_good_gives_the_bytes_of_a_build_without_it(modulo, tmp_path):
    engine = FailsOnce()
    for _ in range(2):
        twin_build(modulo, engine).run(tmp_path / "failed")
    twin_build(modulo, EchoEngine()).run(tmp_path / "smooth")
    assert dataset_bytes(tmp_path / "failed") == dataset_bytes(tmp_path / "smooth")


def test_a_changed_gap_redoes_the_selection_only(modulo, tmp_path):
    twin_build(modulo).run(tmp_path / "run")
    wider = recipe_over(Path(modulo.corpora[0].path), dpo={**modulo.dpo.model_dump(), "reward_gap": [0.0, 0.2]})
    engine, recorder = EchoEngine(), Recorder()
    built = twin_build(wider, engine, reporter=recorder).run(tmp_path / "run")
    assert engine.asked == []
    assert recorder.stages == ["find corpora", "select, split, write"]
    assert recorder.changes == [([("dpo.reward_gap", [0.01, 0.1], [0.0, 0.2])], [])]
    assert built.dpo.height > 0


def test_changed_sampling_is_told_field_by_field_before_it_is_redone(modulo, tmp_path):
    twin_build(modulo).run(tmp_path / "run")
    cooler = recipe_over(
        Path(modulo.corpora[0].path), source_models=[{"id": "test/echo", "samples": 6, "temperature": 0.1}]
    )
    engine, recorder = EchoEngine(), Recorder()
    twin_build(cooler, engine, reporter=recorder).run(tmp_path / "run")
    fields, redone = recorder.changes[0]
    assert ("source_models[test/echo].temperature", 0.8, 0.1) in fields
    assert redone[0] == "responses of test/echo: made anew (sampling.temperature)"
    assert len(engine.asked) == 40 * 6


def test_going_back_to_the_old_recipe_finds_its_samples_again(modulo, tmp_path):
    twin_build(modulo).run(tmp_path / "run")
    before = dataset_bytes(tmp_path / "run")
    twin_build(modulo.model_copy(update={"seed": 7})).run(tmp_path / "run")
    assert dataset_bytes(tmp_path / "run") != before
    engine = EchoEngine()
    twin_build(modulo, engine).run(tmp_path / "run")
    assert engine.asked == []
    assert dataset_bytes(tmp_path / "run") == before


def test_another_source_model_is_sampled_alone(modulo, tmp_path):
    twin_build(modulo).run(tmp_path / "run")
    models = [{"id": "test/echo", "samples": 6}, {"id": "test/second", "samples": 2}]
    engine = EchoEngine()
    twin_build(recipe_over(Path(modulo.corpora[0].path), source_models=models), engine).run(tmp_path / "run")
    assert len(engine.asked) == 40 * 2


def test_more_samples_add_to_those_that_are_there(modulo, tmp_path):
    twin_build(modulo).run(tmp_path / "run")
    engine = EchoEngine()
    twin_build(
        recipe_over(Path(modulo.corpora[0].path), source_models=[{"id": "test/echo", "samples": 8}]), engine
    ).run(tmp_path / "run")
    assert sorted({request.sample for request in engine.asked}) == [6, 7]


def test_fewer_samples_give_the_bytes_of_a_build_that_never_drew_more(modulo, tmp_path):
    few = recipe_over(
        Path(modulo.corpora[0].path), source_models=[{"id": "test/echo", "samples": 3, "license": "apache-2.0"}]
    )
    twin_build(modulo).run(tmp_path / "shrunk")
    twin_build(few).run(tmp_path / "shrunk")
    twin_build(few).run(tmp_path / "fresh")
    assert dataset_bytes(tmp_path / "shrunk") == dataset_bytes(tmp_path / "fresh")


def test_a_limit_keeps_the_first_prompts_by_hash(modulo, tmp_path):
    small = twin_build(modulo).run(tmp_path / "small", limit=10).places["prompt_id"]
    larger = twin_build(modulo).run(tmp_path / "larger", limit=20).places["prompt_id"]
    assert len(small) == 10
    assert set(small) < set(larger)


def test_failed_samples_that_a_limit_leaves_out_are_not_to_be_tried_again(modulo, tmp_path):
    engine = FailsOnce()
    kept = set(twin_build(modulo).run(tmp_path / "small", limit=10).places["prompt_id"])
    engine.failed |= kept
    twin_build(modulo, engine).run(tmp_path / "run")
    assert failures(tmp_path / "run") == len(engine.failed - kept) > 0
    twin_build(modulo, engine).run(tmp_path / "run", limit=10)
    assert failures(tmp_path / "run") == 0


def test_a_raised_limit_samples_the_new_prompts_only(modulo, tmp_path):
    twin_build(modulo).run(tmp_path / "run", limit=10)
    engine = EchoEngine()
    twin_build(modulo, engine).run(tmp_path / "run", limit=20)
    assert len(engine.asked) == 10 * 6


def test_a_forced_stage_is_made_anew_with_what_follows_from_it(modulo, tmp_path):
    twin_build(modulo).run(tmp_path / "run")
    recorder, engine = Recorder(), EchoEngine()
    twin_build(modulo, engine, reporter=recorder).run(tmp_path / "run", force=["responses"])
    assert len(engine.asked) == 40 * 6
    assert [s for s in recorder.stages if s.startswith(("verdicts", "rewards"))] == [
        "verdicts of test/echo",
        "rewards of test/echo",
    ]


def test_an_unknown_stage_to_force_is_refused(modulo, tmp_path):
    with pytest.raises(ConfigError, match="there are prompts, responses, verdicts, rewards"):
        twin_build(modulo).run(tmp_path / "run", force=["sampling"])


def test_another_recipes_run_is_refused(modulo, tmp_path):
    twin_build(modulo).run(tmp_path / "run")
    with pytest.raises(RunError, match="is a run of recipe modulo, not other"):
        twin_build(modulo.model_copy(update={"name": "other"})).run(tmp_path / "run")


def test_a_changed_corpus_file_is_read_anew(modulo, tmp_path):
    twin_build(modulo).run(tmp_path / "run")
    write_corpus(Path(modulo.corpora[0].path), questions(45))
    assert twin_build(modulo).run(tmp_path / "run").places.height == 45


def test_a_missing_corpus_stops_the_build_with_one_sentence(modulo, tmp_path):
    Path(modulo.corpora[0].path).unlink()
    with pytest.raises(CorpusError, match="test/modulo"):
        twin_build(modulo).run(tmp_path / "run")


def test_an_unreadable_part_is_named_and_the_rest_is_kept(modulo, tmp_path):
    twin_build(modulo).run(tmp_path / "run")
    victim = sorted((tmp_path / "run" / "responses").glob("*/part-*.parquet"))[3]
    victim.write_bytes(victim.read_bytes()[:100])
    with pytest.raises(RunError, match=rf"{victim.name}: this part cannot be read .*delete it and build again"):
        twin_build(modulo).run(tmp_path / "run")
    victim.unlink()
    engine = EchoEngine()
    twin_build(modulo, engine).run(tmp_path / "run")
    assert len(engine.asked) == engine.batch_size


def test_the_dataset_folder_holds_no_path_of_this_machine(modulo, tmp_path):
    twin_build(modulo).run(tmp_path / "run")
    assert all(str(tmp_path).encode() not in content for content in dataset_bytes(tmp_path / "run").values())


def carried_recipe(tmp_path: Path) -> Recipe:
    rows = [
        {"problem": "One plus one?", "solution": "It is 2.", "gold": "2"},
        {"problem": " One plus one?\r\n", "solution": "The answer is 2.", "gold": "2"},
        {"problem": "One plus one?", "solution": "It is 2.", "gold": "2"},
        {"problem": "Two plus two?", "solution": "It is 5.", "gold": "4"},
        {"problem": "", "solution": "?", "gold": "1"},
        {"problem": "Who?", "solution": "Me.", "gold": None},
        {"problem": "Three?", "solution": "3", "gold": "3"},
        {"problem": "Three?", "solution": "4", "gold": "4"},
    ]
    path = write_corpus(tmp_path / "carried.jsonl", rows)
    corpus = {
        "id": "test/carried",
        "path": str(path),
        "prompt": "problem",
        "answer": "gold",
        "responses": {"column": "solution", "source_model": "test/author"},
        "sampled": False,
    }
    return recipe_over(path, corpora=[corpus], source_models=[])


def test_several_solutions_of_a_problem_become_one_prompt_with_carried_responses(tmp_path):
    twin_build(carried_recipe(tmp_path)).run(tmp_path / "run")
    rows = responses(tmp_path / "run")
    texts = sorted(rows.filter(pl.col("prompt_id").is_duplicated())["text"])
    assert texts == ["It is 2.", "The answer is 2."]
    assert rows["source_model"].unique().to_list() == ["test/author"]
    assert rows["finish_reason"].unique().to_list() == ["carried"]


def test_rows_that_cannot_become_prompts_are_counted_under_a_reason(tmp_path):
    twin_build(carried_recipe(tmp_path)).run(tmp_path / "run")
    run = read_run(tmp_path / "run")
    dropped = pl.read_parquet(tmp_path / "run" / "dropped" / "*" / "*.parquet")
    assert sorted(dropped["reason"]) == ["conflicting gold answers", "no gold answer"]
    card = (tmp_path / "run" / "dataset" / "sft" / "README.md").read_text()
    assert "| test/carried | empty prompt (rows) | 1 |" in card
    assert "merged into a row with the same problem (rows) | 3 |" in card
    assert read_prompts(run).height == 2


def test_rows_read_equal_prompts_and_rows_left_out(tmp_path):
    twin_build(carried_recipe(tmp_path)).run(tmp_path / "run")
    funnel = read_run(tmp_path / "run").root.glob("prompts/*/funnel.json")
    counts = {what: count for _, what, count in json.loads(next(funnel).read_text())}
    read, kept = counts.pop("rows read"), counts.pop("prompts")
    assert read == kept + sum(counts.values())


def test_the_card_states_which_state_of_each_corpus_was_read(modulo, tmp_path):
    twin_build(modulo).run(tmp_path / "run")
    card = (tmp_path / "run" / "dataset" / "dpo" / "README.md").read_text()
    (prompts,) = read_run(tmp_path / "run").state["tables"]["prompts"].values()
    revision = prompts["identity"]["corpora"][0]["revision"]
    assert revision.startswith("sha256:")
    assert f"| test/modulo | `{revision}` |" in card


def test_prompts_are_made_anew_when_the_rules_of_filters_change(modulo, tmp_path):
    """The number of the rules stands in the fingerprint: a run of another number has other PROMPTS."""
    twin_build(modulo).run(tmp_path / "run")
    state = json.loads((tmp_path / "run" / "run.json").read_bytes())
    prompts = state["tables"]["prompts"][""]
    assert prompts["identity"]["rules"] == filters.RULES
    assert prompts["fingerprint"] != fingerprint({**prompts["identity"], "rules": filters.RULES + 1})
    assert prompts["fingerprint"] == fingerprint(prompts["identity"])
