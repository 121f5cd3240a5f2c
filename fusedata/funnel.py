"""Where prompts went, counted from `Datasets.places`: for cards and reports. Pure."""

import polars as pl

from fusedata.recipe import Recipe


def composition(places: pl.DataFrame, recipe: Recipe) -> list[dict[str, object]]:
    """Count prompts, SFT rows, pairs and dropped prompts of each corpus of the recipe."""
    counts = places.group_by("corpus").agg(
        pl.len().alias("prompts"),
        sft=pl.col("sft_rows").sum(),
        dpo=pl.col("pairs").sum(),
        dropped=pl.col("dropped").count(),
    )
    found = {row["corpus"]: row for row in counts.iter_rows(named=True)}
    none = {"prompts": 0, "sft": 0, "dpo": 0, "dropped": 0}
    return [{**none, **found.get(c.id, {}), "corpus": c.id, "license": c.license} for c in recipe.corpora]


def dropped(places: pl.DataFrame) -> list[tuple[str, str, int]]:
    """Count, a corpus, why prompts gave no row, and why they gave an SFT row and no pair: corpus, what, how many."""
    counts = places.filter(pl.col("dropped").is_not_null()).group_by("corpus", "dropped").len()
    counted = [
        (corpus, f"no row: {reason}", count) for corpus, reason, count in counts.sort("corpus", "dropped").rows()
    ]
    pairs = places.filter("sft", pl.col("pair_reason").is_not_null()).group_by("corpus", "pair_reason").len()
    return counted + [(c, f"SFT and no pair: {r}", n) for c, r, n in pairs.sort("corpus", "pair_reason").rows()]
