"""`select` against a naive oracle in plain Python, and an example of each reason."""

import math
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from fusedata.recipe import Dpo
from fusedata.select import REASONS, Selection, near_limits, select

Row = dict[str, Any]
SCHEMA = {
    "prompt_id": pl.String,
    "source_model": pl.String,
    "sample": pl.Int32,
    "text_id": pl.String,
    "passed": pl.Boolean,
    "reward": pl.Float64,
}
KEY = ("prompt_id", "source_model", "sample")
WINDOW = Dpo(reward_gap=(0.01, 0.1))

rewards = st.one_of(
    st.integers(-40, 40).map(lambda thousandths: thousandths * 5 / 1000),
    st.sampled_from([None, float("nan"), float("inf"), float("-inf")]),
)
responses = st.fixed_dictionaries(
    {
        "prompt_id": st.sampled_from(["p1", "p2", "p3"]),
        "source_model": st.sampled_from(["a/one", "b/two", "c/three"]),
        "sample": st.integers(0, 4),
        "text_id": st.sampled_from([None, "t1", "t2", "t3", "t4"]),
        "passed": st.sampled_from([None, True, False]),
        "reward": rewards,
    }
)
tables = st.lists(responses, max_size=40, unique_by=lambda row: tuple(row[k] for k in KEY))
dpos = st.one_of(
    st.none(),
    st.builds(
        Dpo,
        same_source_model=st.booleans(),
        reward_gap=st.sampled_from([None, (0.01, 0.1), (0.0, 0.02), (0.05, 0.05), (-0.1, 0.1), (0.1, 5.0)]),
    ),
)


def chosen_among(
    rows: list[Row], *, checked: bool = True, rewarded: bool = True, dpo: Dpo | None = WINDOW
) -> Selection:
    return select(pl.LazyFrame(rows, schema=SCHEMA, orient="row"), checked=checked, rewarded=rewarded, dpo=dpo)


def response(reward: float | None, *, passed: bool | None = None, text: str | None = "", **key: Any) -> Row:
    """A response of prompt `p`; each has a text of its own unless told otherwise."""
    key = {"prompt_id": "p", "source_model": "a/one", "sample": 0, **key}
    own = f"{key['source_model']} {key['sample']}" if text == "" else text
    return {**key, "text_id": own, "passed": passed, "reward": reward}


def right(reward: float | None, sample: int = 0, **changes: Any) -> Row:
    return response(reward, passed=True, sample=sample, **changes)


def wrong(reward: float | None, sample: int = 1, **changes: Any) -> Row:
    return response(reward, passed=False, sample=sample, **changes)


# The oracle: rows one by one, exact decimals, nothing shared with the code.


def exact(value: float) -> Decimal:
    return Decimal(str(value))


def score(row: Row, rewarded: bool) -> Decimal | None:
    if not rewarded:
        return Decimal(0)
    value = row["reward"]
    return exact(value) if value is not None and math.isfinite(value) else None


class Group:
    """The responses of one prompt that may pair with one another."""

    def __init__(self, rows: list[Row], checked: bool, rewarded: bool) -> None:
        self.checked = checked
        self.answered = [{**r, "score": score(r, rewarded)} for r in rows if r["text_id"] is not None]
        self.judged = [r for r in self.answered if not checked or r["passed"] is not None]
        self.good = [r for r in self.answered if not checked or r["passed"] is True]
        self.bad = [r for r in self.answered if not checked or r["passed"] is False]
        named = sorted(self.answered, key=lambda r: (r["source_model"], r["sample"]))
        scored = [r for r in named if r["score"] is not None]
        self.chosen = max((r for r in scored if r in self.good), key=lambda r: r["score"], default=None)
        self.rejected = min((r for r in scored if r in self.bad), key=lambda r: r["score"], default=None)
        self.texts = {r["text_id"] for r in self.answered}
        self.scored_texts = {r["text_id"] for r in scored}

    def sft_reason(self) -> str | None:
        for rows, reason in (
            (self.answered, "no response"),
            (self.judged, "unjudged"),
            (self.good, "no correct response"),
        ):
            if not rows:
                return reason
        return None if self.chosen else "not scored"

    def pair_reason(self, window: tuple[float, float] | None) -> str | None:
        lacking = self.sft_reason()
        if lacking in {"no response", "unjudged", "no correct response"}:
            return lacking
        if not self.bad:
            return "no incorrect response"
        if self.chosen is None or self.rejected is None:
            return "not scored"
        if self.chosen is self.rejected and len(self.scored_texts) == 1:
            return "identical texts" if len(self.texts) == 1 else "not scored"
        if self.chosen is not self.rejected and self.chosen["text_id"] == self.rejected["text_id"]:
            return "identical texts"
        return self.gap_reason(window)

    def gap_reason(self, window: tuple[float, float] | None) -> str | None:
        gap = self.chosen["score"] - self.rejected["score"]
        if window and gap < 0 and gap < exact(window[0]):
            return "reward prefers the wrong one"
        if window and gap > exact(window[1]):
            return "gap too large"
        if (window and gap < exact(window[0])) or (not self.checked and gap == 0):
            return "gap too small"
        return None


def nearest(reasons: list[str | None]) -> str | None:
    return None if None in reasons else max(reasons, key=REASONS.index)


def first_best(groups: list[Group]) -> Group | None:
    return max(sorted(groups, key=lambda g: g.chosen["source_model"]), key=lambda g: g.chosen["score"], default=None)


def identity(row: Row) -> tuple[str, str, int]:
    return row["text_id"], row["source_model"], row["sample"]


def oracle(rows: list[Row], checked: bool, rewarded: bool, dpo: Dpo | None) -> tuple[list[Any], list[Any], list[Any]]:
    """The rows of `sft`, `pairs` (without rewards) and `reasons`."""
    sft, pairs, reasons = [], [], []
    for prompt in sorted({r["prompt_id"] for r in rows}):
        own = [r for r in rows if r["prompt_id"] == prompt]
        models = sorted({r["source_model"] for r in own})
        by_model = [Group([r for r in own if r["source_model"] == m], checked, rewarded) for m in models]
        across = dpo is not None and not dpo.same_source_model
        groups = [Group(own, checked, rewarded)] if across else by_model
        window = dpo.reward_gap if dpo else None
        pair_reason = nearest([g.pair_reason(window) for g in groups]) if dpo else None
        reasons.append((prompt, nearest([g.sft_reason() for g in by_model]), pair_reason))
        if winner := first_best([g for g in by_model if g.chosen]):
            sft.append((prompt, *identity(winner.chosen)))
        fitting = [g for g in groups if dpo and g.pair_reason(window) is None]
        if pair := first_best(fitting):
            pairs.append((prompt, *identity(pair.chosen), *identity(pair.rejected)))
    return sft, pairs, reasons


@settings(max_examples=400, deadline=None)
@given(tables, st.booleans(), st.booleans(), dpos)
def test_selection_equals_that_of_a_naive_oracle(
    rows: list[Row], checked: bool, rewarded: bool, dpo: Dpo | None
) -> None:
    found = chosen_among(rows, checked=checked, rewarded=rewarded, dpo=dpo)
    sft, pairs, reasons = oracle(rows, checked, rewarded, dpo)
    assert found.sft.rows() == sft
    assert found.pairs.drop("chosen_reward", "rejected_reward").rows() == pairs
    assert found.reasons.rows() == reasons


@settings(max_examples=100, deadline=None)
@given(tables, st.randoms(use_true_random=False), st.booleans(), dpos)
def test_row_order_never_matters(rows: list[Row], random: Any, checked: bool, dpo: Dpo | None) -> None:
    shuffled = random.sample(rows, len(rows))
    for first, second in zip(
        vars(chosen_among(rows, checked=checked, dpo=dpo)).values(),
        vars(chosen_among(shuffled, checked=checked, dpo=dpo)).values(),
        strict=True,
    ):
        assert_frame_equal(first, second)


@settings(max_examples=100, deadline=None)
@given(tables, dpos)
def test_selecting_among_what_was_selected_changes_nothing(rows: list[Row], dpo: Dpo | None) -> None:
    first = chosen_among(rows, dpo=dpo)
    sides = [("chosen_source_model", "chosen_sample"), ("rejected_source_model", "rejected_sample")]
    keys = {(r["prompt_id"], r[m], r[s]) for m, s in sides for r in first.pairs.iter_rows(named=True)}
    again = chosen_among([r for r in rows if (r["prompt_id"], r["source_model"], r["sample"]) in keys], dpo=dpo)
    assert_frame_equal(first.pairs, again.pairs)


@settings(max_examples=200, deadline=None)
@given(tables)
def test_every_pair_obeys_every_rule(rows: list[Row]) -> None:
    known = {tuple(row[k] for k in KEY): row for row in rows}
    for pair in chosen_among(rows).pairs.iter_rows(named=True):
        chosen = known[pair["prompt_id"], pair["chosen_source_model"], pair["chosen_sample"]]
        rejected = known[pair["prompt_id"], pair["rejected_source_model"], pair["rejected_sample"]]
        assert chosen["source_model"] == rejected["source_model"]
        assert chosen["passed"] is True
        assert rejected["passed"] is False
        assert chosen["text_id"] != rejected["text_id"]
        assert 0.01 <= round(chosen["reward"] - rejected["reward"], 9) <= 0.1
        assert (pair["chosen_reward"], pair["rejected_reward"]) == (chosen["reward"], rejected["reward"])


@settings(max_examples=200, deadline=None)
@given(tables, st.booleans(), st.booleans(), dpos)
def test_each_prompt_has_a_row_or_one_reason(rows: list[Row], checked: bool, rewarded: bool, dpo: Dpo | None) -> None:
    found = chosen_among(rows, checked=checked, rewarded=rewarded, dpo=dpo)
    prompts = sorted({row["prompt_id"] for row in rows})
    assert found.reasons["prompt_id"].to_list() == prompts
    sft, pairs = set(found.sft["prompt_id"]), set(found.pairs["prompt_id"])
    for prompt, sft_reason, pair_reason in found.reasons.iter_rows():
        assert (prompt in sft) == (sft_reason is None)
        assert (prompt in pairs) == (pair_reason is None and dpo is not None)


# One example of each reason.

REASONED = {
    "no response": [right(0.2, text=None), wrong(0.1, text=None)],
    "unjudged": [response(0.2, passed=None), response(0.1, passed=None, sample=1)],
    "no correct response": [wrong(0.2, 0), wrong(0.1)],
    "no incorrect response": [right(0.2), right(0.1, 1)],
    "not scored": [right(0.2), wrong(None)],
    "identical texts": [right(0.2, text="same"), wrong(0.15, text="same")],
    "reward prefers the wrong one": [right(0.1), wrong(0.15)],
    "gap too large": [right(0.3), wrong(0.1)],
    "gap too small": [right(0.105), wrong(0.1)],
}


def pair_reason(rows: list[Row], **options: Any) -> str | None:
    return chosen_among(rows, **options).reasons["pair_reason"].item()


@pytest.mark.parametrize("reason", REASONS)
def test_a_prompt_without_a_pair_bears_its_reason(reason: str) -> None:
    assert pair_reason(REASONED[reason]) == reason


@pytest.mark.parametrize("reason", ["no response", "unjudged", "no correct response"])
def test_a_prompt_without_an_sft_row_bears_its_reason(reason: str) -> None:
    assert chosen_among(REASONED[reason]).reasons["sft_reason"].item() == reason


@pytest.mark.parametrize("reward", [None, float("nan"), float("inf"), float("-inf")])
def test_a_reward_that_is_no_finite_number_is_not_scored(reward: float | None) -> None:
    assert chosen_among([right(reward)]).reasons["sft_reason"].item() == "not scored"


def test_a_prompt_bears_the_nearest_reason_of_its_models() -> None:
    far = [right(0.2, source_model="b/two"), right(0.1, 1, source_model="b/two")]
    assert pair_reason(far) == "no incorrect response"
    assert pair_reason([*far, *REASONED["gap too small"]]) == "gap too small"


@pytest.mark.parametrize(("high", "low"), [(0.11, 0.1), (0.2, 0.1), (0.3, 0.2), (0.16, 0.15)])
def test_both_ends_of_the_window_are_in(high: float, low: float) -> None:
    assert pair_reason([right(high), wrong(low)]) is None


@pytest.mark.parametrize(("gap", "reason"), [(0.00999, "gap too small"), (0.10001, "gap too large")])
def test_just_outside_the_window_is_out(gap: float, reason: str) -> None:
    assert pair_reason([right(0.1 + gap), wrong(0.1)]) == reason


def test_a_window_below_zero_lets_the_reward_prefer_the_wrong_one() -> None:
    assert pair_reason(REASONED["reward prefers the wrong one"], dpo=Dpo(reward_gap=(-0.1, 0.1))) is None


def test_without_a_window_any_gap_pairs_where_correctness_is_checked() -> None:
    for reason in ("reward prefers the wrong one", "gap too large", "gap too small"):
        assert pair_reason(REASONED[reason], dpo=Dpo()) is None


def test_the_model_with_the_highest_reward_gives_the_pair() -> None:
    rows = [right(0.2), wrong(0.15), right(0.3, source_model="z/last"), wrong(0.25, source_model="z/last")]
    assert chosen_among(rows).pairs["chosen_source_model"].item() == "z/last"


def test_the_next_model_gives_the_pair_where_the_best_has_none_that_fits() -> None:
    rows = [right(0.2), wrong(0.15), right(0.3, source_model="z/last"), wrong(0.1, source_model="z/last")]
    assert chosen_among(rows).pairs["chosen_source_model"].item() == "a/one"
    assert chosen_among(rows).sft["source_model"].item() == "z/last"


def test_ties_break_by_model_name_then_sample() -> None:
    rows = [
        row
        for model in ("b/two", "a/one")
        for row in (right(0.2, 3, source_model=model), right(0.2, 2, source_model=model))
    ]
    assert chosen_among(rows).sft.row(0)[2:] == ("a/one", 2)


def test_rewards_that_differ_in_the_tenth_decimal_are_no_tie() -> None:
    assert chosen_among([right(0.2), right(0.2 + 1e-10, 1)]).sft["sample"].item() == 1


def test_across_models_the_best_pairs_with_the_worst() -> None:
    rows = [right(0.2), wrong(0.15, source_model="b/two")]
    assert pair_reason(rows) == "no incorrect response"
    (pair,) = chosen_among(rows, dpo=Dpo(same_source_model=False, reward_gap=(0.01, 0.1))).pairs.iter_rows(named=True)
    assert (pair["chosen_source_model"], pair["rejected_source_model"]) == ("a/one", "b/two")


def test_unchecked_the_highest_pairs_with_the_lowest_whatever_was_judged() -> None:
    rows = [wrong(0.18, 0), right(0.15, 1), response(0.12, sample=2)]
    (pair,) = chosen_among(rows, checked=False).pairs.iter_rows(named=True)
    assert (pair["chosen_sample"], pair["rejected_sample"]) == (0, 2)


@pytest.mark.parametrize("dpo", [Dpo(), Dpo(reward_gap=(0.0, 0.1))])
def test_unchecked_equal_rewards_never_pair(dpo: Dpo) -> None:
    assert pair_reason([response(0.2), response(0.2, sample=1)], checked=False, dpo=dpo) == "gap too small"


def test_unchecked_one_response_is_its_own_twin() -> None:
    assert pair_reason([response(0.2)], checked=False) == "identical texts"


def test_unchecked_one_scored_response_among_several_is_not_scored_enough() -> None:
    assert pair_reason([response(0.2), response(None, sample=1)], checked=False) == "not scored"


def test_unrewarded_the_first_correct_response_is_taken() -> None:
    found = chosen_among([wrong(None, 0), right(None, 2), right(None, 1)], rewarded=False, dpo=None)
    assert found.sft["sample"].item() == 1
    assert found.pairs.is_empty()


def test_nothing_selects_nothing() -> None:
    assert [frame.height for frame in vars(chosen_among([])).values()] == [0, 0, 0]


def test_numbered_prompts_and_models_come_back_as_strings() -> None:
    rows = pl.LazyFrame([right(0.15), wrong(0.1)], schema=SCHEMA)
    numbered = rows.with_columns(pl.col("prompt_id").cast(pl.Enum(["p"])), pl.col("source_model").cast(pl.Categorical))
    for plain, found in zip(
        vars(select(rows, checked=True, rewarded=True, dpo=WINDOW)).values(),
        vars(select(numbered, checked=True, rewarded=True, dpo=WINDOW)).values(),
        strict=True,
    ):
        assert_frame_equal(plain, found)


def test_pairs_are_near_a_limit_within_twice_the_noise_of_one_reward():
    gaps = [0.0081, 0.0119, 0.0121, 0.05, 0.0979, 0.0981, 0.1019, 0.1021]
    pairs = pl.DataFrame({"chosen_reward": [0.2 + gap for gap in gaps], "rejected_reward": [0.2] * len(gaps)})
    assert near_limits(pairs, WINDOW, 0.001) == 4
    assert near_limits(pairs, WINDOW, 0.0) == 0
    assert near_limits(pairs, Dpo(), 0.001) == 0
    assert near_limits(pairs, None, 0.001) == 0
