"""Candidates in groups: the same however many are reduced at a time, and whatever numbers their samples have."""

import random

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from fusedata.groups import FLAGS, Ordered, ordered

DRAW = random.Random(7)
ROWS = pl.DataFrame(
    [
        {
            "prompt_id": f"p{prompt}",
            "source_model": model,
            "sample": sample,
            "text_id": DRAW.choice([None, "a", "b", "c"]),
            "score": DRAW.choice([None, 0.1, 0.2, 0.3]),
            "good": DRAW.choice([None, True, False]),
        }
        for prompt in range(40)
        for model in DRAW.sample(["one", "two", "three"], DRAW.randint(1, 3))
        for sample in DRAW.sample(range(6), DRAW.randint(1, 6))
    ]
).sample(fraction=1.0, shuffle=True, seed=7)


def order(rows: pl.DataFrame) -> Ordered:
    kept = pl.col("text_id").is_not_null()
    flags = (kept, kept, kept, kept & pl.col("good"), kept & ~pl.col("good"))
    return ordered(rows, dict(zip(FLAGS, flags, strict=True)), pl.col("score"))


@pytest.mark.parametrize("of", ["model", "prompt"])
@pytest.mark.parametrize("together", [1, 7, 100])
def test_groups_are_the_same_however_many_rows_are_reduced_at_a_time(of, together):
    assert_frame_equal(order(ROWS).groups(of, together=together), order(ROWS).groups(of))


def test_rows_of_samples_far_apart_stand_in_the_same_order():
    far = ROWS.with_columns(pl.col("sample") * 1_000_003)
    assert order(far).at.tolist() == order(ROWS).at.tolist()
    assert_frame_equal(order(far).groups("model"), order(ROWS).groups("model"))


def test_the_ends_of_a_group_are_the_first_rows_that_have_its_highest_and_lowest_score():
    one = {"prompt_id": "p", "source_model": "m", "text_id": "t"}
    scores = [(3, 0.2, True), (1, 0.3, True), (2, 0.3, True), (5, 0.1, False), (4, 0.1, False), (0, None, True)]
    rows = pl.DataFrame([{**one, "sample": n, "score": score, "good": good} for n, score, good in scores])
    (group,) = order(rows).groups("model").rows(named=True)
    assert (group["high"], group["chosen"], group["low"], group["rejected"]) == (0.3, 1, 0.1, 4)
