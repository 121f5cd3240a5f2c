"""Parts of a dataset card that are read off the rows: pictures, examples, verdicts. Pure."""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import polars as pl

from fusedata.licenses import Rollup
from fusedata.recipe import Recipe
from fusedata.schema import ranked
from fusedata.svg import Bin, histogram

EXAMPLES = 3
_SHOWN = 700
"""Characters of each text of an example."""
_BINS = 30


def pictures(kind: str, rows: pl.DataFrame, recipe: Recipe) -> dict[str, str]:
    """Draw what the rows have numbers for: SVG texts by file name, the same for the same rows."""
    window = recipe.dpo.reward_gap if recipe.dpo and kind == "dpo" else None
    drawn: dict[str, tuple[str, pl.Series, tuple[float, float] | None, str]]
    if kind == "dpo":
        gap = rows["chosen_reward"] - rows["rejected_reward"]
        longer = rows["chosen_completion_tokens"] - rows["rejected_completion_tokens"]
        drawn = {
            "reward-gap": ("Pairs by reward gap", gap, window, "reward, chosen minus rejected"),
            "length": ("Pairs by difference of length", longer, None, "tokens, chosen minus rejected"),
        }
    else:
        drawn = {
            "reward": ("Rows by reward", rows["reward"], None, "reward"),
            "length": ("Rows by length", rows["completion_tokens"], None, "tokens of the response"),
        }
    binned = {name: (title, _bins(values), shade, unit) for name, (title, values, shade, unit) in drawn.items()}
    return {
        f"images/{name}.svg": histogram(title, found, window=shade, unit=unit, standalone=True) + "\n"
        for name, (title, found, shade, unit) in binned.items()
        if found
    }


def _bins(values: pl.Series) -> list[Bin]:
    numbers = values.cast(pl.Float64).drop_nulls()
    if not len(numbers):
        return []
    low, high = float(numbers.min()), float(numbers.max())  # type: ignore[arg-type]
    if low == high:
        return [(low, high, len(numbers))]
    edges = [low + (high - low) * i / _BINS for i in range(_BINS + 1)]
    places = ((numbers - low) / (high - low) * _BINS).cast(pl.Int64).clip(0, _BINS - 1)
    found = dict(places.value_counts().iter_rows())
    return [(start, end, found.get(i, 0)) for i, (start, end) in enumerate(pairwise(edges))]


def texts(rows: pl.DataFrame) -> list[str]:
    """List the columns of a dataset that hold turns, in their order."""
    return [name for name in ("messages", "prompt", "chosen", "chosen_own", "rejected") if name in rows.columns]


def shown(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Pick the rows that a card shows, by a hash of their prompts."""
    whole = rows.drop_nulls(texts(rows))
    return whole[ranked("card", seed, whole["prompt_id"].fill_null(""))[:EXAMPLES]]


def examples(rows: pl.DataFrame, seed: int) -> list[list[tuple[str, str]]]:
    """Give the texts of the rows that are `shown`: (what it is, text in a fence), cut where they are long."""
    return [_example(texts(rows), row) for row in shown(rows, seed).iter_rows(named=True)]


def _example(parts: Sequence[str], row: Mapping[str, Any]) -> list[tuple[str, str]]:
    said = [(part, turn["role"], turn["content"]) for part in parts for turn in row[part]]
    named = [(role if part in {"prompt", "messages"} else part, text) for part, role, text in said]
    return [(name, _fenced(text)) for name, text in named]


def _fenced(text: str) -> str:
    """Text in a fence that nothing in it can end, cut where it is long."""
    cut = text if len(text) <= _SHOWN else f"{text[:_SHOWN]} […]"
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", cut)), default=0))
    return f"{fence}text\n{cut}\n{fence}"


def verdicts(rows: pl.DataFrame) -> list[tuple[str, str, int]]:
    """Count the verdicts of each side: column, verdict, rows."""
    columns = [name for name in ("verdict", "chosen_verdict", "rejected_verdict") if name in rows.columns]
    counted = [
        (name, rows[name].drop_nulls().value_counts().sort("count", name, descending=[True, False])) for name in columns
    ]
    return [(name, verdict, count) for name, counts in counted for verdict, count in counts.iter_rows()]


def license_file(found: Rollup) -> str:
    """Write LICENSE.md of a dataset folder: which terms apply to its rows, with their addresses."""
    lines = ["# Terms of every source of these rows", ""]
    for one in found.applies:
        told = f"{one.terms.name}, {one.terms.url}" if one.terms else (one.licence or "not stated: ask before use")
        lines.append(f"- {_plain(one.source)} ({one.role}): {_plain(told)}")
        lines += [f"  - {sentence}" for sentence in one.demands]
        lines += [f"  - Not certain: {sentence}" for sentence in (one.terms.unsure if one.terms else ())]
    for title, sentences in (
        ("Cannot be met together", found.conflicts),
        ("Forbids sharing", found.forbids_publishing),
    ):
        lines += ["", f"## {title}", "", *(f"- {_plain(sentence)}" for sentence in sentences)] if sentences else []
    return "\n".join([*lines, "", "A summary, and no legal advice: the texts decide.", ""])


def _plain(text: str) -> str:
    """Foreign text on one line, without what Markdown or HTML reads into it."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split())) if re.search(r"[`*\[\]<>|\n]", text) else text
