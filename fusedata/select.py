"""Which responses become SFT rows and preference pairs: decided on keys and numbers alone.

One rule serves every domain (METHOD: FuseChat-3.0, section on data construction). Chosen is the highest reward among
the responses that pass the check, rejected the lowest among those that fail it; where there is no check, both are
taken among all. A pair stays within one source model, the one that owns the prompt's highest reward, else the next
whose pair fits. Ties break by model name, then sample number. What could not be judged or scored takes no part, nor
does what has a flaw.

Where a recipe asks for it, each source model that can gives a row, weighted by reward (FuseRL, arXiv 2504.06562); or
the rejected response is the worst of a target model, whose best stands beside the chosen one (WRPO, arXiv 2412.03187).
"""

from dataclasses import dataclass

import polars as pl

from fusedata.groups import FLAGS, Ordered, ordered
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
_TOLD = ("text_id", "source_model", "sample", *LOCATED)
"""What each response is given back by."""
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
    candidates: pl.DataFrame,
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
    found = _ordered(candidates, checked=checked, rewarded=rewarded, screened=screened)
    if dpo is None:
        models = found.groups("model")
        groups = models.with_columns(code=pl.lit(None, pl.Int64))
    elif dpo.method == "wrpo":
        is_own = pl.col("source_model").cast(pl.String).eq_missing(pl.lit(dpo.target, pl.String))
        own = candidates.select(is_own).to_series().to_numpy()[found.at]
        models, target = found.where(~own).groups("model"), found.where(own).groups("prompt")
        groups = _against_target(models, target, dpo, checked=checked)
    else:
        models = found.groups("model")
        groups = models if dpo.same_source_model else found.groups("prompt")
        groups = groups.with_columns(code=_pair_code(dpo, checked=checked))
    sft_reasons = _nearest(models.with_columns(code=_sft_code()), "sft_reason")
    reasons = _nearest(groups, "pair_reason").join(sft_reasons, on="prompt_id", how="left")
    pairs = _pair_rows(candidates, groups.filter(dpo is not None), dpo or Dpo())
    given = (_sft_rows(candidates, models, sft), pairs, _reasoned(reasons))
    return Selection(*(one.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String)) for one in given))


def near_limits(pairs: pl.DataFrame, dpo: Dpo | None, tolerance: float) -> int:
    """Count the pairs whose gap lies so near an end of the window that noise could put it on the other side.

    `tolerance` is what noise can do to one reward; a gap is the difference of two.
    """
    if dpo is None or dpo.reward_gap is None or tolerance == 0:
        return 0
    gap = pl.col("chosen_reward") - pl.col("rejected_reward")
    near = [(gap - end).abs() <= 2 * tolerance for end in dpo.reward_gap]
    return pairs.filter(pl.any_horizontal(near)).height


def _ordered(rows: pl.DataFrame, *, checked: bool, rewarded: bool, screened: bool) -> Ordered:
    """Order candidates, and say on what number they can be chosen and which of them can be chosen or rejected."""
    answered = pl.col("text_id").is_not_null()
    kept = answered & pl.col("flaw").is_null() if screened else answered
    passed = pl.col("passed") if checked else pl.lit(value=True)
    failed = ~pl.col("passed") if checked else pl.lit(value=True)
    flags = (answered, kept, kept & passed.is_not_null(), kept & passed, kept & failed)
    reward = pl.col("reward") if rewarded else pl.lit(0.0)
    return ordered(rows, dict(zip(FLAGS, flags, strict=True)), pl.when(reward.is_finite()).then(reward))


def _pair_code(dpo: Dpo, *, checked: bool) -> pl.Expr:
    """Code of why a group gives no pair; null where it gives one.

    Where nothing is checked and all rewards are equal, one response is both the highest and the lowest.
    """
    gap = (pl.col("high") - pl.col("low")).round(9)
    one, same_text = (pl.col(f"chosen{what}") == pl.col(f"rejected{what}") for what in ("", "_text"))
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
    own = target.with_columns(own_code=_pair_code(Dpo(), checked=checked), silent=~pl.col("answered"))
    own = own.select("prompt_id", "own_code", "silent", "low", "rejected", "rejected_text", chosen_own="chosen")
    best = _best(models.filter(pl.col("high").is_not_null()))
    best = best.select("prompt_id", "source_model", "high", "chosen", "chosen_text")
    sources = _nearest_code(models.with_columns(code=_sft_code())).rename({"code": "source_code"})
    sources = sources.join(best, on="prompt_id", how="left").with_columns(answered=True)
    gap = (pl.col("high") - pl.col("low")).round(9)
    same_text = pl.col("own_code").is_null() & (pl.col("chosen_text") == pl.col("rejected_text"))
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


def _sft_rows(rows: pl.DataFrame, models: pl.DataFrame, sft: Sft) -> pl.DataFrame:
    groups = models.filter(pl.col("high").is_not_null())
    groups = _best(groups) if sft.per == "prompt" else groups.sort("prompt_id", "source_model")
    return groups.select("prompt_id", *_told(rows, groups["chosen"]), **_weight(sft.weight_temperature))


def _pair_rows(rows: pl.DataFrame, groups: pl.DataFrame, dpo: Dpo) -> pl.DataFrame:
    groups = groups.filter(pl.col("code").is_null())
    groups = _best(groups) if dpo.per == "prompt" else groups.sort("prompt_id", "source_model")
    names = ("chosen", "chosen_own", "rejected") if dpo.method == "wrpo" else ("chosen", "rejected")
    sides = [column for side in names for column in _told(rows, groups[side], f"{side}_")]
    weight = _weight(dpo.weight_temperature)
    return groups.select("prompt_id", *sides, chosen_reward="high", rejected_reward="low", **weight)


def _told(rows: pl.DataFrame, at: pl.Series, prefix: str = "") -> list[pl.Series]:
    """Give what responses are given back by."""
    return [rows[column].gather(at).alias(f"{prefix}{column}") for column in _TOLD if column in rows.columns]


def _weight(temperature: float | None) -> dict[str, pl.Expr]:
    """Softmax of the reward over the rows of a prompt, which is safe at any temperature; none where none is given."""
    if temperature is None:
        return {}
    share = ((pl.col("high") - pl.col("high").max().over("prompt_id")) / temperature).exp()
    return {"weight": share / share.sum().over("prompt_id")}


def _best(groups: pl.DataFrame) -> pl.DataFrame:
    """Give the group of each prompt that owns its highest reward; of several, the first by model name."""
    ordered = groups.sort("prompt_id", "high", "source_model", descending=[False, True, False])
    return ordered.unique("prompt_id", keep="first", maintain_order=True)
