"""The dataset card: everything it states comes from the recipe and the rows. Pure: no file, clock or network."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import PurePath
from typing import Any

import polars as pl
import yaml
from jinja2 import Environment, StrictUndefined

from fusedata import __version__
from fusedata.card_parts import examples, pictures, verdicts
from fusedata.card_rules import cell, rules
from fusedata.card_words import in_chinese
from fusedata.contamination.report import Report, lines, unchecked
from fusedata.funnel import composition, dropped
from fusedata.licenses import Rollup, Stated, rollup
from fusedata.publish.folder import Written, features
from fusedata.recipe import Recipe
from fusedata.select import near_limits

Difference = tuple[str, object, object]
_BINS = 9
_SIZES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B")
_ENTRY = re.compile(r"(corpora|source_models)\[(.*)\](?:\.([a-z_]+(?:\..+)?))?", re.DOTALL)
_NOUNS = {"corpora": "corpus", "source_models": "source model"}


@dataclass(frozen=True)
class Facts:
    """What both cards of a build state: the recipe in force, what it replaced, the funnel and where prompts went."""

    recipe: Recipe
    profile: str
    stand_ins: Sequence[Difference]
    funnel: Sequence[tuple[str, str, int]]
    places: pl.DataFrame
    revisions: Mapping[str, str] = field(default_factory=dict)
    """The exact state of each corpus and model, by id: a hub's commit, or a digest of the files."""
    reward_tolerance: float = 0.0
    """The most that the shape of a batch moves a reward."""
    contamination: Report | None = None
    """What the prompts were held against; None: nothing."""
    self_test: str = ""
    """What the reward model's self-test found; "" where it has none."""


def render(
    template: str,
    kind: str,
    rows: pl.DataFrame,
    data: Mapping[str, Written],
    facts: Facts,
    sums: Mapping[str, str] | None = None,
    whole: pl.DataFrame | None = None,
) -> str:
    """Write the card of the dataset `kind` ("sft", "dpo"), in the language of the template.

    `rows` are all its rows with their column `test`; `data` tells each split as it was written, `sums` the SHA-256 of
    each of its files. Where `rows` are without texts, `whole` are those with them that are `shown`.
    """
    whole = rows if whole is None else whole
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701 - Markdown, not HTML
    environment.filters |= {"thousands": _thousands, "cell": cell, "in_chinese": in_chinese}
    return environment.from_string(template).render(
        kind=kind,
        front_matter=yaml.safe_dump(_front_matter(kind, rows, whole, data, facts), sort_keys=False, allow_unicode=True),
        pretty_name=_pretty_name(kind, facts.recipe),
        description=facts.recipe.description,
        recipe=facts.recipe,
        profile=facts.profile,
        stand_ins=_stand_ins(facts.stand_ins),
        splits={split: entry.rows for split, entry in data.items()},
        version=__version__,
        rules=rules(kind, facts.recipe),
        funnel=[*facts.funnel, *dropped(facts.places)],
        composition=composition(facts.places, facts.recipe),
        revisions=facts.revisions,
        models=_models(rows, facts.recipe),
        histogram=_histogram(kind, rows),
        pictures=list(pictures(kind, rows, facts.recipe)),
        examples=examples(whole, facts.recipe.seed),
        verdicts=verdicts(rows),
        licences=licences(rows, facts.recipe),
        contamination=facts.contamination,
        decontamination=lines(facts.contamination),
        unchecked=unchecked(facts.contamination),
        weighted="weight" in rows.columns,
        tolerance=facts.reward_tolerance,
        self_test=facts.self_test,
        near=_near(kind, rows, facts),
        sums=sums or {},
        limits=_limits(kind, rows, facts),
    )


def licences(rows: pl.DataFrame, recipe: Recipe) -> Rollup:
    """Roll up the licences of the corpora and the models behind the rows, and of the reward model that ranked them."""
    corpora, models = _of_rows(rows, recipe)
    return rollup(corpora, models, (recipe.reward.model, recipe.reward.license) if recipe.reward else None)


def _thousands(count: int) -> str:
    return f"{count:,}"


def _stand_ins(differences: Sequence[Difference]) -> list[str]:
    """Say in a line for each corpus, each source model and each table of the recipe what replaced what."""
    groups = groupby(((_place(key), before, after) for key, before, after in differences), key=lambda d: d[0][0])
    return [_replacement(what, [(field, *values) for (_, field), *values in group]) for what, group in groups]


def _place(key: str) -> tuple[str, str]:
    """Split a dotted key into the thing that differs and its field, "" where it differs as a whole."""
    entry = _ENTRY.fullmatch(key)
    if entry:
        return f"{_NOUNS[entry[1]]} {cell(entry[2])}", entry[3] or ""
    table, _, field = key.partition(".")
    return table, field


def _replacement(what: str, fields: list[Any]) -> str:
    (field, before, after), *more = fields
    if not field and not more and (before is None or after is None):
        return f"{what}: {'added' if before is None else 'left out'}"
    changes = (f"{name} {_value(name, old)} → {_value(name, new)}".strip() for name, old, new in fields)
    return f"{what}: {'; '.join(changes)}"


def _value(field: str, value: object) -> str:
    """Write a value; of a path on this machine only the last part."""
    if field == "path" and isinstance(value, str):
        return cell(published_path(value))
    return "none" if value is None else cell(value)


def published_path(path: str) -> str:
    """Give what may be published of a corpus's path: all of an embedded one, else the last part."""
    return path if path.startswith("embedded:") else PurePath(path).name


def _pretty_name(kind: str, recipe: Recipe) -> str:
    return f"{recipe.name} {kind.upper()} data"


def _front_matter(
    kind: str, rows: pl.DataFrame, whole: pl.DataFrame, data: Mapping[str, Written], facts: Facts
) -> dict[str, Any]:
    used = set(rows["corpus"].unique())
    return {
        "pretty_name": _pretty_name(kind, facts.recipe),
        **licences(rows, facts.recipe).tag,
        "language": list(facts.recipe.languages),
        "task_categories": ["text-generation"],
        "size_categories": [size_category(rows.height)],
        "source_datasets": [corpus.id for corpus in facts.recipe.corpora if corpus.id in used],
        "tags": ["fusedata", "implicit-model-fusion", "preference" if kind == "dpo" else "sft", facts.recipe.name],
        **data_entries(whole, data),
    }


def data_entries(rows: pl.DataFrame, data: Mapping[str, Written]) -> dict[str, Any]:
    """Give the front matter that tells a hub where each split lies, and what its columns are: those of `rows`."""
    return {
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": s, "path": f"data/{s}-*.parquet"} for s in data],
            }
        ],
        "dataset_info": {
            "config_name": "default",
            "features": features(rows.drop("test").schema),
            "splits": [{"name": s, "num_bytes": e.size, "num_examples": e.rows} for s, e in data.items()],
            "download_size": sum(entry.download for entry in data.values()),
            "dataset_size": sum(entry.size for entry in data.values()),
        },
    }


def size_category(rows: int) -> str:
    """Name the hub's size category of a number of rows."""
    power = max(0, len(str(rows)) - 3)
    if power == 0:
        return f"n<{_SIZES[0]}"
    return f"{_SIZES[power - 1]}<n<{_SIZES[power]}" if power < len(_SIZES) else f"n>{_SIZES[-1]}"


def _models(rows: pl.DataFrame, recipe: Recipe) -> list[dict[str, object]]:
    counts = Counter[str]()
    for models, count in _writers(rows):
        counts.update(dict.fromkeys(models, count))
    sampled = [{**model.model_dump(), "rows": counts[model.id]} for model in recipe.source_models]
    sampling = dict.fromkeys(("samples", "temperature", "top_p", "repetition_penalty", "max_tokens"), "carried")
    carried = dict.fromkeys((c.responses.source_model, c.responses.license) for c in recipe.corpora if c.responses)
    return sampled + [{"id": i, "license": ls, **sampling, "rows": counts[i]} for i, ls in carried]


def _histogram(kind: str, rows: pl.DataFrame) -> dict[str, object] | None:
    values = rows["chosen_reward"] - rows["rejected_reward"] if kind == "dpo" else rows["reward"]
    values = values.drop_nulls()
    title = "Reward gap, chosen minus rejected" if kind == "dpo" else "Reward"
    return {"title": title, "bins": bins(values, _BINS)} if len(values) else None


def bins(values: pl.Series, count: int) -> list[tuple[str, str, int]]:
    """Count finite `values` (not empty) in `count` equal bins from the lowest to the highest: (from, to, rows).

    Equal values are one bin.
    """
    low, high = float(values.min()), float(values.max())  # type: ignore[arg-type]
    if low == high:
        return [(f"{low:.4f}", f"{high:.4f}", len(values))]
    places = ((values - low) / (high - low) * count).cast(pl.Int64).clip(0, count - 1)
    found = dict(places.value_counts().iter_rows())
    edges = [low + (high - low) * i / count for i in range(count + 1)]
    return [(f"{edges[i]:.4f}", f"{edges[i + 1]:.4f}", found.get(i, 0)) for i in range(count)]


def _writers(rows: pl.DataFrame) -> list[tuple[set[str], int]]:
    """Give the models that wrote the responses of a row, and how many rows there are of them together."""
    columns = [name for name in ("source_model", "rejected_source_model") if name in rows.columns]
    return [(set(models), count) for *models, count in rows.group_by(columns).len().iter_rows()]


def _of_rows(rows: pl.DataFrame, recipe: Recipe) -> tuple[list[Stated], list[Stated]]:
    """Each corpus behind a row and each model that wrote one, with the licences that the recipe states for them."""
    corpora, writers = set(rows["corpus"].unique()), {model for models, _ in _writers(rows) for model in models}
    carried = [(c.responses.source_model, c.responses.license) for c in recipe.corpora if c.responses]
    models = dict(carried + [(m.id, m.license) for m in recipe.source_models])
    return [(c.id, c.license) for c in recipe.corpora if c.id in corpora], [
        m for m in models.items() if m[0] in writers
    ]


_LIMITS = {
    "math_answer": "A right final answer does not make every step of a response right.",
    "unit_tests": "Tests are examples: a program that passes them may be wrong elsewhere, and its prose anywhere.",
}


def _near(kind: str, rows: pl.DataFrame, facts: Facts) -> int | None:
    """Count the pairs that noise could put outside the window; None where nothing can."""
    recipe = facts.recipe
    if kind != "dpo" or not recipe.dpo or not recipe.dpo.reward_gap or not facts.reward_tolerance:
        return None
    return near_limits(rows, recipe.dpo, facts.reward_tolerance)


def _limits(kind: str, rows: pl.DataFrame, facts: Facts) -> list[str]:
    recipe, near = facts.recipe, _near(kind, rows, facts)
    held = facts.contamination is not None and bool(facts.contamination.checked)
    known = [] if held else ["Not checked for contamination with benchmarks."]
    if recipe.correctness:
        known.append(_LIMITS[recipe.correctness.check])
    if recipe.reward:
        known.append(f"Rewards are those of {cell(recipe.reward.model)}; they compare only with one another.")
    if near is not None:
        known.append(
            f"{near:,} of {rows.height:,} pairs lie within {2 * facts.reward_tolerance:g} of an end of the window, "
            "twice what the shape of a batch can move a reward: scored again, they may fall outside."
        )
    if facts.stand_ins:
        known.append("Stand-ins wrote and scored these rows: do not train a model that matters on them.")
    return known
