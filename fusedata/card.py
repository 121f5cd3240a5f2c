"""The dataset card: everything it states comes from the recipe and the rows. Pure: no file, clock or network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import yaml
from jinja2 import Environment, StrictUndefined

from fusedata import __version__
from fusedata.publish.folder import Written, features
from fusedata.recipe import Recipe

Difference = tuple[str, object, object]
_BINS = 9
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


@dataclass(frozen=True)
class Facts:
    """What both cards of a build state: the recipe in force, what it replaced, the funnel and where prompts went."""

    recipe: Recipe
    profile: str
    stand_ins: Sequence[Difference]
    funnel: Sequence[tuple[str, str, int]]
    places: pl.DataFrame


def render(template: str, kind: str, rows: pl.DataFrame, data: Mapping[str, Written], facts: Facts) -> str:
    """Write the card of the dataset `kind` ("sft", "dpo").

    `rows` are all its rows with their column `test`; `data` tells each split as it was written.
    """
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701 - Markdown, not HTML
    environment.filters |= {"thousands": _thousands, "cell": _cell}
    return environment.from_string(template).render(
        kind=kind,
        front_matter=yaml.safe_dump(_front_matter(kind, rows, data, facts), sort_keys=False, allow_unicode=True),
        pretty_name=_pretty_name(kind, facts.recipe),
        description=facts.recipe.description,
        recipe=facts.recipe,
        profile=facts.profile,
        stand_ins=facts.stand_ins,
        splits={split: entry.rows for split, entry in data.items()},
        version=__version__,
        rules=_rules(kind, facts.recipe),
        funnel=[*facts.funnel, *_dropped(facts.places)],
        composition=_composition(facts),
        models=_models(rows, facts.recipe),
        histogram=_histogram(kind, rows),
        licenses=_licenses(rows, facts.recipe),
        unlicensed=_unlicensed(rows, facts.recipe),
        limits=_limits(facts),
    )


def _thousands(count: int) -> str:
    return f"{count:,}"


def _cell(value: object) -> str:
    text = "-" if value is None else f"`{value}`" if not isinstance(value, dict) else f"`{value.get('id', value)}`"
    return text.replace("|", "\\|").replace("\n", " ")


def _pretty_name(kind: str, recipe: Recipe) -> str:
    return f"{recipe.name} {kind.upper()} data"


def _front_matter(kind: str, rows: pl.DataFrame, data: Mapping[str, Written], facts: Facts) -> dict[str, Any]:
    splits = [{"name": s, "num_bytes": e.size, "num_examples": e.rows} for s, e in data.items()]
    licenses = {corpus.license or "unknown" for corpus in facts.recipe.corpora}
    return {
        "pretty_name": _pretty_name(kind, facts.recipe),
        "license": licenses.pop() if len(licenses) == 1 else "other",
        "language": list(facts.recipe.languages),
        "task_categories": ["text-generation"],
        "size_categories": [next((name for limit, name in _SIZES if rows.height < limit), "1M<n<10M")],
        "source_datasets": [corpus.id for corpus in facts.recipe.corpora],
        "tags": ["fusedata", "implicit-model-fusion", "preference" if kind == "dpo" else "sft", facts.recipe.name],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": s, "path": f"data/{s}-*.parquet"} for s in data],
            }
        ],
        "dataset_info": {
            "config_name": "default",
            "features": features(rows.drop("test").schema),
            "splits": splits,
            "download_size": sum(entry.download for entry in data.values()),
            "dataset_size": sum(entry.size for entry in data.values()),
        },
    }


def _rules(kind: str, recipe: Recipe) -> list[str]:
    """State in sentences what the recipe's selection rules did."""
    passing = "judged right by the corpus's gold answer" if recipe.correctness else "sampled or carried"
    best = f"the highest reward by {recipe.reward.model}" if recipe.reward else "the first by model name"
    lines = [f"SFT: of the responses {passing}, the one with {best}."]
    if recipe.dpo:
        within = "within one source model" if recipe.dpo.same_source_model else "over all source models"
        against = "the lowest reward among those judged wrong" if recipe.correctness else "the lowest reward"
        gap = recipe.dpo.reward_gap
        window = f", the gap between {gap[0]} and {gap[1]}, both inclusive" if gap else ""
        lines.append(f"DPO: chosen is that response, rejected the one with {against}, {within}{window}.")
    lines.append(
        f"Order of the split: `{recipe.split.order}`; {recipe.split.test:.0%} held out by a hash of the prompt."
    )
    return lines if kind == "dpo" or not recipe.dpo else [lines[0], lines[-1]]


def _dropped(places: pl.DataFrame) -> list[tuple[str, str, int]]:
    counts = (
        places.filter(pl.col("dropped").is_not_null()).group_by("corpus", "dropped").len().sort("corpus", "dropped")
    )
    counted = [(corpus, f"no row: {reason}", count) for corpus, reason, count in counts.iter_rows()]
    pairs = places.filter("sft", pl.col("pair_reason").is_not_null()).group_by("corpus", "pair_reason").len()
    return counted + [(c, f"SFT and no pair: {r}", n) for c, r, n in pairs.sort("corpus", "pair_reason").iter_rows()]


def _composition(facts: Facts) -> list[dict[str, object]]:
    counts = facts.places.group_by("corpus").agg(
        pl.len().alias("prompts"), pl.col("sft", "dpo").sum(), pl.col("dropped").count()
    )
    found = {row["corpus"]: row for row in counts.iter_rows(named=True)}
    none = {"prompts": 0, "sft": 0, "dpo": 0, "dropped": 0}
    return [{**none, **found.get(c.id, {}), "corpus": c.id, "license": c.license} for c in facts.recipe.corpora]


def _models(rows: pl.DataFrame, recipe: Recipe) -> list[dict[str, object]]:
    counts = dict(rows["source_model"].value_counts().iter_rows())
    sampled = [{**model.model_dump(), "rows": counts.get(model.id, 0)} for model in recipe.source_models]
    sampling = dict.fromkeys(("samples", "temperature", "top_p", "repetition_penalty", "max_tokens"), "carried")
    carried = {c.responses.source_model: c.responses.license for c in recipe.corpora if c.responses}
    return sampled + [{"id": i, "license": ls, **sampling, "rows": counts.get(i, 0)} for i, ls in carried.items()]


def _histogram(kind: str, rows: pl.DataFrame) -> dict[str, object] | None:
    values = rows["chosen_reward"] - rows["rejected_reward"] if kind == "dpo" else rows["reward"]
    values = values.drop_nulls()
    title = "Reward gap, chosen minus rejected" if kind == "dpo" else "Reward"
    return {"title": title, "bins": bins(values, _BINS)} if len(values) else None


def bins(values: pl.Series, count: int) -> list[tuple[str, str, int]]:
    """Count `values` (not empty) in `count` equal bins from the lowest to the highest: (from, to, rows)."""
    low, high = float(values.min()), float(values.max())  # type: ignore[arg-type]
    width = (high - low) / count or 1.0
    places = ((values - low) / width).cast(pl.Int64).clip(0, count - 1)
    found = dict(places.value_counts().iter_rows())
    edges = [low + width * i for i in range(count + 1)]
    return [(f"{edges[i]:.4f}", f"{edges[i + 1]:.4f}", found.get(i, 0)) for i in range(count)]


def _of_rows(rows: pl.DataFrame, recipe: Recipe) -> list[tuple[str, str | None]]:
    """Each corpus and model behind a row, with the licence that the recipe states for it."""
    corpora = [(c.id, c.license) for c in recipe.corpora if c.id in set(rows["corpus"])]
    carried = [(c.responses.source_model, c.responses.license) for c in recipe.corpora if c.responses]
    models = carried + [(m.id, m.license) for m in recipe.source_models]
    return corpora + [(i, ls) for i, ls in dict(models).items() if i in set(rows["source_model"])]


def _licenses(rows: pl.DataFrame, recipe: Recipe) -> list[str]:
    return [f"{name}: {license_}" for name, license_ in _of_rows(rows, recipe) if license_]


def _unlicensed(rows: pl.DataFrame, recipe: Recipe) -> str:
    unknown = [name for name, license_ in _of_rows(rows, recipe) if not license_]
    return f"The recipe states no licence for {', '.join(unknown)}: ask before you use these rows." if unknown else ""


def _limits(facts: Facts) -> list[str]:
    recipe = facts.recipe
    lines = ["Not checked for contamination with benchmarks."]
    if recipe.correctness:
        lines.append("A right final answer does not make every step of a response right.")
    if recipe.reward:
        lines.append(f"Rewards are those of {recipe.reward.model}; they compare only with one another.")
    if facts.stand_ins:
        lines.append("Stand-ins wrote and scored these rows: do not train a model that matters on them.")
    return lines
