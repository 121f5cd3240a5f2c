"""A reward window for another reward model: the published window's place among ArmoRM's gaps, found among its own.

The published method keeps pairs whose chosen response ArmoRM scores 0.01 to 0.1 above the rejected one. Rewards of two
models do not compare, but the ranks of their gaps do: where 0.01 lies above a quarter of ArmoRM's gaps, the window of
another model begins above a quarter of its own. Gaps at or below 0 are left out on both sides: no window should keep
a pair whose rejected response is the better one. Pure.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from fusedata.errors import ConfigError
from fusedata.rules import ARMORM

Numbers = np.ndarray[Any, np.dtype[np.float64]]
Ends = tuple[float, float]

ARMORM_WINDOW: Ends = (0.01, 0.1)
PUBLISHED_QUANTILES: Ends = (0.26, 0.96)
"""Where ARMORM_WINDOW lies among ArmoRM's gaps when no scores of its own tell: a weak guess, from five real gaps.

Magpie-Pro-DPO-100K-v0.1 publishes ArmoRM's scores of five samples a prompt by one model, Llama-3-8B-Instruct. Best
minus worst of its first five prompts is 0.0093, 0.0073, 0.0225, 0.0273, 0.0322. These are the shares below 0.01 and 0.1
that the Student-t prediction of a sixth, on their logarithms, gives; 95 % credible: 0.04 to 0.61, and 0.75 to 1. In
keeping with them, FuseChat-3.0 found a pair for 9,435 of HelpSteer2's 10,162 training prompts, with four models to
choose from. tests/test_calibrate.py computes them anew.
"""
SMALL = 200
"""Fewer gaps than this fix the ends badly: an interval is given with them."""
BARS, _WIDER = 18, 1.5
"""Bars of the histogram, from 0 to so many times the window's upper end; what lies above is one more."""
_DRAWS, _SEED = 1000, 42
_DECIMALS = 9
"""Of gaps, as where pairs are selected."""


@dataclass(frozen=True)
class Reference:
    """What says where ARMORM_WINDOW lies among ArmoRM's gaps: its rewards of the same responses, or two quantiles.

    `rows` are candidates as `select` takes them.
    """

    origin: str
    quantiles: Ends = PUBLISHED_QUANTILES
    rows: pl.DataFrame | None = None


PUBLISHED = Reference("five published gaps")


@dataclass(frozen=True)
class Calibration:
    """A window for the gaps of `model`, and what it rests on.

    `window` is rounded to three digits; `interval` holds a 95 % interval of each end where there are few gaps, else
    None. `quantiles` say where the window lies among the `gaps` it was read off: positive ones, one a prompt and source
    model; `inverted` counts those at or below 0, `unscored` the responses without a score. With the window, `pairs` of
    `prompts` prompts give a pair. `bars` are (from, to, count), the last one's `to` None. `notes`: what to beware of.
    """

    model: str
    window: Ends
    interval: tuple[Ends, Ends] | None
    quantiles: Ends
    origin: str
    gaps: int
    inverted: int
    unscored: int
    pairs: int
    prompts: int
    bars: tuple[tuple[float, float | None, int], ...]
    notes: tuple[str, ...]

    def toml(self) -> str:
        """What to write into a recipe."""
        low, high = self.window
        name = json.dumps(self.model, ensure_ascii=False)
        return f"[dpo]\nreward_gap = [{low}, {high}]\nreward_gap_model = {name}"


def gaps(rows: pl.DataFrame, *, checked: bool, same_source_model: bool = True) -> pl.DataFrame:
    """Give the pairs that a recipe without a window might select, with their gaps: prompt_id, source_model, gap.

    `rows` are candidates as `select` takes them. source_model is null where pairs may cross source models.
    """
    scored = rows.filter(pl.col("reward").is_finite() & pl.col("text_id").is_not_null())
    source = pl.col("source_model") if same_source_model else pl.lit(None, pl.String)
    keyed = scored.sort("source_model", "sample").with_columns(source_model=source)
    high, low = (
        (keyed.filter(passed=verdict) if checked else keyed)
        .sort("reward", descending=verdict, maintain_order=True)
        .unique(["prompt_id", "source_model"], keep="first", maintain_order=True)
        for verdict in (True, False)
    )
    pairs = high.join(low, on=["prompt_id", "source_model"], nulls_equal=True, suffix="_low")
    gap = (pl.col("reward") - pl.col("reward_low")).round(_DECIMALS)
    differ = pl.col("text_id") != pl.col("text_id_low")
    return pairs.filter(differ).select("prompt_id", "source_model", gap=gap).sort("prompt_id", "source_model")


def calibrate(
    rows: pl.DataFrame, model: str, reference: Reference = PUBLISHED, *, checked: bool, same_source_model: bool = True
) -> Calibration:
    """Propose a window for `model`, which gave the rewards of `rows`. Raises ConfigError where there is no gap."""
    own = gaps(rows, checked=checked, same_source_model=same_source_model)
    measured = own.with_columns(reference=pl.lit(None, pl.Float64))
    if reference.rows is not None:
        theirs = gaps(reference.rows, checked=checked, same_source_model=same_source_model)
        measured = own.join(
            theirs.rename({"gap": "reference"}),
            on=["prompt_id", "source_model"],
            nulls_equal=True,
            maintain_order="left",
        )
    window = _window(measured, reference)
    if window is None:
        raise ConfigError(_nothing(model, reference, own, checked=checked))
    low, high = (float(f"{end:.3g}") for end in window)
    found = _positive(measured["gap"])
    return Calibration(
        model=model,
        window=(low, high),
        interval=_interval(measured, reference) if found.size < SMALL else None,
        quantiles=_quantiles(measured, reference),
        origin=reference.origin,
        gaps=found.size,
        inverted=measured.filter(pl.col("gap") <= 0).height,
        unscored=rows.filter(
            pl.col("text_id").is_not_null(), pl.col("reward").is_finite().not_().fill_null(value=True)
        ).height,
        pairs=own.filter(pl.col("gap").is_between(low, high))["prompt_id"].n_unique(),
        prompts=rows["prompt_id"].n_unique(),
        bars=_bars(found, high),
        notes=tuple(_notes(measured, reference, found.size)),
    )


def _window(measured: pl.DataFrame, reference: Reference) -> Ends | None:
    """Find the window in `gap` of rows that may have a `reference` gap beside it; None: no gap to find it in."""
    return _ends(measured["gap"].to_numpy(), measured["reference"].to_numpy(), reference)


def _ends(own: Numbers, theirs: Numbers, reference: Reference) -> Ends | None:
    own, theirs = (np.sort(gap[gap > 0]) for gap in (own, theirs))
    if not own.size or (reference.rows is not None and not theirs.size):
        return None
    if reference.rows is None:
        low, high = (float(np.quantile(own, share)) for share in reference.quantiles)
    else:
        low, high = (_matched(own, theirs, limit) for limit in ARMORM_WINDOW)
    return low, high


def _matched(own: Numbers, theirs: Numbers, limit: float) -> float:
    """Give the gap that lies among `own` where `limit` lies among `theirs`; both sorted.

    Beyond the ends of `theirs`, in proportion to the nearer end: both scales begin at 0.
    """
    if limit < theirs[0]:
        return float(own[0] * (limit / theirs[0]))
    if limit > theirs[-1]:
        return float(own[-1] * (limit / theirs[-1]))
    return float(np.quantile(own, _share(theirs, limit)))


def _share(theirs: Numbers, limit: float) -> float:
    """Give the share of sorted gaps below `limit`, interpolated: what `np.quantile` takes to give `limit` again."""
    values, first, counts = np.unique(theirs, return_index=True, return_counts=True)
    places = (first + (counts - 1) / 2) / max(theirs.size - 1, 1)
    return float(np.interp(limit, values, places, left=0.0, right=1.0))


def _quantiles(measured: pl.DataFrame, reference: Reference) -> Ends:
    if reference.rows is None:
        return reference.quantiles
    low, high = (_share(_positive(measured["reference"]), limit) for limit in ARMORM_WINDOW)
    return low, high


def _interval(measured: pl.DataFrame, reference: Reference) -> tuple[Ends, Ends]:
    """Give a 95 % interval of each end: percentiles over samples of the prompts, drawn with replacement."""
    prompts = [rows.select("gap", "reference").to_numpy() for rows in measured.partition_by("prompt_id")]
    draw = np.random.default_rng(_SEED)
    samples = (
        np.concatenate([prompts[n] for n in draw.integers(len(prompts), size=len(prompts))]) for _ in range(_DRAWS)
    )
    ends = [window for sample in samples if (window := _ends(sample[:, 0], sample[:, 1], reference))]
    (low, lower), (high, higher) = ((float(f"{e:.3g}") for e in q) for q in np.quantile(ends, [0.025, 0.975], axis=0).T)
    return (low, lower), (high, higher)


def _positive(gap: pl.Series) -> Numbers:
    return np.sort(gap.filter(gap > 0).to_numpy())


def _bars(found: Numbers, high: float) -> tuple[tuple[float, float | None, int], ...]:
    edges = np.linspace(0.0, high * _WIDER, BARS + 1)
    counts = np.histogram(found, edges)[0].tolist()
    bars = [(float(a), float(b), n) for a, b, n in zip(edges, edges[1:], counts, strict=False)]
    return (*bars, (float(edges[-1]), None, found.size - sum(counts)))


def _notes(measured: pl.DataFrame, reference: Reference, count: int) -> list[str]:
    notes = []
    if reference is PUBLISHED:
        notes.append(
            f"The quantiles are a weak guess, from five published gaps: give {ARMORM}'s scores of the same responses "
            "with --reference, or quantiles of your own."
        )
    if count < SMALL:
        notes.append(f"Only {count} gaps: both ends are rough, as their 95 % intervals say; score more responses.")
    for name, limit, share in zip(("lower", "upper"), ARMORM_WINDOW, _quantiles(measured, reference), strict=True):
        if reference.rows is not None and share in {0.0, 1.0}:
            notes.append(f"{limit} lies beyond ArmoRM's gaps: the {name} end was set in proportion to the nearest one.")
    return notes


def _nothing(model: str, reference: Reference, own: pl.DataFrame, *, checked: bool) -> str:
    if reference.rows is not None and own.filter(pl.col("gap") > 0).height:
        return f"{reference.origin}: has no gap above 0 on the pairs of {model}: both must score the same responses."
    what = "a right response that scores above a wrong one" if checked else "two responses that score differently"
    return f"{model}: no prompt has {what}, of one source model and with different texts: score more responses."
