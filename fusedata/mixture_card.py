"""The card of a mixture: what its recipes add up to. Pure; the recipes' own cards, which go with it, say the rest."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import polars as pl
import yaml
from jinja2 import Environment, StrictUndefined

from fusedata import __version__
from fusedata.card import data_entries, size_category
from fusedata.card_rules import cell
from fusedata.dataset import Datasets
from fusedata.licenses import Rollup, rollup
from fusedata.mixture import Mixture
from fusedata.publish.folder import Written
from fusedata.recipe import Recipe

Licences = dict[str, str | None]


@dataclass(frozen=True)
class Whole:
    """The datasets of a mixture, as they are published, and what they were put together from.

    `sft`, `dpo`: rows with a first column `recipe` and a last column `test`. `recipes`, `parts`: for each recipe the
    one in force, and its own datasets; `repeated`: how many of its prompts were left to an earlier recipe.
    """

    mixture: Mixture
    profile: str
    recipes: Mapping[str, Recipe]
    parts: Mapping[str, Datasets]
    repeated: Mapping[str, int]
    stand_ins: Collection[str]
    """The recipes that the profile changed."""
    sft: pl.DataFrame
    dpo: pl.DataFrame


def card_of(recipe: str) -> str:
    """Where a recipe's own card lies in the folder of the whole dataset."""
    return f"recipes/{recipe}/README.md"


def render(template: str, kind: str, whole: Whole, data: Mapping[str, Written]) -> str:
    """Write the card of the dataset `kind` ("sft", "dpo"); `data` tells each split as it was written."""
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701 - Markdown, not HTML
    environment.filters |= {"thousands": "{:,}".format, "cell": cell}
    rows: pl.DataFrame = getattr(whole, kind)
    counts = [_counts(kind, name, whole) for name in whole.recipes]
    found = licences_of(rows, whole)
    return environment.from_string(template).render(
        kind=kind,
        front_matter=yaml.safe_dump(_front_matter(kind, whole, data), sort_keys=False, allow_unicode=True),
        pretty_name=_pretty_name(kind, whole),
        description=whole.mixture.description,
        profile=whole.profile,
        stand_ins=[cell(name) for name in whole.stand_ins],
        splits={split: entry.rows for split, entry in data.items()},
        version=__version__,
        recipes=counts,
        together={key: sum(row[key] for row in counts) for key in ("prompts", "dropped", "repeated", "sft", "dpo")},
        composition=_composition(rows, whole),
        warnings=[*found.conflicts, *found.forbids_publishing],
        licenses={name: licence for side in _licences(rows, whole) for name, licence in side.items()},
    )


def licences_of(rows: pl.DataFrame, whole: Whole) -> Rollup:
    """Roll up the licences of the corpora and models behind the rows of the whole."""
    corpora, models = _licences(rows, whole)
    return rollup(corpora.items(), models.items())


def _pretty_name(kind: str, whole: Whole) -> str:
    return f"{whole.mixture.name} {kind.upper()} data"


def _front_matter(kind: str, whole: Whole, data: Mapping[str, Written]) -> dict[str, object]:
    rows: pl.DataFrame = getattr(whole, kind)
    corpora, _ = _licences(rows, whole)
    return {
        "pretty_name": _pretty_name(kind, whole),
        **licences_of(rows, whole).tag,
        "language": list(dict.fromkeys(code for recipe in whole.recipes.values() for code in recipe.languages)),
        "task_categories": ["text-generation"],
        "size_categories": [size_category(rows.height)],
        "source_datasets": list(corpora),
        "tags": ["fusedata", "implicit-model-fusion", "preference" if kind == "dpo" else "sft", whole.mixture.name],
        **data_entries(rows, data),
    }


def _counts(kind: str, name: str, whole: Whole) -> dict[str, object]:
    """Count a recipe: prompts = those that gave no row + those left to an earlier recipe + those with rows here."""
    part, ours = whole.parts[name], pl.col("recipe") == name
    return {
        "recipe": name,
        "prompts": part.places.height,
        "dropped": part.places["dropped"].count(),
        "repeated": whole.repeated[name],
        "sft": whole.sft.filter(ours).height,
        "dpo": whole.dpo.filter(ours).height,
        "card": card_of(name) if getattr(part, kind).height else None,
    }


def _composition(rows: pl.DataFrame, whole: Whole) -> list[tuple[str, str, str, int]]:
    counts = rows.group_by("recipe", "corpus", "source_model").len()
    order = pl.col("recipe").cast(pl.Enum(list(whole.recipes)))
    return counts.sort(order, "corpus", "source_model").rows()


def _licences(rows: pl.DataFrame, whole: Whole) -> tuple[Licences, Licences]:
    """Give the corpora and the models behind the rows, each with the licence that the recipes state for it."""
    writers = [name for name in ("source_model", "rejected_source_model") if name in rows.columns]
    used = {name: set(rows[name]) for name in ("corpus", *writers)}
    corpora: Licences = {}
    models: Licences = {}
    for recipe in whole.recipes.values():
        corpora |= {corpus.id: corpus.license for corpus in recipe.corpora if corpus.id in used["corpus"]}
        carried = [(c.responses.source_model, c.responses.license) for c in recipe.corpora if c.responses]
        stated = [*carried, *((model.id, model.license) for model in recipe.source_models)]
        models |= {model: licence for model, licence in stated if any(model in used[name] for name in writers)}
    return corpora, models
