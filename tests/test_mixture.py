"""Mixtures: what a file of them may say, how recipes are put together, and whole builds with twins of engine and reward."""

import json
import re
from pathlib import Path

import polars as pl
import pytest
from conftest import dataset_bytes, questions, recipe_over, twin_build, write_corpus
from runs import invoke

from fusedata.errors import ConfigError, FusedataError, RunError
from fusedata.mixing import MixtureBuild, together
from fusedata.mixture import (
    Mixture,
    find_named,
    load_mixture,
    load_named,
    looked_into,
    members,
    shipped_mixtures,
)
from fusedata.mixture_status import MixtureStatus, status_of
from fusedata.opening import write_run
from fusedata.recipe import Recipe, shipped_recipes
from fusedata.shards import Shard
from fusedata.status import status


def written(folder: Path, text: str, name: str = "both.toml") -> Path:
    (folder / name).write_text(text)
    return folder / name


# --- the file -------------------------------------------------------------------------------------------------------


def test_a_mixture_is_told_from_a_recipe_by_its_recipes():
    assert isinstance(load_named(find_named("fusechat-3.0")), Mixture)
    assert isinstance(load_named(find_named("math")), Recipe)
    assert "fusechat-3.0" in shipped_mixtures()
    assert "fusechat-3.0" not in shipped_recipes()


def test_paths_of_recipes_are_taken_from_the_mixtures_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = find_named("math").read_text()
    written(tmp_path, source, "mine.toml")
    path = written(tmp_path, 'recipes = ["code", "mine.toml"]')
    monkeypatch.chdir("/")
    assert list(members(load_mixture(path))) == ["code", "mine"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("recipes = []", "must not be empty"),
        ('recipes = ["math"]\nseed = 1', "seed: unknown key"),
        ('recipes = ["maths"]', "maths: unknown recipe"),
        ('recipes = ["math", "math"]', "the name math stands twice"),
        ('recipes = ["fusechat-3.0"]', "fusechat-3.0 is a mixture itself"),
        ('recipes = ["dataset.toml"]', "the name dataset is a folder of every run"),
    ],
)
def test_a_mixture_that_cannot_be_built_is_refused(text: str, told: str, tmp_path: Path):
    written(tmp_path, find_named("math").read_text(), "dataset.toml")
    with pytest.raises(ConfigError, match=told):
        members(load_mixture(written(tmp_path, text)))


# --- together -------------------------------------------------------------------------------------------------------


def frame(*ids: str) -> pl.DataFrame:
    return pl.DataFrame({"prompt_id": list(ids)}, schema={"prompt_id": pl.String})


def test_a_prompt_with_rows_in_two_recipes_is_kept_in_the_first():
    sft = {"a": frame("1", "2"), "b": frame("2", "3"), "c": frame("3", "4")}
    dpo = {"a": frame("5"), "b": frame("1", "6"), "c": frame()}
    (rows, pairs), repeated = together([sft, dpo])
    assert rows.rows() == [("a", "1"), ("a", "2"), ("b", "3"), ("c", "4")]
    assert pairs.rows() == [("a", "5"), ("b", "6")]
    assert repeated == {"a": 0, "b": 2, "c": 1}


def test_a_prompt_may_feed_both_datasets_of_one_recipe():
    (rows, pairs), repeated = together([{"a": frame("1")}, {"a": frame("1")}])
    assert (rows.height, pairs.height, repeated) == (1, 1, {"a": 0})


# --- builds ---------------------------------------------------------------------------------------------------------


def mixture(folder: Path, **changes: object) -> MixtureBuild:
    """Remainders in two recipes: the second asks five of the first's questions again, and holds out more."""
    first = recipe_over(write_corpus(folder / "a.jsonl", questions(40)), name="first", **changes)
    second = recipe_over(write_corpus(folder / "b.jsonl", questions(55)[35:]), name="second", split={"test": 0.3})
    both = Mixture(name="both", description="Remainders twice.", recipes=("first", "second"))
    return MixtureBuild(both, {recipe.name: twin_build(recipe) for recipe in (first, second)})


def whole(run: Path, kind: str) -> pl.DataFrame:
    splits = [pl.read_parquet(path).with_columns(split=pl.lit(path.name[:4])) for path in _files(run, kind)]
    return pl.concat(splits)


def _files(run: Path, kind: str) -> list[Path]:
    return sorted((run / "dataset" / kind / "data").glob("*.parquet"))


def test_shards_of_a_mixture_give_the_bytes_of_one_build_and_the_last_puts_it_together(tmp_path: Path):
    both = mixture(tmp_path)
    both.run(tmp_path / "run")
    sharded = tmp_path / "sharded"
    assert both.run_shard(sharded, Shard(2, 2)) is None
    assert not (sharded / "dataset").exists()
    assert both.run_shard(sharded, Shard(1, 2))
    assert dataset_bytes(sharded) == dataset_bytes(tmp_path / "run")
    assert status_of(sharded).dataset.stale == ()


def test_shards_of_another_mixture_are_refused_while_some_are_at_work(tmp_path: Path):
    both = mixture(tmp_path)
    both.run_shard(tmp_path / "run", Shard(1, 2))
    with write_run(tmp_path / "run", "both", Shard(2, 2)) as other:
        other.writer.share()
        with pytest.raises(
            RunError, match="other shards are building something else; give all shards the same mixture"
        ):
            both.run_shard(tmp_path / "run", Shard(1, 2), limit=3)
        assert both.run_shard(tmp_path / "run", Shard(1, 2)) is None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixture")
    mixture(folder).run(folder / "run")
    return folder / "run"


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_the_whole_is_the_sum_of_its_recipes_less_the_repeated_prompts(run: Path, kind: str):
    rows = whole(run, kind)
    first, second = (whole(run / name, kind) for name in ("first", "second"))
    kept = set(whole(run / "first", "sft")["prompt_id"]) | set(whole(run / "first", "dpo")["prompt_id"])
    assert set(rows.filter(recipe="first")["prompt_id"]) == set(first["prompt_id"])
    assert set(rows.filter(recipe="second")["prompt_id"]) == set(second["prompt_id"]) - kept
    assert rows["prompt_id"].n_unique() == rows.height


def test_what_a_recipe_holds_out_is_held_out_of_both_whole_datasets(run: Path):
    splits: dict[str, set[str]] = {"test": set(), "trai": set()}
    for kind in ("sft", "dpo"):
        for name in ("first", "second"):
            own = dict(whole(run / name, kind).select("prompt_id", "split").iter_rows())
            rows = whole(run, kind).filter(recipe=name)
            assert all(own[prompt] == split for prompt, split in rows.select("prompt_id", "split").iter_rows())
        for split, ids in splits.items():
            ids |= set(whole(run, kind).filter(split=split)["prompt_id"])
    assert splits["test"]
    assert not splits["test"] & splits["trai"]


def test_rows_of_a_split_stand_in_order_of_their_prompts(run: Path):
    for path in [*_files(run, "sft"), *_files(run, "dpo")]:
        assert pl.read_parquet(path)["prompt_id"].is_sorted()


def test_every_file_that_a_card_of_the_whole_names_lies_beside_it(run: Path):
    for card in (run / "dataset").rglob("README*.md"):
        named = re.findall(r"\]\(([^)#:]+)\)|license_link: (\S+\.md)", card.read_text())
        links = [link for pair in named for link in pair if link]
        assert links
        assert [link for link in links if not (card.parent / link).exists()] == []


def test_the_card_states_what_each_recipe_gave_and_their_own_cards_go_with_it(run: Path):
    folder = run / "dataset" / "sft"
    card = (folder / "README.md").read_text()
    rows = whole(run, "sft")
    found = status_of(run)
    assert isinstance(found, MixtureStatus)
    for name in ("first", "second"):
        sft, dpo = (whole(run, kind).filter(recipe=name).height for kind in ("sft", "dpo"))
        assert f"| {found.repeated[name]} | {sft} | {dpo} | [its own card](recipes/{name}/README.md) |" in card
        assert (folder / "recipes" / name / "README.md").read_bytes() == (
            run / name / "dataset" / "sft" / "README.md"
        ).read_bytes()
        assert (folder / "recipes" / name / "recipe.toml").is_file()
    assert found.repeated["second"]
    assert f"num_examples: {rows.filter(split='trai').height}\n" in card
    assert "- name: recipe\n" in card


def test_each_recipe_has_a_run_of_its_own(run: Path):
    for name in ("first", "second"):
        found = status(run / name)
        assert found.recipe == name
        assert found.dataset
        assert not found.dataset.stale


def test_a_second_build_changes_no_byte(tmp_path: Path):
    build = mixture(tmp_path)
    build.run(tmp_path / "run")
    before = dataset_bytes(tmp_path / "run")
    build.run(tmp_path / "run")
    assert dataset_bytes(tmp_path / "run") == before


def test_status_tells_each_recipe_and_whether_the_whole_is_up_to_date(run: Path):
    found = status_of(run)
    assert isinstance(found, MixtureStatus)
    assert found.left == 0
    assert found.dataset
    assert found.dataset.stale == ()
    assert sum(found.dataset.sft.values()) == whole(run, "sft").height
    assert found.next == (f"fusedata inspect {run}",)


def test_the_whole_is_out_of_date_where_a_recipe_was_built_anew(tmp_path: Path):
    mixture(tmp_path).run(tmp_path / "run")
    mixture(tmp_path, seed=7).builds["first"].run(tmp_path / "run" / "first")
    found = status_of(tmp_path / "run")
    assert found.dataset
    assert found.dataset.stale == ("the recipes give other rows",)
    assert found.next[0].startswith("fusedata build both")


def test_a_mixture_that_was_stopped_says_which_recipes_are_to_come(tmp_path: Path):
    build = mixture(tmp_path)
    (tmp_path / "b.jsonl").unlink()
    with pytest.raises(FusedataError, match=r"b\.jsonl"):
        build.run(tmp_path / "run")
    found = status_of(tmp_path / "run")
    assert isinstance(found, MixtureStatus)
    assert found.recipes["first"]
    assert found.recipes["first"].dataset
    assert found.dataset is None
    assert found.left is None
    assert found.next[0].startswith("fusedata build both")
    assert "not begun" in invoke("status", tmp_path / "run")
    with pytest.raises(RunError, match="its recipes have runs of their own: first, second"):
        looked_into(tmp_path / "run")


def test_limit_holds_for_each_recipe(tmp_path: Path):
    made = mixture(tmp_path).run(tmp_path / "run", limit=6)
    assert [part.places.height for part in made.parts.values()] == [6, 6]


def test_a_mixtures_folder_is_no_run_of_another(run: Path, tmp_path: Path):
    other = MixtureBuild(Mixture(name="other", recipes=("first",)), mixture(tmp_path).builds)
    with pytest.raises(RunError, match="is a run of recipe both, not other"):
        other.run(run)


# --- the command line -----------------------------------------------------------------------------------------------


def test_the_commands_know_a_mixture(run: Path):
    assert "both" in invoke("status", run)
    assert json.loads(invoke("status", run, "--json"))["recipes"]["first"]["left"] == 0
    assert "first" in invoke("inspect", run, "--sql", "select recipe, count(*) as n from sft group by recipe")
    assert "fusechat-3.0" in invoke("recipes")


def test_a_dry_run_sums_up_the_recipes(tmp_path: Path):
    command = ("build", "fusechat-3.0", "--profile", "vllm-8xh100", "--dry-run", "--out", tmp_path / "run")
    found = json.loads(invoke(*command, "--json"))
    assert list(found["recipes"]) == ["instruction", "math", "code", "chinese"]
    hours = [work["gpu_hours"] for plan in found["recipes"].values() for work in plan["work"]]
    assert found["gpu_hours"] == (None if None in hours else pytest.approx(sum(hours)))
    assert "The whole of fusechat-3.0" in invoke(*command)
    assert not (tmp_path / "run").exists()


def test_the_plan_on_paper_is_what_a_dry_run_prints(tmp_path: Path):
    paper = (Path(__file__).parents[1] / "docs" / "full-build.md").read_text()
    command = ("build", "fusechat-3.0", "--profile", "ray-8x8xh100", "--dry-run", "--out", tmp_path / "run")
    found = json.loads(invoke(*command, "--json"))
    for name, plan in found["recipes"].items():
        for work in plan["work"]:
            engines = f"{work['side_by_side']} × {work['gpus']}"
            start = f"| {name} | {work['model'].split('/')[1]} | {engines} | {work['requests']:,} |"
            (row,) = (line for line in paper.splitlines() if line.startswith(start))
            assert row.endswith(f" {work['hours']:.2f} | {work['gpu_hours']:.1f} |")
    assert f"| **{found['hours']:.1f}** | **{found['gpu_hours']:.0f}** |" in paper
    assert f"{found['sft_rows']:,} SFT rows and {found['dpo_pairs']:,} pairs" in paper
    assert f"{found['disk_bytes'] / 1e9:.1f} GB" in paper
    (limit,) = re.findall(r"most of them +\S+/(\S+) (\d+)%", invoke(*command).partition("The whole of")[2])
    assert "**What limits** is sampling from {}, {} % of the hours".format(*limit) in paper


# --- end to end -----------------------------------------------------------------------------------------------------


@pytest.mark.docker
@pytest.mark.model
@pytest.mark.slow
def test_the_whole_of_fusechat_builds_under_the_local_profile(tmp_path: Path):
    run = tmp_path / "run"
    said = invoke("build", "fusechat-3.0", "--profile", "local", "--limit", 6, "--out", run, "--json")
    made = json.loads(said.splitlines()[-1])  # progress comes before it
    found = status_of(run)
    assert isinstance(found, MixtureStatus)
    assert list(found.recipes) == ["instruction", "math", "code", "chinese"]
    assert all(flow.holds for part in found.recipes.values() if part for flow in part.flows)
    assert found.dataset
    assert found.dataset.stale == ()
    for kind in ("sft", "dpo"):
        by_recipe = {name: part[kind] for name, part in made["recipes"].items()}
        assert sum(made[kind].values()) == sum(by_recipe.values())
        if sum(by_recipe.values()):
            assert dict(whole(run, kind)["recipe"].value_counts().iter_rows()) == {
                name: count for name, count in by_recipe.items() if count
            }
            assert "Made with stand-ins" in (run / "dataset" / kind / "README.md").read_text()
    for name, part in made["recipes"].items():
        used = {p for kind in ("sft", "dpo") for p in _ids(run, kind, name)}
        assert part["prompts"] == len(used) + part["repeated"] + sum(part["dropped"].values())
    pairs = whole(run / "instruction", "dpo")
    assert pairs.height
    assert (pairs["chosen_reward"] - pairs["rejected_reward"]).round(9).is_between(0.01, 0.1).all()
    instruction, chinese = found.recipes["instruction"], found.recipes["chinese"]
    assert instruction
    assert chinese
    assert any(reason.startswith("topic ") for flow in instruction.flows for reason in flow.left_out)
    assert not (run / "chinese" / "dataset" / "dpo").exists()
    assert whole(run / "chinese", "sft").height
    assert whole(run / "math", "sft").height  # answers that people wrote are right
    assert "Made with stand-ins" in (run / "chinese" / "dataset" / "sft" / "README.md").read_text()


def _ids(run: Path, kind: str, name: str) -> set[str]:
    return set(whole(run, kind).filter(recipe=name)["prompt_id"]) if _files(run, kind) else set()
