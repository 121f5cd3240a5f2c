"""Which prompts feed SFT and which DPO, and which rows are held out: by hashes of prompt ids, never by row order."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from fusedata.recipe import Recipe
from fusedata.rules import Split
from fusedata.schema import rank
from fusedata.select import Selection


def assign(prompts: pl.DataFrame, selection: Selection, split: Split, seed: int) -> pl.DataFrame:
    """Give each prompt its place.

    Takes `prompts` (prompt_id, corpus, …), one row a prompt. Returns prompt_id, corpus, `sft` and `dpo` (does the
    prompt feed that dataset), `sft_rows` and `pairs` (how many rows it feeds them), `sft_reason` and `pair_reason`
    (null where there is a row), and `dropped`: the reason of a prompt that feeds neither. Prompts in = prompts that
    feed a dataset + prompts dropped.
    """
    answered = selection.reasons.with_columns(answered=pl.lit(value=True))
    places = prompts.select("prompt_id", "corpus").join(answered, on="prompt_id", how="left")
    for rows, column in ((selection.sft, "sft_rows"), (selection.pairs, "pairs")):
        places = places.join(rows.group_by("prompt_id").agg(pl.len().alias(column)), on="prompt_id", how="left")
    reasons = (pl.when("answered").then(c).otherwise(pl.lit("no response")).alias(c) for c in _REASONS)
    has_sft, has_pair = pl.col("sft_rows").is_not_null(), pl.col("pairs").is_not_null()
    places = places.with_columns(*reasons, sft=has_sft, dpo=has_pair).sort("prompt_id")
    among = {"ratio": pl.col("dpo"), "random": pl.lit(value=True)}.get(split.order)
    first = pl.lit(value=False) if among is None else _first(places, among, split, seed)
    sft, dpo, why = _ORDERS[split.order]
    placed = places.with_columns(first=first).with_columns(sft=sft, dpo=dpo, why=why)
    dropped = pl.when(~pl.col("sft") & ~pl.col("dpo")).then(pl.coalesce("why", *_REASONS))
    fed = (pl.when(to).then(rows).otherwise(0).alias(rows) for to, rows in (("sft", "sft_rows"), ("dpo", "pairs")))
    return placed.select("prompt_id", "corpus", *_REASONS, "sft", "dpo", *fed, dropped=dropped)


_REASONS = ("sft_reason", "pair_reason")
_PAIRLESS = pl.col("sft") & ~pl.col("dpo") & pl.col("pair_reason").is_null()
"""Where no pairs are asked for there is neither a pair nor a reason against one."""

_IS_FIRST = pl.col("first")
_ORDERS = {
    "pairs_first": (pl.col("sft") & ~pl.col("dpo"), pl.col("dpo"), pl.col("sft_reason")),
    "ratio": (_IS_FIRST | _PAIRLESS, pl.col("dpo") & ~_IS_FIRST, pl.col("pair_reason")),
    "random": (
        pl.col("sft") & _IS_FIRST,
        pl.col("dpo") & ~_IS_FIRST,
        pl.when(_IS_FIRST).then("sft_reason").otherwise("pair_reason"),
    ),
    "shared": (pl.col("sft"), pl.col("dpo"), pl.col("sft_reason")),
}
"""For each order: which prompts feed SFT, which DPO, and the reason of those that feed neither."""


def _first(prompts: pl.DataFrame, among: pl.Expr, split: Split, seed: int) -> pl.Series:
    """Say which prompts are, of those `among` that count, the first share of their corpus by hash: exactly as many."""
    rows = prompts.with_columns(order=rank("split", seed, prompts["prompt_id"])).select("corpus", "order", among=among)
    counts = rows.filter("among")["corpus"].value_counts().iter_rows()
    quota = {corpus: int(split.share * count) for corpus, count in counts}
    position = pl.when("among").then("order").rank("ordinal").over("corpus")
    allowed = pl.col("corpus").replace_strict(quota, default=0, return_dtype=pl.Int64)
    return rows.select(first=pl.col("among") & (position <= allowed).fill_null(value=False))["first"]


def asked(prompts: pl.DataFrame, recipe: Recipe, source_model: str) -> pl.DataFrame:
    """Give the prompts that a source model answers: those that are sampled, of a target model those that feed DPO."""
    sampled = prompts.filter("sampled")
    if recipe.dpo is None or recipe.dpo.target != source_model:
        return sampled
    first = _first(prompts, pl.lit(value=True), recipe.split, recipe.seed)
    return prompts.filter(~first & pl.col("sampled"))


def held_out(datasets: Sequence[pl.Series], share: float, seed: int) -> pl.Series:
    """Give the prompt ids held out as `test`, from all datasets alike: those whose hash lies below `share`.

    Where a dataset has none of them, its lowest prompt is held out too; where it has nothing else, only its lowest is.
    Otherwise a prompt keeps its place when others come or go. The one prompt of a dataset is never held out. A
    dataset may name a prompt several times.
    """
    marked = [ids.to_frame("test").with_columns(of=pl.lit(1 << n, pl.UInt8)) for n, ids in enumerate(datasets)]
    rows = pl.concat(marked).sort("test")
    starts = rows.select(pl.col("test").ne_missing(pl.col("test").shift()).arg_true()).to_series()
    ids, of = rows["test"].gather(starts), np.bitwise_or.reduceat(rows["of"].to_numpy(), starts.to_numpy())
    order = rank("test", seed, ids).to_numpy()
    everyone = [(of & (1 << n)) != 0 for n in range(len(datasets))]
    alone = np.zeros(len(ids), np.bool_)
    for own in everyone:
        alone |= own & (own.sum() == 1)
    test = (order <= max(int(share * 2**64) - 1, 0)) & (share > 0) & ~alone
    for own in (own for own in everyone if share and own.sum() > 1):
        if not (own & ~test).any():
            test &= ~own
        if not (own & test).any():
            others = np.flatnonzero(own & ~alone)
            test[others[np.argmin(order[others])]] = True
    return ids.filter(pl.Series(test))
