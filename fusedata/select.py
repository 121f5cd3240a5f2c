"""Which responses become SFT rows and preference pairs: decided on keys and numbers alone.

One rule serves every domain (METHOD: FuseChat-3.0, section on data construction). Chosen is the highest reward among
the responses that pass the check, rejected the lowest among those that fail it; where there is no check, both are
taken among all. A pair stays within one source model, the one that owns the prompt's highest reward, else the next
whose pair fits. Ties break by model name, then sample number. What could not be judged or scored takes no part.
"""

from dataclasses import dataclass

import polars as pl

from fusedata.recipe import Dpo

REASONS = (
    "no response",
    "unjudged",
    "no correct response",
    "no incorrect response",
    "not scored",
    "identical texts",
    "reward prefers the wrong one",
    "gap too large",
    "gap too small",
)
"""Why a prompt gives no pair, or no SFT row, from furthest to nearest: a prompt bears the nearest of its models'."""

_CODE = {reason: code for code, reason in enumerate(REASONS)}
_RESPONSE = ("text_id", "source_model", "sample")
_LACKS = (
    (~pl.col("answered"), "no response"),
    (~pl.col("judged"), "unjudged"),
    (~pl.col("good"), "no correct response"),
)


@dataclass(frozen=True)
class Selection:
    """What was selected, as keys.

    `sft`: prompt_id, text_id, source_model, sample. `pairs`: prompt_id, then text_id, source_model and sample of each
    side (`chosen_…`, `rejected_…`), chosen_reward, rejected_reward. `reasons`: prompt_id, sft_reason and pair_reason,
    null where there is a row. Each sorted by prompt_id, at most one row a prompt.
    """

    sft: pl.DataFrame
    pairs: pl.DataFrame
    reasons: pl.DataFrame


def select(candidates: pl.LazyFrame, *, checked: bool, rewarded: bool, dpo: Dpo | None) -> Selection:
    """Select among `candidates`: prompt_id, source_model, sample, text_id (null: no text), passed, reward.

    prompt_id and source_model may be Enum or Categorical, ordered as strings are; what is given back are strings.

    `checked` says that `passed` decides (null: unjudged), `rewarded` that `reward` ranks (null or not finite: not
    scored). Takes memory in proportion to prompts times source models, whatever the texts.
    """
    rows = _prepared(candidates, checked=checked, rewarded=rewarded)
    models = _summary(rows, ["prompt_id", "source_model"])
    across = dpo is not None and not dpo.same_source_model
    groups = _summary(rows, ["prompt_id"]) if across else models
    pairs = groups.with_columns(code=_pair_code(dpo, checked=checked) if dpo else pl.lit(None, pl.Int64))
    sft = _nearest(models.with_columns(code=_sft_code()), "sft_reason")
    reasons = sft.join(_nearest(pairs, "pair_reason"), on="prompt_id")
    found = (_sft_rows(models), _pair_rows(pairs.filter(dpo is not None)), reasons.sort("prompt_id"))
    return Selection(*(rows.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String)) for rows in found))


def near_limits(pairs: pl.DataFrame, dpo: Dpo | None, tolerance: float) -> int:
    """Count the pairs whose gap lies so near an end of the window that noise could put it on the other side.

    `tolerance` is what noise can do to one reward; a gap is the difference of two.
    """
    if dpo is None or dpo.reward_gap is None or tolerance == 0:
        return 0
    gap = pl.col("chosen_reward") - pl.col("rejected_reward")
    near = [(gap - end).abs() <= 2 * tolerance for end in dpo.reward_gap]
    return pairs.filter(pl.any_horizontal(near)).height


def _prepared(candidates: pl.LazyFrame, *, checked: bool, rewarded: bool) -> pl.LazyFrame:
    """Say of each candidate on what number it can be chosen (`high`) and on what it can be rejected (`low`)."""
    answered = pl.col("text_id").is_not_null()
    passed = pl.col("passed") if checked else pl.lit(value=True)
    failed = ~pl.col("passed") if checked else pl.lit(value=True)
    reward = pl.col("reward") if rewarded else pl.lit(0.0)
    return candidates.select(
        *("prompt_id", "source_model", "sample", "text_id"),
        answered=answered,
        judged=answered & passed.is_not_null(),
        good=(answered & passed).fill_null(value=False),
        bad=(answered & failed).fill_null(value=False),
        score=pl.when(reward.is_finite()).then(reward),
    ).with_columns(high=pl.when("good").then("score"), low=pl.when("bad").then("score"))


def _summary(rows: pl.LazyFrame, group: list[str]) -> pl.DataFrame:
    """Give, for each group, what it has and the rows that would be chosen and rejected.

    Whether its texts differ is seen by 64-bit hashes, which group faster than strings; it decides between reasons only.
    """
    text = pl.when("answered").then(pl.col("text_id").hash())
    scored = pl.when(pl.col("score").is_not_null()).then(text)
    summarised = rows.group_by(group).agg(
        pl.col("answered", "judged", "good", "bad").any(),
        pl.col("high").max(),
        pl.col("low").min(),
        varied=text.min() != text.max(),
        varied_scored=scored.min() != scored.max(),
    )
    extreme = (pl.col("high") == pl.col("high_limit")) | (pl.col("low") == pl.col("low_limit"))
    limits = summarised.select(*group, high_limit="high", low_limit="low")
    extreme_rows = rows.join(limits, on=group).filter(extreme)
    summary, extremes = pl.collect_all([summarised, extreme_rows], engine="streaming")
    for limit, side in (("high", "chosen"), ("low", "rejected")):
        summary = summary.join(_extreme(extremes, group, limit, side), on=group, how="left")
    return summary


def _extreme(extremes: pl.DataFrame, group: list[str], limit: str, side: str) -> pl.DataFrame:
    """Give the one row of each group at its limit: of several, the first by model name and sample number."""
    rows = extremes.filter(pl.col(limit) == pl.col(f"{limit}_limit")).sort("source_model", "sample")
    named = {f"{side}_{column}": column for column in _RESPONSE}
    return rows.unique(group, keep="first", maintain_order=True).select(*group, **named)


def _pair_code(dpo: Dpo, *, checked: bool) -> pl.Expr:
    """Code of why a group gives no pair; null where it gives one.

    Where nothing is checked and all rewards are equal, one response is both the highest and the lowest.
    """
    gap = (pl.col("high") - pl.col("low")).round(9)
    same_text, same_model, same_sample = (pl.col(f"chosen_{c}") == pl.col(f"rejected_{c}") for c in _RESPONSE)
    one = same_text & same_model & same_sample
    low, high = dpo.reward_gap or (float("-inf"), float("inf"))
    too_small = gap < low if checked else (gap < low) | (gap <= 0)
    return _first_code(
        *_LACKS,
        (~pl.col("bad"), "no incorrect response"),
        (gap.is_null() | (one & pl.col("varied") & ~pl.col("varied_scored")), "not scored"),
        (same_text & ~(one & pl.col("varied_scored")), "identical texts"),
        ((gap < low) & (gap < 0), "reward prefers the wrong one"),
        (gap > high, "gap too large"),
        (too_small, "gap too small"),
    )


def _sft_code() -> pl.Expr:
    """Code of why a group gives no SFT row; null where it gives one."""
    return _first_code(*_LACKS, (pl.col("high").is_null(), "not scored"))


def _first_code(*checks: tuple[pl.Expr, str]) -> pl.Expr:
    return pl.coalesce(pl.when(condition).then(_CODE[reason]) for condition, reason in checks)


def _nearest(groups: pl.DataFrame, column: str) -> pl.DataFrame:
    """Give each prompt its nearest reason, or null where one of its groups has none."""
    code = pl.when(pl.col("code").is_null().any()).then(None).otherwise(pl.col("code").max())
    prompts = groups.group_by("prompt_id").agg(code.alias(column))
    return prompts.with_columns(pl.col(column).replace_strict(range(len(REASONS)), REASONS, return_dtype=pl.String))


def _sft_rows(models: pl.DataFrame) -> pl.DataFrame:
    rows = _best(models.filter(pl.col("high").is_not_null()))
    return rows.select("prompt_id", **{column: f"chosen_{column}" for column in _RESPONSE})


def _pair_rows(pairs: pl.DataFrame) -> pl.DataFrame:
    sides = [f"{side}_{column}" for side in ("chosen", "rejected") for column in _RESPONSE]
    rows = _best(pairs.filter(pl.col("code").is_null()))
    return rows.select("prompt_id", *sides, chosen_reward="high", rejected_reward="low")


def _best(groups: pl.DataFrame) -> pl.DataFrame:
    """Give the group of each prompt that owns its highest reward; of several, the first by model name."""
    ordered = groups.sort("prompt_id", "high", "chosen_source_model", descending=[False, True, False])
    return ordered.unique("prompt_id", keep="first", maintain_order=True)
