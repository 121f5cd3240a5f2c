"""WRPO: SFT on a third of the prompts; on the others the trained model is sampled, against the best source response."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from conftest import dataset_bytes, questions, recipe_over, twin_build, write_corpus
from runs import invoke

from fusedata.dataset import DPO, OWN, Datasets
from fusedata.errors import ConfigError
from fusedata.inspect_ import opened, overview
from fusedata.inspect_rows import known
from fusedata.profile import Profile, StandIn, effective
from fusedata.recipe import Recipe, SourceModel, find_recipe, load_recipe
from fusedata.schema import KEY, digest
from fusedata.split import asked
from fusedata.status import status
from fusedata.store import read_prompts, read_run
from fusedata.testing import EchoEngine

PROMPTS = 60
TARGET = "local/trained"
SOURCES = [{"id": "test/one", "samples": 2}, {"id": "test/two", "samples": 2}]
OWN_MODEL = {"id": TARGET, "samples": 5}


class Separate:
    """An engine a model, as a build makes them; all keep what they were asked. The target's words are its own."""

    def __init__(self, generation: int = 1):
        self.generation, self.engines = generation, {}

    def __call__(self, model: SourceModel, _profile: Profile) -> EchoEngine:
        engine = EchoEngine(answers=100_000 + self.generation if model.id == TARGET else 100_000)
        return self.engines.setdefault(model.id, engine)

    def asked(self, model: str) -> set[str]:
        return {request.prompt_id for request in self.engines[model].asked}


def recipe(folder: Path, **changes: Any) -> Recipe:
    path = write_corpus(folder / "modulo.jsonl", questions(PROMPTS))
    data = {
        "source_models": [*SOURCES, OWN_MODEL],
        "correctness": None,
        "dpo": {"method": "wrpo", "target": TARGET},
        "split": {"order": "random", "sft": 1 / 3, "test": 0.1},
    }
    return recipe_over(path, **{**data, **changes})


def untrained(folder: Path) -> Recipe:
    return recipe(folder, source_models=SOURCES, dpo={"method": "wrpo"})


def build(made: Recipe, out: Path, engines: Separate | None = None) -> Datasets:
    twins = twin_build(made)
    return type(twins)(made, twins.profile, engines or Separate(), twins.make_reward).run(out)


def rewards(run: Path) -> dict[str, list[dict[str, Any]]]:
    """Every scored response of a run by its prompt, in order of model and sample."""
    rows = opened(run).tables["rewards"].collect().sort(*KEY).rows(named=True)
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["prompt_id"], []).append(row)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Datasets, Separate]:
    folder, engines = tmp_path_factory.mktemp("wrpo"), Separate()
    return folder / "run", build(recipe(folder), folder / "run", engines), engines


def test_a_third_of_the_prompts_feeds_sft_and_the_others_feed_dpo(whole):
    _, built, _ = whole
    assert built.sft.height == PROMPTS // 3
    assert built.sft["prompt_id"].is_in(built.dpo["prompt_id"].implode()).sum() == 0
    reasons = built.places.filter(~pl.col("sft") & ~pl.col("dpo"))["dropped"].to_list()
    assert len(reasons) == PROMPTS - PROMPTS // 3 - built.dpo.height
    assert set(reasons) <= {"gap too small"}
    assert built.dpo.height > PROMPTS // 2


def test_the_target_is_asked_only_the_prompts_that_feed_dpo(whole):
    _, built, engines = whole
    fed = set(built.places.filter(~pl.col("sft"))["prompt_id"])
    assert engines.asked(TARGET) == fed
    assert len(engines.engines[TARGET].asked) == 5 * len(fed)
    assert all(len(engines.asked(model["id"])) == PROMPTS for model in SOURCES)


def test_a_row_is_best_source_best_own_and_worst_own_by_a_plain_reading_of_the_rewards(whole):
    run, built, _ = whole
    by_prompt = rewards(run)
    for row in built.dpo.rows(named=True):
        own = [r for r in by_prompt[row["prompt_id"]] if r["source_model"] == TARGET]
        source = [r for r in by_prompt[row["prompt_id"]] if r["source_model"] != TARGET]
        best, best_own, worst = (
            pick(rows, key=lambda r: r["reward"]) for pick, rows in ((max, source), (max, own), (min, own))
        )
        assert (row["source_model"], row["chosen_sample"]) == (best["source_model"], best["sample"])
        assert (row["chosen_own_sample"], row["rejected_sample"]) == (best_own["sample"], worst["sample"])
        assert row["rejected_source_model"] == TARGET
        assert row["chosen_reward"] == best["reward"] > row["rejected_reward"] == worst["reward"]
        assert row["chosen_own_reward"] == best_own["reward"] > worst["reward"]


def test_each_text_is_the_one_that_was_scored(whole):
    run, built, _ = whole
    texts = {row[:3]: row[3] for row in opened(run).tables["responses"].select(*KEY, "text").collect().rows()}
    for row in built.dpo.rows(named=True):
        models = {"chosen": row["source_model"], "chosen_own": TARGET, "rejected": TARGET}
        for side, model in models.items():
            content = texts[row["prompt_id"], model, row[f"{side}_sample"]]
            assert row[side] == [{"role": "assistant", "content": content}]


def test_the_columns_are_a_pair_s_and_those_of_the_best_own_response(whole):
    _, built, _ = whole
    assert built.dpo.schema == {**DPO, **OWN, "test": pl.Boolean()}
    assert built.dpo["chosen_own_completion_tokens"].null_count() == 0


def test_the_sft_rows_are_the_sources_alone(whole):
    _, built, _ = whole
    assert set(built.sft["source_model"]) == {model["id"] for model in SOURCES}


def test_status_knows_how_much_the_target_is_asked(whole):
    run, built, _ = whole
    found = status(run)
    wanted = {p.source: p.wanted for p in found.progress if p.table == "responses"}
    assert wanted == {"test/one": 2 * PROMPTS, "test/two": 2 * PROMPTS, TARGET: 5 * (PROMPTS - PROMPTS // 3)}
    assert (found.left, found.dataset.stale) == (0, ())
    assert all(flow.holds for flow in found.flows)
    assert sum(found.dataset.dpo.values()) == built.dpo.height


def test_inspect_shows_the_three_responses_of_a_row(whole):
    run, built, _ = whole
    prompt = built.dpo["prompt_id"][0]
    roles = [role for answer in known(opened(run), prompt).answers for role in answer.roles]
    assert sorted(roles) == ["chosen", "chosen_own", "rejected"]
    assert any(length.part == "chosen own" for length in overview(opened(run)).lengths)
    assert invoke("inspect", run, "--prompt", prompt)


def test_the_card_credits_the_target(whole):
    run, built, _ = whole
    card = (run / "dataset" / "dpo" / "README.md").read_text()
    (line,) = (line for line in card.splitlines() if line.startswith(f"| {TARGET} | not stated | 5"))
    assert line.endswith(f"| {built.dpo.height} |")


def test_a_trainer_reads_a_row_as_a_pair(whole):
    datasets, data_utils = pytest.importorskip("datasets"), pytest.importorskip("trl.data_utils")
    run, built, _ = whole
    files = [str(path) for path in sorted((run / "dataset" / "dpo" / "data").glob("*.parquet"))]
    rows = datasets.Dataset.from_parquet(files, cache_dir=str(run.parent / "cache"))
    assert len(rows) == built.dpo.height
    assert data_utils.is_conversational(rows[0])
    assert {"prompt", "chosen", "rejected"} <= set(rows.column_names)


def test_before_the_target_is_trained_the_sft_dataset_is_whole_and_the_others_wait(tmp_path):
    built = build(untrained(tmp_path), tmp_path / "run")
    assert (built.sft.height, built.dpo.height) == (PROMPTS // 3, 0)
    assert built.places["dropped"].drop_nulls().unique().to_list() == ["no response of the target"]
    found = status(tmp_path / "run")
    assert (found.left, found.dataset.stale) == (0, ())


def test_training_the_target_leaves_the_sft_rows_as_they_were_and_asks_the_target_alone(tmp_path):
    first = build(untrained(tmp_path), tmp_path / "run")
    engines = Separate()
    second = build(recipe(tmp_path), tmp_path / "run", engines)
    assert second.sft.drop("test").equals(first.sft.drop("test"))
    assert [model for model, engine in engines.engines.items() if engine.asked] == [TARGET]
    build(recipe(tmp_path), tmp_path / "fresh")
    assert dataset_bytes(tmp_path / "run") == dataset_bytes(tmp_path / "fresh")


def test_a_target_that_was_trained_again_is_sampled_again_alone(tmp_path):
    before = build(recipe(tmp_path), tmp_path / "run").dpo
    engines = Separate(generation=2)
    after = build(recipe(tmp_path), tmp_path / "run", engines).dpo
    assert [model for model, engine in engines.engines.items() if engine.asked] == [TARGET]
    assert not before["rejected"].equals(after["rejected"])


def test_responses_of_the_target_to_prompts_of_sft_count_for_nothing(tmp_path):
    """A raised limit moves prompts between the parts: what the target had answered stays in the run."""
    made = recipe(tmp_path)
    build(made.model_copy(update={"limit": 20}), tmp_path / "run")
    build(made, tmp_path / "run")
    build(made, tmp_path / "fresh")
    assert dataset_bytes(tmp_path / "run") == dataset_bytes(tmp_path / "fresh")


def test_what_is_asked_of_the_target_is_what_then_feeds_dpo(whole, tmp_path):
    run, built, _ = whole
    prompts = read_prompts(read_run(run))
    made = recipe(tmp_path)
    assert set(asked(prompts, made, TARGET)["prompt_id"]).isdisjoint(built.sft["prompt_id"])
    assert asked(prompts, made, "test/one").height == prompts.height


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"dpo": {"method": "wrpo", "target": "no/such"}}, "dpo.target: no/such is none of the source_models"),
        ({"split": {"order": "ratio", "sft": 0.4}}, 'split.order: must be "random" where'),
        ({"dpo": {"target": TARGET}}, 'dpo.target: goes with method = "wrpo" only'),
        ({"source_models": [OWN_MODEL]}, "dpo.target: is the only one that answers"),
        ({"dpo": None}, "split.order: shares out prompts between SFT and DPO"),
        ({"split": {"order": "random"}}, 'split.sft: order = "random" needs it: the share of prompts that feed SFT'),
        (
            {"dpo": {"method": "wrpo", "target": TARGET, "per": "source_model", "weight_temperature": 0.1}},
            'dpo.per: "source_model" pairs within one model',
        ),
    ],
)
def test_a_recipe_that_cannot_be_wrpo_is_told_why(tmp_path, changes, told):
    with pytest.raises(ConfigError) as error:
        recipe(tmp_path, **changes)
    assert told in str(error.value)


def test_a_carried_response_is_source_enough(tmp_path):
    rows = [{"q": f"Say {n}.", "s": f"{n}, of course."} for n in range(9)]
    path = write_corpus(tmp_path / "carried.jsonl", rows)
    corpus = {"id": "test/carried", "path": str(path), "prompt": "q"}
    corpus |= {"responses": {"column": "s", "source_model": "human"}}
    built = build(recipe(tmp_path, corpora=[corpus], source_models=[OWN_MODEL]), tmp_path / "run")
    assert set(built.sft["source_model"]) | set(built.dpo["source_model"]) == {"human"}
    assert set(built.dpo["rejected_source_model"]) == {TARGET}


def test_a_stand_in_for_the_source_models_stands_in_for_the_target_too():
    models = (SourceModel(id="small/one"), SourceModel(id="small/two"))
    made = effective(load_recipe(find_recipe("wrpo")), Profile(name="p", stand_in=StandIn(source_models=models)))
    assert (made.dpo.target, [model.id for model in made.source_models]) == ("small/two", ["small/one", "small/two"])


def test_one_stand_in_for_target_and_source_models_is_refused_with_the_profiles_name():
    one = Profile(name="p", stand_in=StandIn(source_models=(SourceModel(id="small/one"),)))
    with pytest.raises(ConfigError, match="profile p: wrpo compares a target with other models, and one stand-in"):
        effective(load_recipe(find_recipe("wrpo")), one)


def test_the_shipped_recipe_samples_ten_sources_and_one_target_five_times_one_to_two():
    made = load_recipe(find_recipe("wrpo"))
    assert len(made.source_models) == 11
    assert {model.samples for model in made.source_models} == {5}
    assert made.dpo.target in {model.id for model in made.source_models}
    assert str(made.split.share) == "1/3"
    ids = pl.DataFrame({"prompt_id": [digest(str(n)) for n in range(300)], "corpus": "c", "sampled": True})
    assert asked(ids, made, made.dpo.target).height == 200
