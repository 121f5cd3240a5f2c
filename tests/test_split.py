"""`assign` and `held_out`: every prompt has one place, decided by hashes of ids alone."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from conftest import recipe_over
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from fusedata.rules import Split
from fusedata.schema import digest
from fusedata.select import Selection
from fusedata.split import asked, assign, held_out

REASON = "gap too small"
KINDS = ("pair", "sft only", "no row", "unanswered")
RATIO = Split(order="ratio", sft=0.4)
RANDOM = Split(order="random", sft=1 / 3)
SPLITS = [Split(), RATIO, RANDOM, Split(order="ratio", sft=0.0), Split(order="ratio", sft=1.0), Split(order="shared")]

prompt_tables = st.lists(st.tuples(st.sampled_from(["c/one", "c/two"]), st.sampled_from(KINDS)), max_size=60).map(
    lambda rows: [(digest(str(number)), *row) for number, row in enumerate(rows)]
)


def prompts_of(rows: list[tuple[str, str, str]]) -> pl.DataFrame:
    return pl.DataFrame([row[:2] for row in rows], schema={"prompt_id": pl.String, "corpus": pl.String}, orient="row")


def selected(rows: list[tuple[str, str, str]]) -> Selection:
    kinds = {prompt: kind for prompt, _, kind in rows if kind != "unanswered"}
    ids = {"prompt_id": pl.String}
    reasons = [
        (p, "no correct response" if kind == "no row" else None, None if kind == "pair" else REASON)
        for p, kind in sorted(kinds.items())
    ]
    return Selection(
        pl.DataFrame({"prompt_id": [p for p, kind in kinds.items() if kind != "no row"]}, schema=ids),
        pl.DataFrame({"prompt_id": [p for p, kind in kinds.items() if kind == "pair"]}, schema=ids),
        pl.DataFrame(reasons, schema={**ids, "sft_reason": pl.String, "pair_reason": pl.String}, orient="row"),
    )


def assigned(rows: list[tuple[str, str, str]], split: Split, seed: int = 42) -> dict[str, dict[str, Any]]:
    places = assign(prompts_of(rows), selected(rows), split, seed)
    return {row["prompt_id"]: row for row in places.iter_rows(named=True)}


def made(count: int, kind: str = "pair", corpus: str = "c/one") -> list[tuple[str, str, str]]:
    return [(digest(f"{corpus} {number}"), corpus, kind) for number in range(count)]


@settings(max_examples=200, deadline=None)
@given(prompt_tables, st.sampled_from(SPLITS))
def test_prompts_in_are_prompts_out_plus_prompts_dropped(rows: list[Any], split: Split) -> None:
    places = assigned(rows, split)
    assert sorted(places) == sorted(prompt for prompt, *_ in rows)
    for place in places.values():
        assert (place["sft"] or place["dpo"]) == (place["dropped"] is None)


@settings(max_examples=200, deadline=None)
@given(prompt_tables, st.sampled_from(SPLITS), st.randoms(use_true_random=False))
def test_row_order_never_matters(rows: list[Any], split: Split, random: Any) -> None:
    shuffled = random.sample(rows, len(rows))
    first = assign(prompts_of(rows), selected(rows), split, 42)
    assert_frame_equal(first, assign(prompts_of(shuffled), selected(shuffled), split, 42))


@settings(max_examples=200, deadline=None)
@given(prompt_tables, st.sampled_from(SPLITS))
def test_a_prompt_feeds_only_what_it_has_a_row_for(rows: list[Any], split: Split) -> None:
    places = assigned(rows, split)
    for prompt, _, kind in rows:
        assert kind in {"pair", "sft only"} or not places[prompt]["sft"]
        assert kind == "pair" or not places[prompt]["dpo"]


@settings(max_examples=200, deadline=None)
@given(prompt_tables, st.floats(0, 1))
def test_a_ratio_gives_sft_the_whole_part_of_its_share_of_each_corpus_with_pairs(rows: list[Any], share: float) -> None:
    places = assigned(rows, Split(order="ratio", sft=share))
    exact = Split(order="ratio", sft=share).share
    for corpus in ("c/one", "c/two"):
        pairs = sum(kind == "pair" for _, name, kind in rows if name == corpus)
        own = [place for place in places.values() if place["corpus"] == corpus]
        assert sum(place["sft"] for place in own) == int(exact * pairs)
        assert sum(place["dpo"] for place in own) == pairs - int(exact * pairs)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (0.4, Fraction(2, 5)),
        (0.29, Fraction(29, 100)),
        (1 / 3, Fraction(1, 3)),
        (0.3333333333333333, Fraction(1, 3)),
        (0.333, Fraction(333, 1000)),
        (0.12345, Fraction(12345, 100_000)),
        (0, Fraction(0)),
        (1, Fraction(1)),
    ],
)
def test_a_share_is_the_fraction_that_it_is_written_for(written: float, meant: Fraction) -> None:
    assert Split(order="ratio", sft=written).share == meant


@pytest.mark.parametrize(
    ("share", "prompts", "sft"), [(0.29, 100, 29), (0.57, 100, 57), (1 / 3, 3, 1), (1 / 3, 300, 100)]
)
def test_a_ratio_counts_exactly_where_floats_would_not(share: float, prompts: int, sft: int) -> None:
    places = assigned(made(prompts), Split(order="ratio", sft=share))
    assert sum(place["sft"] for place in places.values()) == sft


@pytest.mark.parametrize(("prompts", "sft"), [(51_098, 20_439), (20_374, 8_149), (9_435, 3_774)])
def test_a_ratio_gives_the_counts_that_fusechat_published(prompts: int, sft: int) -> None:
    assert sum(place["sft"] for place in assigned(made(prompts), RATIO).values()) == sft


def test_a_ratio_drops_a_prompt_without_a_pair_for_the_reason_of_that() -> None:
    (place,) = assigned(made(1, "sft only"), RATIO).values()
    assert (place["sft"], place["dpo"], place["dropped"]) == (False, False, REASON)


def test_a_ratio_keeps_sft_rows_where_no_pairs_are_asked_for() -> None:
    rows = made(5, "sft only")
    asked = selected(rows)
    unasked = Selection(asked.sft, asked.pairs, asked.reasons.with_columns(pair_reason=pl.lit(None, pl.String)))
    places = assign(prompts_of(rows), unasked, RATIO, 42)
    assert places["sft"].all()
    assert places["dropped"].null_count() == len(rows)


def test_a_ratio_is_no_matter_of_a_prompt_s_id_alone() -> None:
    rows = made(40)
    first, other = ({p for p, place in assigned(rows, RATIO, seed).items() if place["sft"]} for seed in (1, 2))
    assert first != other
    assert first != set(sorted(prompt for prompt, *_ in rows)[:16])


def test_a_ratio_of_one_corpus_does_not_depend_on_another() -> None:
    rows = made(30)
    alone, beside = assigned(rows, RATIO), assigned([*rows, *made(30, corpus="c/two")], RATIO)
    assert all(alone[prompt] == beside[prompt] for prompt, *_ in rows)


@pytest.mark.parametrize(
    ("kind", "sft", "dpo"),
    [("pair", False, True), ("sft only", True, False), ("no row", False, False), ("unanswered", False, False)],
)
def test_pairs_first_gives_a_prompt_with_a_pair_to_dpo_and_the_others_to_sft(kind: str, sft: bool, dpo: bool) -> None:
    (place,) = assigned(made(1, kind), Split()).values()
    assert (place["sft"], place["dpo"]) == (sft, dpo)


def test_shared_gives_a_prompt_with_a_pair_to_both() -> None:
    (place,) = assigned(made(1), Split(order="shared")).values()
    assert (place["sft"], place["dpo"]) == (True, True)


@pytest.mark.parametrize("split", SPLITS)
def test_a_prompt_that_nobody_answered_is_dropped_as_no_response(split: Split) -> None:
    (place,) = assigned(made(1, "unanswered"), split).values()
    assert (place["sft_reason"], place["pair_reason"], place["dropped"]) == ("no response",) * 3


def test_a_prompt_without_a_correct_response_is_dropped_for_that() -> None:
    (place,) = assigned(made(1, "no row"), Split()).values()
    assert place["dropped"] == "no correct response"


def test_no_prompts_have_no_places() -> None:
    assert all(assigned([], split) == {} for split in SPLITS)


def test_random_shares_out_all_prompts_whatever_they_gave() -> None:
    kinds = [made(1, kind, f"c/one {n} {kind}")[0] for n in range(120) for kind in KINDS]
    rows = [(prompt, "c/one", kind) for prompt, _, kind in kinds]
    of_sft = {p for p, place in assigned([(p, c, "pair") for p, c, _ in rows], RANDOM).items() if place["sft"]}
    assert len(of_sft) == len(rows) // 3
    for prompt, place in assigned(rows, RANDOM).items():
        kind = {p: k for p, _, k in rows}[prompt]
        assert place["sft"] == (prompt in of_sft and kind in {"pair", "sft only"})
        assert place["dpo"] == (prompt not in of_sft and kind == "pair")


def test_random_drops_a_prompt_for_the_reason_of_its_own_part() -> None:
    places = assigned(made(30, "sft only"), RANDOM)
    assert {place["dropped"] for place in places.values() if not place["sft"]} == {REASON}
    places = assigned(made(30, "no row"), RANDOM)
    assert sorted(place["dropped"] for place in places.values()) == [REASON] * 20 + ["no correct response"] * 10


def wrpo(**changes: Any) -> Any:
    models = [{"id": "test/source"}, {"id": "test/own"}]
    dpo = {"method": "wrpo", "target": "test/own"}
    split = {"order": "random", "sft": 1 / 3}
    return recipe_over(Path("unused"), **{"source_models": models, "dpo": dpo, "split": split, **changes})


def test_a_target_is_asked_only_the_prompts_that_feed_no_sft() -> None:
    rows = made(30)
    known = prompts_of(rows).with_columns(sampled=True)
    to_own = set(asked(known, wrpo(), "test/own")["prompt_id"])
    assert to_own == {prompt for prompt, place in assigned(rows, RANDOM).items() if place["dpo"]}
    assert asked(known, wrpo(), "test/source").height == 30
    assert asked(known, wrpo(dpo=None, split={}), "test/own").height == 30


def test_nobody_is_asked_what_is_not_sampled() -> None:
    known = prompts_of(made(30)).with_columns(sampled=False)
    assert all(asked(known, wrpo(), model).is_empty() for model in ("test/own", "test/source"))


@settings(max_examples=100, deadline=None)
@given(prompt_tables, st.sampled_from(SPLITS), st.integers(1, 4))
def test_rows_are_counted_where_a_prompt_gives_several(rows: list[Any], split: Split, times: int) -> None:
    one = selected(rows)
    several = Selection(*(pl.concat([frame] * times) for frame in (one.sft, one.pairs)), one.reasons)
    places = assign(prompts_of(rows), several, split, 42)
    assert places["sft_rows"].to_list() == (places["sft"].cast(pl.Int64) * times).to_list()
    assert places["pairs"].to_list() == (places["dpo"].cast(pl.Int64) * times).to_list()
    assert places.drop("sft_rows", "pairs").equals(assign(prompts_of(rows), one, split, 42).drop("sft_rows", "pairs"))


# The test split.


def ids(count: int) -> pl.Series:
    return pl.Series("prompt_id", [digest(str(number)) for number in range(count)], dtype=pl.String)


def places(dataset: pl.Series, share: float, seed: int = 42) -> list[bool]:
    """For each prompt of one dataset: is it held out."""
    return dataset.is_in(held_out([dataset], share, seed).implode()).to_list()


def test_two_percent_are_held_out() -> None:
    assert 0.017 < sum(places(ids(20_000), 0.02)) / 20_000 < 0.023


@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
@pytest.mark.parametrize("count", [2, 3, 20])
def test_at_least_one_row_is_held_out_and_one_is_not(count: int, share: float) -> None:
    assert 1 <= sum(places(ids(count), share)) < count


@pytest.mark.parametrize("count", [0, 1])
def test_of_less_than_two_rows_none_is_held_out(count: int) -> None:
    assert places(ids(count), 0.5) == [False] * count


def test_the_rows_of_one_prompt_are_never_held_out_of_each_other() -> None:
    one = pl.Series("prompt_id", ["p", "p", "p"])
    assert places(one, 0.5) == [False] * 3
    two = pl.Series("prompt_id", ["p", "q", "p", "q", "p"])
    assert set(zip(two, places(two, 0.5), strict=True)) in ({("p", True), ("q", False)}, {("p", False), ("q", True)})


def test_a_share_of_nothing_holds_nothing_out() -> None:
    assert not any(places(ids(1_000), 0))


@settings(max_examples=50, deadline=None)
@given(st.sets(st.integers(0, 999), min_size=300), st.sampled_from([0.1, 0.5, 0.9]))
def test_a_prompt_keeps_its_place_when_others_come_and_go(kept: set[int], share: float) -> None:
    everyone = ids(1_000)
    some = everyone.gather(sorted(kept))
    of_all = dict(zip(everyone, places(everyone, share), strict=True))
    assert dict(zip(some, places(some, share), strict=True)) == {prompt: of_all[prompt] for prompt in some}


def test_the_seed_decides_who_is_held_out() -> None:
    assert places(ids(1_000), 0.1, 1) != places(ids(1_000), 0.1, 2)


@settings(max_examples=200, deadline=None)
@given(
    st.sets(st.integers(0, 60), max_size=40),
    st.sets(st.integers(0, 60), max_size=40),
    st.sampled_from([0.02, 0.2, 0.9]),
)
def test_no_prompt_is_held_out_of_one_dataset_and_trained_on_in_the_other(
    sft: set[int], dpo: set[int], share: float
) -> None:
    datasets = [ids(61).gather(sorted(numbers)) for numbers in (sft, dpo)]
    test = set(held_out(datasets, share, 42))
    assert test <= {prompt for dataset in datasets for prompt in dataset}
    for dataset in datasets:
        assert len(dataset) != 1 or dataset[0] not in test


def test_each_of_two_datasets_has_a_row_held_out() -> None:
    sft, dpo = ids(30)[:20], ids(30)[10:]
    test = held_out([sft, dpo], 0.001, 42).implode()
    assert sft.is_in(test).any()
    assert dpo.is_in(test).any()


def test_the_share_of_sft_says_nothing_of_the_share_of_test() -> None:
    sft = pl.Series([place["sft"] for place in assigned(made(2_000), Split(order="ratio", sft=0.5)).values()])
    prompts = pl.Series(sorted(prompt for prompt, *_ in made(2_000)))
    assert 0.4 < sft.filter(pl.Series(places(prompts, 0.2))).mean() < 0.6
