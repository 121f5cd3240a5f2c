"""Which prompts feed SFT and which DPO, and which rows are held out: by hashes of prompt ids, never by row order."""

from collections.abc import Sequence

import polars as pl

from fusedata.recipe import Split
from fusedata.schema import rank
from fusedata.select import Selection


def assign(prompts: pl.DataFrame, selection: Selection, split: Split, seed: int) -> pl.DataFrame:
    """Give each prompt its place.

    Takes `prompts` (prompt_id, corpus, …), one row a prompt. Returns prompt_id, corpus, `sft` and `dpo` (does the
    prompt feed that dataset), `sft_reason` and `pair_reason` (null where there is a row), and `dropped`: the reason of
    a prompt that feeds neither. Prompts in = prompts that feed a dataset + prompts dropped.
    """
    places = prompts.select("prompt_id", "corpus").join(selection.reasons, on="prompt_id", how="left")
    unanswered = ~pl.col("prompt_id").is_in(selection.reasons["prompt_id"].implode())
    reasons = (pl.when(unanswered).then(pl.lit("no response")).otherwise(pl.col(c)).alias(c) for c in _REASONS)
    has_sft = pl.col("prompt_id").is_in(selection.sft["prompt_id"].implode())
    has_pair = pl.col("prompt_id").is_in(selection.pairs["prompt_id"].implode())
    places = places.with_columns(*reasons, sft=has_sft, dpo=has_pair).sort("prompt_id")
    placed = _ORDERS[split.order](places, split, seed)
    reason = pl.coalesce("pair_reason" if split.order == "ratio" else "sft_reason", *_REASONS)
    return placed.with_columns(dropped=pl.when(~pl.col("sft") & ~pl.col("dpo")).then(reason))


_REASONS = ("sft_reason", "pair_reason")


def _pairs_first(places: pl.DataFrame, _split: Split, _seed: int) -> pl.DataFrame:
    return places.with_columns(sft=pl.col("sft") & ~pl.col("dpo"))


def _shared(places: pl.DataFrame, _split: Split, _seed: int) -> pl.DataFrame:
    return places


def _ratio(places: pl.DataFrame, split: Split, seed: int) -> pl.DataFrame:
    """Share out the prompts that have a pair: the first `int(sft * N)` of each corpus, by hash, to SFT.

    Where no pairs are asked for (neither a pair nor a reason against one), every prompt with an SFT row feeds SFT.
    """
    order = pl.Series(rank("split", seed, places["prompt_id"]), dtype=pl.UInt64)
    position = pl.when("dpo").then("order").rank("ordinal").over("corpus")
    count = pl.col("dpo").sum().over("corpus")
    to_sft = pl.col("dpo") & (position <= (count * split.sft).cast(pl.Int64))
    pairless = pl.col("sft") & ~pl.col("dpo") & pl.col("pair_reason").is_null()
    placed = places.with_columns(order=order).with_columns(sft=to_sft | pairless, dpo=pl.col("dpo") & ~to_sft)
    return placed.drop("order")


_ORDERS = {"pairs_first": _pairs_first, "ratio": _ratio, "shared": _shared}


def held_out(datasets: Sequence[pl.Series], share: float, seed: int) -> pl.Series:
    """Give the prompt ids held out as `test`, from all datasets alike: those whose hash lies below `share`.

    Where a dataset has none of them, its lowest prompt is held out too; where it has nothing else, only its lowest is.
    Otherwise a prompt keeps its place when others come or go. The one row of a dataset is never held out.
    """
    ids = pl.concat(datasets).unique().sort()
    order = dict(zip(ids, rank("test", seed, ids), strict=True))
    alone = {dataset[0] for dataset in datasets if len(dataset) == 1}
    test = {prompt for prompt, number in order.items() if number < int(share * 2**64)} - alone
    for own in (set(dataset) for dataset in datasets if share and len(dataset) > 1):
        if own <= test:
            test -= own
        if not own & test:
            test.add(min(own - alone, key=order.__getitem__))
    return pl.Series("test", sorted(test), dtype=pl.String)
