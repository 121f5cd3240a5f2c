"""`select` against a naive oracle in plain Python, and an example of each reason."""

import math
import random
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from fusedata.rules import Dpo, Sft
from fusedata.select import REASONS, Selection, near_limits, select

Row = dict[str, Any]
SCHEMA = {
    "prompt_id": pl.String,
    "source_model": pl.String,
    "sample": pl.Int32,
    "text_id": pl.String,
    "passed": pl.Boolean,
    "reward": pl.Float64,
    "flaw": pl.String,
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
        "flaw": st.sampled_from([None, None, None, "refusal"]),
    }
)


def crowded(seed: int) -> list[Row]:
    """A table in which most prompts give something: many answers, most of them judged, scored and different."""
    draw = random.Random(seed)
    keys = [
        (f"p{n}", model, sample) for n in range(3) for model in ("a/one", "b/two", "c/three") for sample in range(4)
    ]
    return [
        {
            **dict(zip(KEY, key, strict=True)),
            "text_id": draw.choice([None, *(f"t{n}" for n in range(8))]),
            "passed": draw.choice([None, True, True, False, False]),
            "reward": draw.choice([None, float("nan"), *(n / 100 for n in range(10, 22))]),
            "flaw": draw.choice([None, None, None, "refusal"]),
        }
        for key in keys
        if draw.random() < 0.9
    ]


few = st.lists(responses, max_size=40, unique_by=lambda row: tuple(row[k] for k in KEY))
tables = st.one_of(few, st.integers(0, 2**32).map(crowded))
windows = st.sampled_from([None, (0.01, 0.1), (0.0, 0.02), (0.05, 0.05), (-0.1, 0.1), (0.1, 5.0)])
targets = st.sampled_from([None, "a/one", "b/two", "z/silent"])
dpos = st.one_of(
    st.none(),
    st.builds(Dpo, same_source_model=st.booleans(), reward_gap=windows),
    st.builds(Dpo, per=st.just("source_model"), weight_temperature=st.just(0.05), reward_gap=windows),
    st.builds(Dpo, method=st.just("wrpo"), target=targets, reward_gap=windows),
)
sfts = st.sampled_from([Sft(), Sft(per="source_model", weight_temperature=0.05)])


def chosen_among(
    rows: list[Row], *, checked: bool = True, rewarded: bool = True, dpo: Dpo | None = WINDOW, **more: Any
) -> Selection:
    return select(pl.DataFrame(rows, schema=SCHEMA, orient="row"), checked=checked, rewarded=rewarded, dpo=dpo, **more)


def response(
    reward: float | None, *, passed: bool | None = None, text: str | None = "", flaw: str | None = None, **key: Any
) -> Row:
    """A response of prompt `p`; each has a text of its own unless told otherwise."""
    key = {"prompt_id": "p", "source_model": "a/one", "sample": 0, **key}
    own = f"{key['source_model']} {key['sample']}" if text == "" else text
    return {**key, "text_id": own, "passed": passed, "reward": reward, "flaw": flaw}


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

    def __init__(self, rows: list[Row], checked: bool, rewarded: bool, screened: bool = False) -> None:
        self.checked = checked
        self.answered = [{**r, "score": score(r, rewarded)} for r in rows if r["text_id"] is not None]
        self.kept = [r for r in self.answered if not screened or r["flaw"] is None]
        self.judged = [r for r in self.kept if not checked or r["passed"] is not None]
        self.good = [r for r in self.kept if not checked or r["passed"] is True]
        self.bad = [r for r in self.kept if not checked or r["passed"] is False]
        named = sorted(self.kept, key=lambda r: (r["source_model"], r["sample"]))
        scored = [r for r in named if r["score"] is not None]
        self.chosen = max((r for r in scored if r in self.good), key=lambda r: r["score"], default=None)
        self.rejected = min((r for r in scored if r in self.bad), key=lambda r: r["score"], default=None)
        self.texts = {r["text_id"] for r in self.kept}
        self.scored_texts = {r["text_id"] for r in scored}

    def sft_reason(self) -> str | None:
        for rows, reason in (
            (self.answered, "no response"),
            (self.kept, "screened out"),
            (self.judged, "unjudged"),
            (self.good, "no correct response"),
        ):
            if not rows:
                return reason
        return None if self.chosen else "not scored"

    def pair_reason(self, window: tuple[float, float] | None) -> str | None:
        lacking = self.sft_reason()
        if lacking in {"no response", "screened out", "unjudged", "no correct response"}:
            return lacking
        if not self.bad:
            return "no incorrect response"
        if self.chosen is None or self.rejected is None:
            return "not scored"
        if self.chosen is self.rejected and len(self.scored_texts) == 1:
            return "identical texts" if len(self.texts) == 1 else "not scored"
        if self.chosen is not self.rejected and self.chosen["text_id"] == self.rejected["text_id"]:
            return "identical texts"
        return self.gap_reason(self.chosen, self.rejected, window)

    def gap_reason(self, chosen: Row, rejected: Row, window: tuple[float, float] | None) -> str | None:
        gap = chosen["score"] - rejected["score"]
        if window and gap < 0 and gap < exact(window[0]):
            return "reward prefers the wrong one"
        if window and gap > exact(window[1]):
            return "gap too large"
        if (window and gap < exact(window[0])) or (not self.checked and gap <= 0):
            return "gap too small"
        return None


def nearest(reasons: list[str | None]) -> str | None:
    return None if None in reasons else max(reasons, key=REASONS.index)


def first_best(groups: list[Group]) -> Group | None:
    return max(sorted(groups, key=lambda g: g.chosen["source_model"]), key=lambda g: g.chosen["score"], default=None)


def identity(row: Row) -> tuple[str, str, int]:
    return row["text_id"], row["source_model"], row["sample"]


def against_target(
    sources: list[Group], target: Group, window: tuple[float, float] | None
) -> tuple[str | None, tuple[Row, Row, Row] | None]:
    """WRPO, read off the paper: x, the best of any source model, the target's best, the target's worst."""
    best = first_best([g for g in sources if g.chosen])
    if not sources or best is None:
        return nearest([g.sft_reason() for g in sources]) if sources else "no response", None
    if not target.answered:
        return "no response of the target", None
    reason = target.pair_reason(None)
    if reason is None and best.chosen["text_id"] == target.rejected["text_id"]:
        reason = "identical texts"
    reason = reason or target.gap_reason(best.chosen, target.rejected, window)
    return reason, None if reason else (best.chosen, target.chosen, target.rejected)


def oracle(
    rows: list[Row], dpo: Dpo | None, sft: Sft, **how: bool
) -> tuple[list[Any], list[Any], list[Any], list[float]]:
    """The rows of `sft`, `pairs` (without rewards and weights) and `reasons`; the rewards of the pairs' chosen."""
    found, pairs, reasons, rewards = [], [], [], []
    for prompt in sorted({r["prompt_id"] for r in rows}):
        own = [r for r in rows if r["prompt_id"] == prompt]
        target = dpo.target if dpo else None
        models = sorted({r["source_model"] for r in own} - {target})
        by_model = [Group([r for r in own if r["source_model"] == m], **how) for m in models]
        window = dpo.reward_gap if dpo else None
        sft_reason = nearest([g.sft_reason() for g in by_model]) if by_model else "no response"
        pair_reason, made = None, []
        if dpo and dpo.method == "wrpo":
            pair_reason, sides = against_target(
                by_model, Group([r for r in own if r["source_model"] == target], **how), window
            )
            made = [sides] if sides else []
        elif dpo:
            groups = by_model if dpo.same_source_model else [Group(own, **how)]
            pair_reason = nearest([g.pair_reason(window) for g in groups])
            fitting = [g for g in groups if g.pair_reason(window) is None]
            kept = fitting if dpo.per == "source_model" else [first_best(fitting)] if fitting else []
            made = [(g.chosen, g.rejected) for g in kept]
        reasons.append((prompt, sft_reason, pair_reason))
        best = [g for g in by_model if g.chosen]
        found += [
            (prompt, *identity(g.chosen))
            for g in (best if sft.per == "source_model" else [first_best(best)] if best else [])
        ]
        pairs += [(prompt, *(value for side in sides for value in identity(side))) for sides in made]
        rewards += [float(sides[0]["score"]) for sides in made]
    return found, pairs, reasons, rewards


NEVER_BETTER = crowded(36123671)
"""Of one prompt all that source models said is scored lower than the target's worst."""


@settings(max_examples=400, deadline=None)
@given(tables, st.booleans(), st.booleans(), st.booleans(), dpos, sfts)
@example(NEVER_BETTER, False, True, True, Dpo(method="wrpo", target="b/two"), Sft())
def test_selection_equals_that_of_a_naive_oracle(
    rows: list[Row], checked: bool, rewarded: bool, screened: bool, dpo: Dpo | None, sft: Sft
) -> None:
    how = {"checked": checked, "rewarded": rewarded, "screened": screened}
    found = chosen_among(rows, dpo=dpo, sft=sft, **how)
    expected, pairs, reasons, rewards = oracle(rows, dpo, sft, **how)
    assert found.sft.drop("weight", strict=False).rows() == expected
    assert found.pairs.drop("chosen_reward", "rejected_reward", "weight", strict=False).rows() == pairs
    assert found.reasons.rows() == reasons
    assert found.pairs["chosen_reward"].to_list() == rewards


@settings(max_examples=60, deadline=None)
@given(tables, st.floats(1e-6, 100))
def test_weights_are_the_softmax_of_the_reward_over_the_rows_of_a_prompt(rows: list[Row], temperature: float) -> None:
    dense = {"per": "source_model", "weight_temperature": temperature}
    selection = chosen_among(rows, checked=False, dpo=Dpo(**dense), sft=Sft(**dense))
    known = {tuple(row[k] for k in KEY): row["reward"] for row in rows}
    chosen = selection.pairs.select("prompt_id", "chosen_source_model", "chosen_sample", "weight")
    for found in (selection.sft.select(*KEY, "weight"), chosen):
        for (_,), own in found.group_by("prompt_id"):
            given_ = [known[row[:3]] for row in own.rows()]
            powers = [math.exp((reward - max(given_)) / temperature) for reward in given_]
            assert own["weight"].to_list() == pytest.approx([power / sum(powers) for power in powers])
            assert sum(own["weight"]) == pytest.approx(1)


def test_no_weights_are_given_where_a_prompt_gives_one_row() -> None:
    found = chosen_among([right(0.2), wrong(0.15)])
    assert "weight" not in [*found.sft.columns, *found.pairs.columns]


@settings(max_examples=60, deadline=None)
@given(tables)
def test_what_has_a_flaw_might_as_well_not_be_there(rows: list[Row]) -> None:
    clean = [row for row in rows if row["flaw"] is None]
    among_all, among_clean = chosen_among(rows, screened=True), chosen_among(clean, screened=False)
    assert_frame_equal(among_all.sft, among_clean.sft)
    assert_frame_equal(among_all.pairs, among_clean.pairs)


def test_what_has_a_flaw_is_neither_chosen_nor_rejected() -> None:
    rows = [right(0.3, 0, flaw="truncated"), right(0.2, 1), wrong(0.15, 2, flaw="refusal"), wrong(0.17, 3)]
    (pair,) = chosen_among(rows, screened=True).pairs.rows(named=True)
    assert (pair["chosen_sample"], pair["rejected_sample"]) == (1, 3)


def test_each_source_model_gives_a_pair_of_its_own_where_that_is_asked_for() -> None:
    rows = [
        row for model in ("a/one", "b/two") for row in (right(0.2, source_model=model), wrong(0.15, source_model=model))
    ]
    dense = Dpo(per="source_model", weight_temperature=1.0, reward_gap=(0.01, 0.1))
    assert chosen_among(rows, dpo=dense).pairs["chosen_source_model"].to_list() == ["a/one", "b/two"]


def test_wrpo_never_pairs_a_source_with_the_same_text_of_the_target() -> None:
    rows = [response(0.2, source_model="one", text="same"), response(0.1, source_model="own", text="same")]
    rows.append(response(0.15, sample=1, source_model="own"))
    assert pair_reason(rows, checked=False, dpo=Dpo(method="wrpo", target="own")) == "identical texts"


def test_what_has_a_flaw_takes_part_where_nothing_is_screened() -> None:
    assert chosen_among([right(0.2, flaw="refusal")], dpo=None).sft.height == 1


def test_the_target_is_never_an_sft_source() -> None:
    rows = [response(0.9, source_model="own"), response(0.1, source_model="other")]
    found = chosen_among(rows, checked=False, dpo=Dpo(method="wrpo", target="own"))
    assert found.sft["source_model"].to_list() == ["other"]


def test_a_prompt_that_only_the_target_answered_has_no_response() -> None:
    found = chosen_among([response(0.2, source_model="own")], checked=False, dpo=Dpo(method="wrpo", target="own"))
    assert found.reasons.rows() == [("p", "no response", "no response")]


def test_a_row_of_wrpo_is_the_best_of_the_sources_and_the_best_and_worst_of_the_target() -> None:
    rows = [response(reward, sample=n, source_model="own") for n, reward in enumerate((0.12, 0.15, 0.11, 0.14))]
    rows += [response(0.17, source_model="one"), response(0.19, source_model="two")]
    (row,) = chosen_among(rows, checked=False, dpo=Dpo(method="wrpo", target="own")).pairs.rows(named=True)
    assert (row["chosen_source_model"], row["chosen_reward"]) == ("two", 0.19)
    assert (row["chosen_own_source_model"], row["chosen_own_sample"]) == ("own", 1)
    assert (row["rejected_source_model"], row["rejected_sample"], row["rejected_reward"]) == ("own", 2, 0.11)


@pytest.mark.parametrize(
    ("source", "own", "reason"),
    [
        (0.2, (0.1, 0.1), "gap too small"),
        (0.2, (0.1,), "identical texts"),
        (0.1, (0.15, 0.12), "gap too small"),
        (0.2, (0.1, None), "not scored"),
        (0.2, (), "no response of the target"),
        (None, (0.2, 0.1), "not scored"),
        (0.2, (0.19, 0.1), None),
    ],
)
def test_wrpo_needs_two_of_the_target_and_a_source_that_beats_the_worse(
    source: float | None, own: tuple[float | None, ...], reason: str | None
) -> None:
    rows = [response(source, source_model="one")]
    rows += [response(reward, sample=n, source_model="own") for n, reward in enumerate(own)]
    assert pair_reason(rows, checked=False, dpo=Dpo(method="wrpo", target="own")) == reason


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
    names = [name for name in ("chosen", "chosen_own", "rejected") if f"{name}_sample" in first.pairs.columns]
    sides = [(f"{name}_source_model", f"{name}_sample") for name in names]
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
    "screened out": [right(0.2, flaw="refusal"), wrong(0.1, flaw="truncated")],
    "no response of the target": [right(0.2), wrong(0.1)],
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


OF_THE_TARGET = "no response of the target"


@pytest.mark.parametrize("reason", REASONS)
def test_a_prompt_without_a_pair_bears_its_reason(reason: str) -> None:
    dpo = Dpo(method="wrpo", target="own") if reason == OF_THE_TARGET else WINDOW
    assert pair_reason(REASONED[reason], screened=True, dpo=dpo) == reason


@pytest.mark.parametrize("reason", ["no response", "screened out", "unjudged", "no correct response"])
def test_a_prompt_without_an_sft_row_bears_its_reason(reason: str) -> None:
    assert chosen_among(REASONED[reason], screened=True).reasons["sft_reason"].item() == reason


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
    rows = pl.DataFrame([right(0.15), wrong(0.1)], schema=SCHEMA)
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
