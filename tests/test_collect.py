"""Prompts through filters, and rewards that a corpus carries."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from conftest import dataset_bytes, recipe_over, write_corpus

from fusedata.build import Build, Silent
from fusedata.collect.locate import Located, locate
from fusedata.collect.prompts import Collected, collect
from fusedata.config import validate
from fusedata.corpus import Corpus
from fusedata.errors import RewardError
from fusedata.profile import Profile, RewardHost
from fusedata.recipe import Recipe
from fusedata.schema import DROPPED, REWARDS, rank
from fusedata.store import read_run
from fusedata.testing import EchoEngine, HashReward

JUDGE = HashReward.name


def corpora(folder: Path, *counts: int, **more: object) -> tuple[list[tuple[Corpus, Located]], Recipe]:
    """Corpora of numbered problems, no two alike."""
    tables = []
    for name, (first, count) in enumerate(zip(itertools.accumulate((0, *counts)), counts, strict=False)):
        rows: list[dict[str, object]] = [{"q": f"Problem {n}?"} for n in range(first, first + count)]
        path = write_corpus(folder / f"{name}.jsonl", rows)
        tables.append({"id": f"test/{name}", "path": str(path), "prompt": "q", **more})
    recipe = validate(Recipe, {"name": "x", "corpora": tables, "source_models": [{"id": "test/model"}]}, "test")
    return [(c, locate(c.id, files=(), split="train", path=Path(str(c.path)))) for c in recipe.corpora], recipe


class Odd:
    """Lets odd problems pass, and remembers what it saw and what it let pass."""

    def __init__(self, reason: str = "even") -> None:
        self.reason = reason
        self.seen: list[str] = []
        self.passed: list[str] = []

    def __call__(self, prompts: pl.DataFrame) -> pl.DataFrame:
        odd = [int(text.split()[1].rstrip("?")) % 2 == 1 for text in prompts["text"]]
        self.seen += prompts["prompt_id"].to_list()
        self.passed += prompts["prompt_id"].filter(pl.Series(odd, dtype=pl.Boolean)).to_list()
        reasons = [None if one else self.reason for one in odd]
        details = [None if one else f"{text} is even" for one, text in zip(odd, prompts["text"], strict=True)]
        return pl.DataFrame({"reason": reasons, "detail": details}, schema={"reason": pl.String, "detail": pl.String})


def nothing(prompts: pl.DataFrame) -> pl.DataFrame:
    """Drops all prompts."""
    return pl.DataFrame({"reason": ["never"] * prompts.height, "detail": [None] * prompts.height})


def counted(found: Collected, corpus: str) -> dict[str, int]:
    return {what: count for name, what, count in found.funnel if name == corpus}


def test_every_prompt_is_looked_at_where_all_are_taken_and_the_dropped_bear_their_reason(tmp_path: Path):
    located, recipe = corpora(tmp_path, 2_500)
    odd = Odd()
    found = collect(located, recipe, [odd])
    assert len(odd.seen) == 2_500
    assert counted(found, "test/0") == {"rows read": 2_500, "even": 1_250, "prompts": 1_250}
    assert found.dropped.schema == DROPPED
    assert found.dropped.height == found.dropped["prompt_id"].n_unique() == 1_250
    assert found.dropped.row(0, named=True)["detail"].endswith("is even")
    assert set(found.prompts["prompt_id"]) == set(odd.passed)
    assert set(found.dropped["corpus_row"]) == set(range(0, 2_500, 2))


def test_prompts_are_looked_at_in_the_order_of_their_hash_and_no_more_than_are_taken(tmp_path: Path):
    located, recipe = corpora(tmp_path, 5_000, take=1_200)
    odd = Odd()
    found = collect(located, recipe, [odd])
    ranks = rank("take", recipe.seed, odd.seen).to_list()
    assert ranks == sorted(ranks)
    assert len(odd.passed) == 1_200  # what a filter let pass was taken: it remembers nothing else
    assert set(odd.passed) == set(found.prompts["prompt_id"])
    counts = counted(found, "test/0")
    assert counts["not taken"] == 5_000 - len(odd.seen) > 0
    assert counts["even"] + counts["not taken"] + counts["prompts"] == counts["rows read"] == 5_000
    first = sorted(zip(ranks, odd.seen, strict=True))[: len(odd.seen)]
    assert [prompt for _, prompt in first if prompt in set(odd.passed)] == odd.passed


def test_what_the_first_filter_drops_the_next_never_sees(tmp_path: Path):
    located, recipe = corpora(tmp_path, 300)
    first, second = Odd(), Odd("never told")
    found = collect(located, recipe, [first, second, nothing])
    assert second.seen == first.passed
    assert counted(found, "test/0") == {"rows read": 300, "even": 150, "never": 150, "prompts": 0}
    assert found.prompts.is_empty()


def test_a_filter_sees_all_corpora_in_the_recipes_order_and_the_funnel_adds_up(tmp_path: Path):
    located, recipe = corpora(tmp_path, 100, 50)
    odd = Odd()
    found = collect(located, recipe.model_copy(update={"limit": 30}), [odd])
    both = [{row["corpus"]: row["prompt_id"] for row in found.dropped.iter_rows(named=True)}]
    assert set(both[0]) == {"test/0", "test/1"}
    for name, rows in (("test/0", 100), ("test/1", 50)):
        counts = counted(found, name)
        assert counts.pop("rows read") == sum(counts.values()) == rows
    assert found.prompts.height == 30
    assert found.prompts.height + found.dropped.height == 150


def test_a_corpus_with_nothing_left_is_an_empty_one(tmp_path: Path):
    located, recipe = corpora(tmp_path, 5, where={"q": ["no such problem"]})
    found = collect(located, recipe, [Odd()])
    assert counted(found, "test/0") == {"rows read": 5, "where q (rows)": 5, "prompts": 0}
    assert found.prompts.is_empty()


class Counting(HashReward):
    """Counts what it is asked to score; `loaded` tells whether it ever was."""

    def __init__(self) -> None:
        self.responses: list[str] = []
        self.loaded = False

    def score(self, items: Sequence[Any]) -> list[Any]:
        self.loaded = True
        self.responses += [item.response for item in items]
        return super().score(items)


def rated(folder: Path, *scores: float | None, model: str = JUDGE, **changes: Any) -> Recipe:
    """A corpus of one problem a score, each with a best answer that bears it and one that bears 0.02 less."""
    rows: list[dict[str, object]] = [
        {
            "question": f"Problem {n}?",
            "answers": [f"Good {n}.", f"Bad {n}."],
            "scores": [score, None if score is None else score - 0.02],
            "other_scores": [0.5, 0.45],
        }
        for n, score in enumerate(scores)
    ]
    path = write_corpus(folder / "rated.jsonl", rows)
    column = changes.pop("column", "scores")
    held = {"column": "answers", "source_model": "a/b", "reward": {"column": column, "model": model}}
    corpus = {"id": "test/rated", "path": str(path), "prompt": "question", "sampled": False, "responses": held}
    changes = {"corpora": [corpus], "source_models": [], "correctness": None, "split": {"test": 0}, **changes}
    return recipe_over(
        path, **{key: value for key, value in changes.items() if value is not None} | {"correctness": None}
    )


def built(recipe: Recipe, out: Path, **seams: Any) -> Counting:
    scorer = Counting()
    profile = Profile(name="twins", reward=RewardHost(batch_size=2))
    Build(recipe, profile, lambda *_: EchoEngine(), lambda *_: scorer, **seams).run(out)
    return scorer


def rewards(out: Path) -> dict[tuple[str, int], tuple[float, str]]:
    run = read_run(out)
    (label,) = run.labels("rewards")
    rows = run.parts("rewards", label, REWARDS).scan().collect()
    assert rows.select("prompt_id", "sample").is_unique().all()
    return {(r["prompt_id"], r["sample"]): (r["reward"], r["reward_model"]) for r in rows.iter_rows(named=True)}


def test_carried_rewards_are_used_and_the_model_is_not_loaded(tmp_path: Path):
    scorer = built(rated(tmp_path, 0.5, 0.3, 0.9), tmp_path / "run")
    assert not scorer.loaded
    held = rewards(tmp_path / "run")
    assert sorted(reward for reward, _ in held.values()) == pytest.approx([0.28, 0.3, 0.48, 0.5, 0.88, 0.9])
    assert {model for _, model in held.values()} == {JUDGE}
    dpo = pl.read_parquet(tmp_path / "run" / "dataset" / "dpo" / "**" / "*.parquet")
    assert dpo.height == 3
    assert all(chosen[-1]["content"].startswith("Good") for chosen in dpo["chosen"])


def test_a_reward_that_the_corpus_lacks_is_the_models(tmp_path: Path):
    scorer = built(rated(tmp_path, 0.5, None, 0.9), tmp_path / "run")
    assert set(scorer.responses) >= {"Good 1.", "Bad 1."}
    held = rewards(tmp_path / "run")
    assert len(held) == 6
    assert {0.5, 0.48, 0.9, 0.88} < {round(reward, 6) for reward, _ in held.values()}


@pytest.mark.parametrize(
    "reward", [{"model": JUDGE, "output": 0}, {"model": JUDGE, "weights": [1.0]}, {"model": "test/another"}]
)
def test_rewards_of_another_model_or_another_output_of_it_do_not_count(tmp_path: Path, reward: dict[str, object]):
    gap = {"reward_gap": [-1.0, 1.0], "reward_gap_model": reward["model"]}
    scorer = built(rated(tmp_path, 0.5, 0.3, reward=reward, dpo=gap), tmp_path / "run")
    assert len(scorer.responses) == 4
    assert {model for _, model in rewards(tmp_path / "run").values()} == {JUDGE}


def test_another_column_of_rewards_makes_them_anew_and_leaves_the_responses(tmp_path: Path):
    told: list[str] = []

    class Listening(Silent):
        def changed(self, fields: Sequence[Any], redone: Sequence[str]) -> None:
            told.extend(redone)

    built(rated(tmp_path, 0.5, 0.3), tmp_path / "run")
    first = rewards(tmp_path / "run")
    built(rated(tmp_path, 0.5, 0.3, column="other_scores"), tmp_path / "run", reporter=Listening())
    assert told == ["rewards of test/rated (carried): made anew (carried.column)"]
    assert {reward for reward, _ in rewards(tmp_path / "run").values()} == {0.5, 0.45}
    scorer = built(rated(tmp_path, 0.5, 0.3), tmp_path / "run")
    assert rewards(tmp_path / "run") == first
    assert not scorer.loaded


def test_rewards_that_were_lost_are_carried_again(tmp_path: Path):
    recipe = rated(tmp_path, 0.5, 0.3, 0.9)
    built(recipe, tmp_path / "fresh")
    built(recipe, tmp_path / "run")
    for part in (tmp_path / "run" / "rewards").rglob("*.parquet"):
        part.unlink()
    scorer = built(recipe, tmp_path / "run")
    assert not scorer.loaded
    assert rewards(tmp_path / "run") == rewards(tmp_path / "fresh")
    assert dataset_bytes(tmp_path / "run") == dataset_bytes(tmp_path / "fresh")


def test_rewards_of_the_model_stay_where_the_corpus_is_read_again(tmp_path: Path):
    recipe = rated(tmp_path, 0.5, None)
    built(recipe, tmp_path / "run")
    scorer = built(recipe, tmp_path / "run")
    assert not scorer.loaded
    (note,) = (tmp_path / "run" / "rewards").rglob("whole-*.json")
    note.unlink()
    before = rewards(tmp_path / "run")
    assert not built(recipe, tmp_path / "run").loaded
    assert rewards(tmp_path / "run") == before
    assert note.exists()


def test_a_model_that_cannot_be_loaded_is_no_matter_where_all_rewards_are_carried(tmp_path: Path):
    class Broken(Counting):
        def score(self, items: Sequence[Any]) -> list[Any]:
            raise RewardError("it cannot be loaded")

    profile = Profile(name="twins", reward=RewardHost(batch_size=2))
    whole = rated(tmp_path, 0.5)
    Build(whole, profile, lambda *_: EchoEngine(), lambda *_: Broken()).run(tmp_path / "run")
    lacking = rated(tmp_path, 0.5, None)
    with pytest.raises(RewardError, match="cannot be loaded"):
        Build(lacking, profile, lambda *_: EchoEngine(), lambda *_: Broken()).run(tmp_path / "other")


def test_a_multi_turn_prompt_is_sampled_and_scored_with_all_its_turns(tmp_path: Path):
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Two?"},
    ]
    path = write_corpus(tmp_path / "c.jsonl", [{"question": [*turns, {"role": "assistant", "content": "Two."}]}])
    seen: list[Any] = []

    class Watched(HashReward):
        def score(self, items: Sequence[Any]) -> list[Any]:
            seen.extend(items)
            return super().score(items)

    engine = EchoEngine()
    corpora = [{"id": "test/turns", "path": str(path), "prompt": "question"}]
    recipe = recipe_over(path, corpora=corpora, correctness=None, dpo=None)
    Build(recipe, Profile(name="twins"), lambda *_: engine, lambda *_: Watched()).run(tmp_path / "run")
    assert [dict(turn) for turn in engine.asked[0].messages] == turns
    assert [dict(turn) for turn in seen[0].messages] == turns
    sft = pl.read_parquet(tmp_path / "run" / "dataset" / "sft" / "**" / "*.parquet")
    assert [turn["role"] for turn in sft["messages"][0]] == ["system", "user", "assistant", "user", "assistant"]
