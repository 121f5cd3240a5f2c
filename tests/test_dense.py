"""A row from each source model with a weight, after FuseRL; and best against worst over all responses of a corpus."""

import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from conftest import dataset_bytes, questions, recipe_over, twin_build, write_corpus
from runs import invoke

from fusedata.build import Build
from fusedata.dataset import DPO, SFT, WEIGHT, Datasets
from fusedata.errors import ConfigError
from fusedata.inspect_ import opened, overview
from fusedata.inspect_rows import known, samples
from fusedata.ledger import reward_tolerance
from fusedata.profile import Profile, find_profile, load_profile
from fusedata.recipe import Recipe, find_recipe, load_recipe
from fusedata.reward.protocol import Item
from fusedata.schema import KEY
from fusedata.select import near_limits
from fusedata.status import status
from fusedata.store import read_run
from fusedata.testing import EchoEngine, HashReward

PROMPTS = 40
MODELS = [{"id": f"test/{name}", "samples": 4} for name in ("one", "two", "three")]
TEMPERATURE = 0.02
DENSE = {"per": "source_model", "weight_temperature": TEMPERATURE}
WINDOW = {"reward_gap": [0.0, 0.1], "reward_gap_model": "fusedata/hash-reward"}


def recipe(folder: Path, **changes: Any) -> Recipe:
    path = write_corpus(folder / "modulo.jsonl", questions(PROMPTS))
    data = {
        "source_models": MODELS,
        "sft": DENSE,
        "dpo": {**DENSE, **WINDOW},
        "split": {"order": "ratio", "sft": 0.4, "test": 0.1},
    }
    return recipe_over(path, **{**data, **changes})


def build(made: Recipe, out: Path, **seams: Any) -> Datasets:
    return twin_build(made, EchoEngine(answers=4), **seams).run(out)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Datasets]:
    folder = tmp_path_factory.mktemp("dense")
    return folder / "run", build(recipe(folder), folder / "run")


def kinds(built: Datasets) -> dict[str, pl.DataFrame]:
    return {"sft": built.sft, "dpo": built.dpo}


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_a_row_is_known_by_prompt_and_source_model_and_a_prompt_gives_several(whole, kind):
    rows = kinds(whole[1])[kind]
    assert rows.select("prompt_id", "source_model").is_unique().all()
    assert rows.height > rows["prompt_id"].n_unique() > 1
    assert rows.select("prompt_id", "source_model").equals(rows.select("prompt_id", "source_model").sort(pl.all()))


@pytest.mark.parametrize(("kind", "reward"), [("sft", "reward"), ("dpo", "chosen_reward")])
def test_weights_of_a_prompt_are_the_softmax_of_its_rewards(whole, kind, reward):
    for _, own in kinds(whole[1])[kind].group_by("prompt_id"):
        powers = [math.exp(value / TEMPERATURE) for value in own[reward]]
        assert own["weight"].to_list() == pytest.approx([power / sum(powers) for power in powers])
        assert own["weight"].sum() == pytest.approx(1)


def test_each_source_model_gives_its_own_best_and_its_own_pair_by_a_plain_reading(whole):
    run, built = whole
    tables = opened(run).tables
    rows = tables["rewards"].join(tables["verdicts"].select(*KEY, "passed"), on=KEY).collect().rows(named=True)
    for kind, data in kinds(built).items():
        fed = set(data["prompt_id"])
        expected = set()
        for model in {row["source_model"] for row in rows}:
            for prompt in fed:
                own = sorted(
                    (r for r in rows if (r["prompt_id"], r["source_model"]) == (prompt, model)),
                    key=lambda r: r["sample"],
                )
                right, wrong = ([r for r in own if r["passed"] is passed] for passed in (True, False))
                best = max(right, key=lambda r: r["reward"], default=None)
                worst = min(wrong, key=lambda r: r["reward"], default=None)
                gap = round(best["reward"] - worst["reward"], 9) if best and worst else None
                if kind == "sft" and best:
                    expected.add((prompt, model, best["sample"]))
                elif kind == "dpo" and gap is not None and 0.0 <= gap <= 0.1:
                    expected.add((prompt, model, best["sample"], worst["sample"]))
        columns = ["sample"] if kind == "sft" else ["chosen_sample", "rejected_sample"]
        assert set(data.select("prompt_id", "source_model", *columns).rows()) == expected


def test_pairs_stay_within_one_model(whole):
    dpo = whole[1].dpo
    assert (dpo["source_model"] == dpo["rejected_source_model"]).all()


def test_columns_are_those_declared_and_weight(whole):
    built = whole[1]
    assert built.sft.schema == {**SFT, **WEIGHT, "test": pl.Boolean()}
    assert built.dpo.schema == {**DPO, **WEIGHT, "test": pl.Boolean()}


def test_a_prompt_feeds_one_dataset_with_all_its_rows_and_is_held_out_whole(whole):
    built = whole[1]
    assert not set(built.sft["prompt_id"]) & set(built.dpo["prompt_id"])
    for rows in kinds(built).values():
        assert (
            rows.group_by("prompt_id").agg(pl.col("test").n_unique())["test"].to_list()
            == [1] * rows["prompt_id"].n_unique()
        )
        assert 0 < rows["test"].sum() < rows.height


def test_prompts_and_rows_are_counted_apart(whole):
    run, built = whole
    fed = built.places.select(pl.col("sft", "dpo", "sft_rows", "pairs").sum()).row(0, named=True)
    assert (fed["sft_rows"], fed["pairs"]) == (built.sft.height, built.dpo.height)
    assert (fed["sft"], fed["dpo"]) == (built.sft["prompt_id"].n_unique(), built.dpo["prompt_id"].n_unique())
    card = (run / "dataset" / "dpo" / "README.md").read_text()
    dropped = built.places["dropped"].count()
    assert f"| test/modulo | mit | {PROMPTS} | {built.sft.height} | {built.dpo.height} | {dropped} |" in card


def test_status_adds_prompts_up_and_finds_the_dataset_up_to_date(whole):
    run, built = whole
    found = status(run)
    assert (found.left, found.dataset.stale) == (0, ())
    assert all(flow.holds for flow in found.flows)
    assert sum(found.dataset.sft.values()) == built.sft.height
    assert "does NOT hold" not in invoke("status", run)


def test_status_finds_a_dataset_that_lacks_one_of_a_prompt_s_rows_out_of_date(tmp_path):
    build(recipe(tmp_path), tmp_path / "run")
    file = next((tmp_path / "run" / "dataset" / "sft" / "data").glob("train-*"))
    pl.read_parquet(file)[1:].write_parquet(file)
    assert status(tmp_path / "run").dataset.stale == ("the tables give other rows",)


def test_inspect_shows_every_row_of_a_prompt_and_names_its_dataset_once(whole):
    run, built = whole
    prompt = built.dpo["prompt_id"].mode().sort()[0]
    found = known(opened(run), prompt)
    pairs = built.dpo.filter(prompt_id=prompt)
    assert len(found.rows) == 1
    assert sum("chosen" in answer.roles for answer in found.answers) == pairs.height
    assert len(samples(opened(run), "dpo", 5, 1)) == 5
    assert sum(c.rows for c in overview(opened(run)).counts) == built.sft.height + built.dpo.height
    assert invoke("inspect", run, "--prompt", prompt)


def test_pairs_near_an_end_of_the_window_are_counted_by_pair(whole):
    run, built = whole
    assert reward_tolerance(read_run(run).state) == 0
    gap = (built.dpo["chosen_reward"] - built.dpo["rejected_reward"]).abs()
    assert (
        near_limits(built.dpo, recipe(run.parent).dpo, 0.005)
        == int(((gap <= 0.01) | ((gap - 0.1).abs() <= 0.01)).sum())
        > 0
    )


def test_an_edit_from_one_row_a_prompt_to_several_gives_the_bytes_of_a_fresh_run(tmp_path):
    sparse = recipe(tmp_path, sft={}, dpo=WINDOW)
    build(sparse, tmp_path / "run")
    engine = EchoEngine(answers=4)
    twin_build(recipe(tmp_path), engine).run(tmp_path / "run")
    assert engine.asked == []
    build(recipe(tmp_path), tmp_path / "fresh")
    assert dataset_bytes(tmp_path / "run") == dataset_bytes(tmp_path / "fresh")


def test_the_best_row_of_a_prompt_is_the_row_that_the_prompt_gives_alone(tmp_path, whole):
    one = build(recipe(tmp_path, sft={}), tmp_path / "run").sft
    heaviest = whole[1].sft.sort("weight", descending=True).unique("prompt_id", keep="first", maintain_order=True)
    both = one.join(heaviest, on="prompt_id", suffix="_dense")
    assert both.height == one.height
    assert (both["reward"] == both["reward_dense"]).all()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sft": {"per": "source_model"}}, 'sft.weight_temperature: per = "source_model" needs it'),
        ({"sft": {"weight_temperature": 0.1}}, 'sft.weight_temperature: goes with per = "source_model" only'),
        ({"dpo": {"per": "source_model"}}, 'dpo.weight_temperature: per = "source_model" needs it'),
        ({"dpo": {**DENSE, "same_source_model": False}}, 'dpo.per: "source_model" pairs within one model'),
        ({"reward": None, "dpo": None, "split": {}}, "sft.per: weighs by reward"),
        ({"sft": {**DENSE, "weight_temperature": 0}}, "sft.weight_temperature: must be greater than 0"),
    ],
)
def test_a_recipe_that_cannot_be_dense_is_told_why(tmp_path, changes, told):
    with pytest.raises(ConfigError) as error:
        recipe(tmp_path, **changes)
    assert told in str(error.value)


def test_sft_only_of_one_model_keeps_every_prompt_where_a_ratio_is_asked_for(tmp_path):
    alone = recipe(tmp_path, source_models=MODELS[:1], correctness=None, reward=None, sft={}, dpo=None)
    built = build(alone, tmp_path / "run")
    assert (built.sft.height, built.dpo.height) == (PROMPTS, 0)
    assert built.places["dropped"].null_count() == PROMPTS


def test_the_shipped_recipe_is_dense_in_both_datasets():
    made = load_recipe(find_recipe("fuserl"))
    assert (made.sft.per, made.dpo.per, len(made.source_models)) == ("source_model", "source_model", 4)


class Unasked(HashReward):
    """ArmoRM by name, that must not be asked: the corpus holds its rewards."""

    name = "RLHFlow/ArmoRM-Llama3-8B-v0.1"

    def score(self, items):
        raise AssertionError("these responses have rewards already")


def without_decontamination(name: str) -> Recipe:
    made = load_recipe(find_recipe(name))
    return made.model_copy(update={"decontamination": made.decontamination.model_copy(update={"enabled": False})})


def test_binarised_ultrafeedback_keeps_its_rewards_under_the_local_profile_and_asks_for_no_weights(shared, tmp_path):
    local = load_profile(find_profile("local")).model_copy(update={"corpora": str(shared / "corpora" / "hub_layout")})

    def no_weights(*_):
        raise AssertionError("nothing is left to score")

    build = Build(without_decontamination("ultrafeedback-armorm"), local, make_reward=no_weights)
    assert build.plan(tmp_path / "run").work == ()
    assert build.run(tmp_path / "run").dpo.height > 100


def test_a_reward_that_a_corpus_lacks_is_asked_of_the_model(tmp_path):
    rows = [{"q": f"Say {n}.", "all": ["Yes.", "No."], "rewards": [0.1, 0.2] if n else [0.1, None]} for n in range(4)]
    path = write_corpus(tmp_path / "rows.jsonl", rows)
    held = {"column": "rewards", "model": HashReward.name}
    responses = {"column": "all", "source_model": "some/model", "reward": held}
    corpus = {"id": "test/carried", "path": str(path), "prompt": "q", "sampled": False, "responses": responses}
    asked = recipe_over(path, corpora=[corpus], source_models=[], correctness=None, dpo={"same_source_model": False})
    built = Build(asked, Profile(name="p"), make_reward=lambda *_: HashReward()).run(tmp_path / "run")
    lacking = built.dpo.filter(pl.col("prompt").list.last().struct.field("content") == "Say 0.")
    expected = HashReward().score([Item(({"role": "user", "content": "Say 0."},), "No.")])[0].score
    assert expected in {*lacking["chosen_reward"], *lacking["rejected_reward"]}


def test_binarised_ultrafeedback_is_what_its_corpus_says_chosen_and_rejected_are(shared, tmp_path):
    made = without_decontamination("ultrafeedback-armorm")
    profile = Profile(name="p", corpora=str(shared / "corpora" / "hub_layout"))
    built = Build(made, profile, make_reward=lambda *_: Unasked()).run(tmp_path / "run")
    files = shared / "corpora" / "hub_layout" / made.corpora[0].id.replace("/", "__") / "data" / "train-*.parquet"
    published = pl.read_parquet(files)
    last = pl.col("chosen", "rejected").list.last().struct.field("content").name.keep()
    expected = published.select("prompt", last).with_columns(pl.all().str.strip_chars())
    found = built.dpo.select(
        pl.col("prompt", "chosen", "rejected").list.last().struct.field("content").str.strip_chars().name.keep()
    )
    assert found.sort("prompt").equals(expected.sort("prompt"))
    assert found.height == built.sft.height == published.height
    rewards = published.select(pl.col("all_rm_scores").list.max()).to_series().sort()
    assert built.dpo["chosen_reward"].sort().equals(rewards.rename("chosen_reward"))
