"""Which responses become SFT rows and preference pairs: decided on keys and numbers alone.

One rule serves every domain (METHOD: FuseChat-3.0, section on data construction). Chosen is the highest reward among
the responses that pass the check, rejected the lowest among those that fail it; where there is no check, both are
taken among all. A pair stays within one source model, the one that owns the prompt's highest reward, else the next
whose pair fits. Ties break by model name, then sample number. What could not be judged or scored takes no part, nor
does what has a flaw.

Where a recipe asks for it, each source model that can gives a row, weighted by reward (FuseRL, arXiv 2504.06562); or
the rejected response is the worst of a target model, whose best stands beside the chosen one (WRPO, arXiv 2412.03187).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from fusedata.rules import Dpo, Sft

REASONS = (
    "no response",
    "screened out",
    "unjudged",
    "no correct response",
    "no incorrect response",
    "not scored",
    "no response of the target",
    "identical texts",
    "reward prefers the wrong one",
    "gap too large",
    "gap too small",
)
"""Why a prompt gives no pair, or no SFT row, from furthest to nearest: a prompt bears the nearest of its models'."""

LOCATED = ("row", "verdict_row", "reward_row")
"""Where a response, its verdict and its reward stand, which candidates may tell: given back with each response."""

_CODE = {reason: code for code, reason in enumerate(REASONS)}
_RESPONSE = ("text_id", "source_model", "sample")
_LACKS = (
    (~pl.col("answered"), "no response"),
    (~pl.col("kept"), "screened out"),
    (~pl.col("judged"), "unjudged"),
    (~pl.col("good"), "no correct response"),
)


@dataclass(frozen=True)
class Selection:
    """What was selected, as keys.

    `sft`: prompt_id, text_id, source_model, sample. `pairs`: prompt_id, then text_id, source_model and sample of each
    side (`chosen_…`, `rejected_…`, with WRPO also `chosen_own_…`, the target's best), chosen_reward, rejected_reward.
    What candidates tell of LOCATED follows sample.
    Where a recipe asks for rows per source model, they end in `weight`: of each prompt, weights sum to 1. `reasons`:
    prompt_id, sft_reason and pair_reason, null where there is a row. Each sorted by prompt_id, then source model; one
    row a prompt unless rows are asked for per source model.
    """

    sft: pl.DataFrame
    pairs: pl.DataFrame
    reasons: pl.DataFrame


def select(
    candidates: pl.LazyFrame,
    *,
    checked: bool,
    rewarded: bool,
    dpo: Dpo | None,
    sft: Sft = Sft(),  # noqa: B008 - frozen
    screened: bool = False,
) -> Selection:
    """Select among `candidates`: prompt_id, source_model, sample, text_id (null: no text), passed, reward, flaw.

    prompt_id and source_model may be Enum or Categorical, ordered as strings are; what is given back are strings.
    text_id may be a hash of it. LOCATED may follow.

    `checked` says that `passed` decides (null: unjudged), `rewarded` that `reward` ranks (null or not finite: not
    scored), `screened` that a `flaw` bars (null: none). Takes memory in proportion to prompts times source models,
    whatever the texts.
    """
    rows = candidates if "by_model" in candidates.collect_schema() else ordered(candidates.collect())
    rows = _prepared(rows, checked=checked, rewarded=rewarded, screened=screened)
    wrpo = dpo is not None and dpo.method == "wrpo"
    is_own = pl.col("source_model").cast(pl.String).eq_missing(pl.lit(dpo.target if dpo else None, pl.String))
    by_prompt = rows.with_columns(by_model=pl.col("prompt_id").rle_id())
    models = _summary(rows.filter(~is_own) if wrpo else rows)
    if dpo is None:
        groups = models.with_columns(code=pl.lit(None, pl.Int64))
    elif wrpo:
        groups = _against_target(models, _summary(by_prompt.filter(is_own), ["prompt_id"]), dpo, checked=checked)
    else:
        groups = models if dpo.same_source_model else _summary(by_prompt, ["prompt_id"])
        groups = groups.with_columns(code=_pair_code(dpo, checked=checked))
    sft_reasons = _nearest(models.with_columns(code=_sft_code()), "sft_reason")
    reasons = _nearest(groups, "pair_reason").join(sft_reasons, on="prompt_id", how="left")
    found = (_sft_rows(models, sft), _pair_rows(groups.filter(dpo is not None), dpo or Dpo()), _reasoned(reasons))
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


def ordered(candidates: pl.DataFrame) -> pl.LazyFrame:
    """Sort by prompt, model name and sample, with a number for each prompt's model, `by_model`, as `select` does first.

    What is sorted is one number a row, and what is grouped lies together: a third of the time of joins and hashes.
    """
    place = pl.lit(0, pl.UInt64)
    for column in ("prompt_id", "source_model"):
        code = _code(candidates[column])
        place = place * ((code.max() or 0) + 1) + pl.lit(code)  # type: ignore[operator]
    samples = int(candidates["sample"].max() or 0) + 1  # type: ignore[arg-type]
    rows = candidates.with_columns(by_model=place * samples + pl.col("sample").cast(pl.UInt64)).sort("by_model")
    return rows.with_columns((pl.col("by_model") // samples).rle_id().set_sorted()).lazy()


def _code(names: pl.Series) -> pl.Series:
    """Number names in their order, 0 for none."""
    if not isinstance(names.dtype, pl.Enum):
        names = names.cast(pl.Enum(names.unique().cast(pl.String).drop_nulls().sort()))
    return (names.to_physical().cast(pl.UInt64) + 1).fill_null(0)


def _prepared(candidates: pl.LazyFrame, *, checked: bool, rewarded: bool, screened: bool) -> pl.LazyFrame:
    """Say of each candidate on what number it can be chosen (`high`) and on what it can be rejected (`low`)."""
    answered = pl.col("text_id").is_not_null()
    kept = answered & pl.col("flaw").is_null() if screened else answered
    passed = pl.col("passed") if checked else pl.lit(value=True)
    failed = ~pl.col("passed") if checked else pl.lit(value=True)
    reward = pl.col("reward") if rewarded else pl.lit(0.0)
    return candidates.select(
        *("prompt_id", "source_model", "sample", "text_id", "by_model"),
        pl.selectors.by_name(*LOCATED, require_all=False),
        answered=answered,
        kept=kept,
        judged=kept & passed.is_not_null(),
        good=(kept & passed).fill_null(value=False),
        bad=(kept & failed).fill_null(value=False),
        score=pl.when(reward.is_finite()).then(reward),
    ).with_columns(high=pl.when("good").then("score"), low=pl.when("bad").then("score"))


def _summary(rows: pl.LazyFrame, names: Sequence[str] = ("prompt_id", "source_model")) -> pl.DataFrame:
    """Give, for each group `by_model`, what it has and the rows that would be chosen and rejected.

    Whether its texts differ is seen by 64-bit hashes, which group faster than strings; it decides between reasons only.
    """
    text = pl.when("kept").then(pl.col("text_id").hash())
    scored = pl.when(pl.col("score").is_not_null()).then(text)
    held = rows.with_columns(pl.col("by_model").rle_id().set_sorted()).collect()
    summary = held.group_by("by_model", maintain_order=True).agg(
        pl.col(*names).first(),
        pl.col("answered", "kept", "judged", "good", "bad").any(),
        pl.col("high").max(),
        pl.col("low").min(),
        varied=text.min() != text.max(),
        varied_scored=scored.min() != scored.max(),
    )
    for limit, side in (("high", "chosen"), ("low", "rejected")):
        ends = _extreme(held, summary[limit], side)
        summary = summary.join(ends, on="by_model", how="left", maintain_order="left")
    return summary.drop("by_model")


def _extreme(rows: pl.DataFrame, limits: pl.Series, side: str) -> pl.DataFrame:
    """Give the one row of each group at its limit: of several the first, by model name and sample number."""
    at = (rows[limits.name] == limits.gather(rows["by_model"])).fill_null(value=False).arg_true()
    group = rows["by_model"].gather(at)
    is_first = (group != group.shift(1)).fill_null(value=True)
    named = {f"{side}_{column}": column for column in _told(rows.columns)}
    return rows.select("by_model", **named)[at.filter(is_first)]


def _told(columns: Sequence[str], prefix: str = "") -> list[str]:
    """List what each response is given back by."""
    return [*_RESPONSE, *(column for column in LOCATED if f"{prefix}{column}" in columns)]


def _pair_code(dpo: Dpo, *, checked: bool) -> pl.Expr:
    """Code of why a group gives no pair; null where it gives one.

    Where nothing is checked and all rewards are equal, one response is both the highest and the lowest.
    """
    gap = (pl.col("high") - pl.col("low")).round(9)
    same_text, same_model, same_sample = (pl.col(f"chosen_{c}") == pl.col(f"rejected_{c}") for c in _RESPONSE)
    one = same_text & same_model & same_sample
    return _first_code(
        *_LACKS,
        (~pl.col("bad"), "no incorrect response"),
        (gap.is_null() | (one & pl.col("varied") & ~pl.col("varied_scored")), "not scored"),
        (same_text & ~(one & pl.col("varied_scored")), "identical texts"),
        *_misfits(gap, dpo, checked=checked),
    )


def _misfits(gap: pl.Expr, dpo: Dpo, *, checked: bool) -> tuple[tuple[pl.Expr, str], ...]:
    """How a gap can fail to fit the window; where nothing is checked, equal rewards never do."""
    low, high = dpo.reward_gap or (float("-inf"), float("inf"))
    return (
        ((gap < low) & (gap < 0), "reward prefers the wrong one"),
        (gap > high, "gap too large"),
        (gap < low if checked else (gap < low) | (gap <= 0), "gap too small"),
    )


def _against_target(models: pl.DataFrame, target: pl.DataFrame, dpo: Dpo, *, checked: bool) -> pl.DataFrame:
    """Set the best response of any source model against the worst of the target, whose best comes along.

    The target's own two must be a pair, whatever their gap; the window is for the source model's against the worst.
    """
    told = _told(models.columns, "chosen_")
    side = {f"chosen_{column}": f"chosen_own_{column}" for column in told}
    own = target.with_columns(own_code=_pair_code(Dpo(), checked=checked), silent=~pl.col("answered")).rename(side)
    own = own.select("prompt_id", "own_code", "silent", "low", *side.values(), *(f"rejected_{c}" for c in told))
    best = _best(models.filter(pl.col("high").is_not_null())).select("prompt_id", "high", *side)
    sources = _nearest_code(models.with_columns(code=_sft_code())).rename({"code": "source_code"})
    sources = sources.join(best, on="prompt_id", how="left").with_columns(answered=True)
    gap = (pl.col("high") - pl.col("low")).round(9)
    same_text = pl.col("own_code").is_null() & (pl.col("chosen_text_id") == pl.col("rejected_text_id"))
    code = pl.coalesce(
        _first_code((pl.col("answered").is_null(), "no response")),
        "source_code",
        _first_code((pl.col("silent").fill_null(value=True), "no response of the target")),
        "own_code",
        _first_code((same_text, "identical texts"), *_misfits(gap, dpo, checked=checked)),
    )
    return sources.join(own, on="prompt_id", how="full", coalesce=True).with_columns(code=code)


def _sft_code() -> pl.Expr:
    """Code of why a group gives no SFT row; null where it gives one."""
    return _first_code(*_LACKS, (pl.col("high").is_null(), "not scored"))


def _first_code(*checks: tuple[pl.Expr, str]) -> pl.Expr:
    return pl.coalesce(pl.when(condition).then(_CODE[reason]) for condition, reason in checks)


def _nearest(groups: pl.DataFrame, column: str) -> pl.DataFrame:
    """Give each prompt its nearest reason, or null where one of its groups has none."""
    reason = pl.col("code").replace_strict(range(len(REASONS)), REASONS, return_dtype=pl.String)
    return _nearest_code(groups).select("prompt_id", reason.alias(column))


def _nearest_code(groups: pl.DataFrame) -> pl.DataFrame:
    code = pl.when(pl.col("code").is_null().any()).then(None).otherwise(pl.col("code").max())
    return groups.group_by("prompt_id").agg(code=code)


def _reasoned(reasons: pl.DataFrame) -> pl.DataFrame:
    """Give the reasons in order; a prompt that none but the target answered has no response for SFT."""
    unanswered = pl.col("pair_reason") == "no response"
    sft_reason = pl.when(unanswered).then("pair_reason").otherwise("sft_reason")
    return reasons.select("prompt_id", sft_reason.alias("sft_reason"), "pair_reason").sort("prompt_id")


def _sft_rows(models: pl.DataFrame, sft: Sft) -> pl.DataFrame:
    rows = models.filter(pl.col("high").is_not_null())
    rows = _best(rows) if sft.per == "prompt" else rows.sort("prompt_id", "chosen_source_model")
    named = {column: f"chosen_{column}" for column in _told(rows.columns, "chosen_")}
    return rows.select("prompt_id", **named, **_weight(sft.weight_temperature))


def _pair_rows(groups: pl.DataFrame, dpo: Dpo) -> pl.DataFrame:
    names = ("chosen", "chosen_own", "rejected") if dpo.method == "wrpo" else ("chosen", "rejected")
    rows = groups.filter(pl.col("code").is_null())
    sides = [f"{side}_{column}" for side in names for column in _told(rows.columns, "chosen_")]
    rows = _best(rows) if dpo.per == "prompt" else rows.sort("prompt_id", "chosen_source_model")
    weight = _weight(dpo.weight_temperature)
    return rows.select("prompt_id", *sides, chosen_reward="high", rejected_reward="low", **weight)


def _weight(temperature: float | None) -> dict[str, pl.Expr]:
    """Softmax of the reward over the rows of a prompt, which is safe at any temperature; none where none is given."""
    if temperature is None:
        return {}
    share = ((pl.col("high") - pl.col("high").max().over("prompt_id")) / temperature).exp()
    return {"weight": share / share.sum().over("prompt_id")}


def _best(groups: pl.DataFrame) -> pl.DataFrame:
    """Give the group of each prompt that owns its highest reward; of several, the first by model name."""
    ordered = groups.sort("prompt_id", "high", "chosen_source_model", descending=[False, True, False])
    return ordered.unique("prompt_id", keep="first", maintain_order=True)
