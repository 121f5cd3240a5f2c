"""FuseChat-3.0's published counts, from the shipped recipes' own rules: N prompts a corpus in, the paper's table out.

Prompts, responses, verdicts, flaws and rewards are made up so that each prompt has, or lacks, a pair for one of the
reasons that there are; how many do is what sampling the real models gave. What is tested is the rules.
"""

from pathlib import Path

import polars as pl
import pytest

from fusedata.candidates import Tables
from fusedata.dataset import Datasets
from fusedata.mixing import together
from fusedata.mixture import find_named, load_mixture, members
from fusedata.recipe import Recipe
from fusedata.schema import FLAWS, PROMPTS, RESPONSES, REWARDS, VERDICTS
from fusedata.store import Parts
from fusedata.winners import assemble

ULTRA, PRO, HELP = "openbmb/UltraFeedback", "Magpie-Align/Magpie-Pro-DPO-100K-v0.1", "nvidia/HelpSteer2"
MATH = "nvidia/OpenMathInstruct-2"
LEETCODE, OSS = "greengerong/leetcode", "bigcode/self-oss-instruct-sc2-exec-filter-50k"
ALPACA, MAGPIE = "llamafactory/alpaca_gpt4_zh", "Magpie-Align/Magpie-Qwen2-Pro-200K-Chinese"

PUBLISHED = {
    ULTRA: (20_439, 30_659),
    PRO: (8_149, 12_225),
    HELP: (3_774, 5_661),
    MATH: (40_188, 11_615),
    LEETCODE: (1_877, 1_236),
    OSS: (10_160, 2_732),
    ALPACA: (2_471, 0),
    MAGPIE: (7_481, 0),
}
"""SFT rows and pairs of each corpus: the README of FuseChat-3.0, with its correction of 7 February 2025."""

Answer = tuple[int, float, bool, bool]
"""Model, reward, whether it is right, whether it is screened out. A prompt has some of them."""

# Instructions, which nobody checks. The pair is 0.05 wide, by the model that owns the best reward, or by the next one.
WITH_A_PAIR: tuple[list[Answer], ...] = (
    [(0, 0.15, True, False), (0, 0.12, True, False), (0, 0.10, True, False), (1, 0.11, True, False)],
    [(0, 0.15, True, False), (0, 0.10, True, False), (1, 0.40, True, False), (1, 0.10, True, False)],  # too wide
    [(2, 0.11, True, False), (2, 0.10, True, False)],  # the window's lower end belongs to it
    [(3, 0.20, True, False), (3, 0.10, True, False)],  # and its upper one
)
WITHOUT: tuple[list[Answer], ...] = (
    [(0, 0.105, True, False), (0, 0.10, True, False), (1, 0.50, True, False), (1, 0.10, True, False)],
    [(0, 0.15, True, False), (1, 0.10, True, False)],  # two models make no pair
    [(0, 0.15, True, False), (0, 0.10, True, True)],  # the one that would be rejected refuses to answer
)
# Mathematics and code, where right and wrong are known.
SOLVED_AND_FAILED: tuple[list[Answer], ...] = (
    [(0, 0.15, True, False), (0, 0.10, False, False)],
    [(0, 0.18, True, False), (0, 0.10, True, False), (0, 0.12, False, False), (0, 0.16, False, False)],
)
ONLY_SOLVED: tuple[list[Answer], ...] = (
    [(0, 0.15, True, False)],
    [(0, 0.15, True, False), (1, 0.10, False, False)],  # wrong, and another model's
    [(0, 0.10, True, False), (0, 0.15, False, False)],  # outside the window: the reward likes the wrong one better
)
NO_WINDOW = ONLY_SOLVED[:2]
"""For code, whose pairs have no window."""
UNSOLVED: tuple[list[Answer], ...] = ([(0, 0.15, False, False)], [])


def answers(corpus: str) -> list[tuple[int, tuple[list[Answer], ...]]]:
    """How many prompts of a corpus have which answers: the published yields, and prompts that the rules leave out."""
    sft, dpo = PUBLISHED[corpus]
    if corpus in {ULTRA, PRO, HELP}:
        return [(sft + dpo, WITH_A_PAIR), (997, WITHOUT)]
    if corpus == MATH:
        return [(dpo, SOLVED_AND_FAILED), (sft, ONLY_SOLVED), (58_546 - sft - dpo, UNSOLVED)]
    if corpus in {LEETCODE, OSS}:
        problems = {LEETCODE: 2_360, OSS: 13_696}[corpus]
        return [(dpo, SOLVED_AND_FAILED), (sft - dpo, NO_WINDOW), (problems - sft, UNSOLVED)]
    return [(sft, ([(0, 0.0, True, False)],))]


def rows(corpora: list[str], models: list[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Prompts, and their answers with everything known of each."""
    prompts, found = [], []
    for corpus in corpora:
        number = 0
        for count, kinds in answers(corpus):
            for i in range(count):
                prompt = f"{corpus} {number}"
                prompts.append((prompt, corpus, number))
                number += 1
                for sample, (model, reward, right, flawed) in enumerate(kinds[i % len(kinds)]):
                    found.append((prompt, models[model % len(models)], sample, reward, right, flawed))
    names = ["prompt_id", "source_model", "sample", "reward", "passed", "flawed"]
    text = pl.format("{} {} {}", *names[:3])
    return (
        pl.DataFrame(prompts, schema=["prompt_id", "corpus", "corpus_row"], orient="row").sort("prompt_id"),
        pl.DataFrame(found, schema=names, orient="row").with_columns(text=text, text_id=text),
    )


def part(folder: Path, schema: pl.Schema, frame: pl.DataFrame) -> list[Parts]:
    absent = [pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in frame.columns]
    parts = Parts(folder, schema)
    parts.write("all", frame.with_columns(absent))
    return [parts]


def built(folder: Path, recipe: Recipe) -> Datasets:
    """What the recipe's rules make of the prompts, by way of a run's own tables."""
    models = [model.id for model in recipe.source_models]
    models += [c.responses.source_model for c in recipe.corpora if c.responses]
    prompts, found = rows([corpus.id for corpus in recipe.corpora], models)
    turns = pl.concat_list(pl.struct(role=pl.lit("user"), content=pl.col("prompt_id")))
    answer = pl.lit("42" if recipe.correctness else None, pl.String)
    more = {"sampled": True, "tests": None, "chars": 9}
    prompts = prompts.with_columns(
        messages=turns, answer=answer, **{name: pl.lit(value) for name, value in more.items()}
    )
    judged = found.with_columns(answer=pl.lit("42"), status=pl.lit("right"), check=pl.lit("math_answer"))
    flaws = found.with_columns(flaw=pl.when("flawed").then(pl.lit("refusal")))
    return assemble(
        Tables(
            prompts.select(PROMPTS.names()).cast(PROMPTS),
            part(folder / "responses", RESPONSES, found.with_columns(finish_reason=pl.lit("stop"))),
            part(folder / "verdicts", VERDICTS, judged) if recipe.correctness else [],
            part(folder / "rewards", REWARDS, found) if recipe.reward else [],
            part(folder / "flaws", FLAWS, flaws) if recipe.screen else [],
        ),
        recipe,
    )


@pytest.fixture(scope="module")
def recipes() -> dict[str, Recipe]:
    mixture = load_mixture(find_named("fusechat-3.0"))
    return {name: recipe for name, (_, recipe) in members(mixture).items()}


@pytest.fixture(scope="module")
def parts(recipes: dict[str, Recipe], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Datasets]:
    return {name: built(tmp_path_factory.mktemp(name), recipe) for name, recipe in recipes.items()}


def counts(rows: pl.DataFrame) -> dict[str, int]:
    return dict(rows["corpus"].value_counts().iter_rows())


def test_the_mixture_names_the_eight_published_corpora(recipes: dict[str, Recipe]):
    assert list(recipes) == ["instruction", "math", "code", "chinese"]
    assert [corpus.id for recipe in recipes.values() for corpus in recipe.corpora] == list(PUBLISHED)


@pytest.mark.parametrize("corpus", PUBLISHED)
def test_the_rules_give_the_published_counts(corpus: str, recipes: dict[str, Recipe], parts: dict[str, Datasets]):
    (name,) = (name for name, recipe in recipes.items() if corpus in [c.id for c in recipe.corpora])
    sft, dpo = counts(parts[name].sft), counts(parts[name].dpo)
    assert (sft.get(corpus, 0), dpo.get(corpus, 0)) == PUBLISHED[corpus]


@pytest.mark.parametrize("corpus", [ULTRA, PRO, HELP])
def test_prompts_without_a_pair_are_dropped_before_the_cut(corpus: str, parts: dict[str, Datasets]):
    dropped = parts["instruction"].places.filter(pl.col("corpus") == corpus)["dropped"].drop_nulls()
    reasons = dict(dropped.value_counts().iter_rows())
    assert sum(reasons.values()) == 997
    assert len(reasons) > 1


def test_every_instruction_feeds_one_dataset_only(parts: dict[str, Datasets]):
    ids = [set(parts["instruction"].sft["prompt_id"]), set(parts["instruction"].dpo["prompt_id"])]
    assert not ids[0] & ids[1]


def test_pairs_are_of_one_model_and_within_the_window(parts: dict[str, Datasets]):
    pairs = pl.concat([parts["instruction"].dpo, parts["math"].dpo])
    assert pairs["source_model"].equals(pairs["rejected_source_model"].alias("source_model"))
    assert (pairs["chosen_reward"] - pairs["rejected_reward"]).round(9).is_between(0.01, 0.1).all()


def test_solved_problems_feed_both_datasets_in_code_and_one_in_mathematics(parts: dict[str, Datasets]):
    code, maths = (set(parts[name].sft["prompt_id"]) & set(parts[name].dpo["prompt_id"]) for name in ("code", "math"))
    assert len(code) == PUBLISHED[LEETCODE][1] + PUBLISHED[OSS][1]
    assert not maths


def test_the_whole_has_158_667_rows(parts: dict[str, Datasets]):
    (sft, dpo), repeated = together([{n: getattr(p, kind) for n, p in parts.items()} for kind in ("sft", "dpo")])
    assert (sft.height, dpo.height) == (94_539, 64_128)
    assert sft.height + dpo.height == 158_667
    assert set(repeated.values()) == {0}
