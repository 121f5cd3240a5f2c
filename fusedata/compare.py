"""Two releases of a dataset side by side: rows added, removed and changed, and how their numbers moved. A reader."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from fusedata.inspect_ import Opened, last_text
from fusedata.plots import Distribution, distribution
from fusedata.readers import KINDS
from fusedata.schema import MESSAGES

EXAMPLES = 5
_TEXTS = {"sft": ("messages",), "dpo": ("prompt", "chosen", "rejected")}
_NUMBERS = ("reward", "tokens", "chosen_reward", "rejected_reward", "chosen_tokens", "rejected_tokens")


@dataclass(frozen=True)
class Compared:
    """One dataset in two releases, rows matched by prompt (and source model, where a prompt has a row a model).

    `changed` counts, of the rows that both have, those that differ, by column; `any_change` those that differ in any.
    `counts`: rows by split, corpus and source model, before and after. `numbers`: distributions before and after.
    `examples`: prompts added, removed and changed.
    """

    dataset: str
    before: int
    after: int
    added: int
    removed: int
    any_change: int
    changed: Mapping[str, int]
    counts: tuple[tuple[str, str, int, int], ...]
    numbers: Mapping[str, tuple[Distribution, Distribution]]
    examples: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Comparison:
    """Two releases: what they are, and each dataset that either has."""

    before: Path
    after: Path
    datasets: tuple[Compared, ...]


def compare(before: Opened, after: Opened) -> Comparison:
    """Compare the datasets of two releases. Raises RunError where a file cannot be read."""
    kinds = [kind for kind in KINDS if before.has_rows(kind) or after.has_rows(kind)]
    return Comparison(before.root, after.root, tuple(_compared(kind, before, after) for kind in kinds))


def _compared(kind: str, before: Opened, after: Opened) -> Compared:
    first, second = _keyed(before, kind), _keyed(after, kind)
    key = ["_prompt", "_model"] if _dense(first) or _dense(second) else ["_prompt"]
    first, second = (rows.unique(key, keep="first", maintain_order=True) for rows in (first, second))
    added = second.join(first, on=key, how="anti")
    removed = first.join(second, on=key, how="anti")
    both = first.join(second, on=key, how="inner", suffix="_after")
    shared = [c for c in first.columns if c in second.columns and not c.startswith("_")]
    differ = {c: both[c].ne_missing(both[f"{c}_after"]) for c in shared}
    changed = both.filter(pl.any_horizontal(differ.values())) if differ else both.head(0)
    found = {"added": added, "removed": removed, "changed": changed}
    return Compared(
        dataset=kind,
        before=first.height,
        after=second.height,
        added=added.height,
        removed=removed.height,
        any_change=changed.height,
        changed={c: int(rows.sum()) for c, rows in differ.items() if rows.sum()},
        counts=tuple(_counts(first, second)),
        numbers=_numbers(first, second),
        examples={what: tuple(rows["_prompt"].head(EXAMPLES)) for what, rows in found.items()},
    )


def _dense(rows: pl.DataFrame) -> bool:
    return rows["_prompt"].n_unique() < rows.height


def _keyed(source: Opened, kind: str) -> pl.DataFrame:
    """Give the columns that are compared, texts as hashes; a prompt without an id is known by a hash of its turns."""
    if not source.has_rows(kind):
        return pl.DataFrame(schema={"_prompt": pl.String, "_model": pl.String, "split": pl.String})
    frame = source.tables[kind]
    schema = frame.collect_schema()
    hashes = {part: _hash(pl.col(part), schema[part]) for part in _TEXTS[kind] if part in schema}
    plain = [name for name, dtype in schema.items() if not dtype.is_nested() and name not in {*_TEXTS[kind], "row"}]
    asked = pl.col("messages").list.head(pl.col("messages").list.len() - 1) if kind == "sft" else pl.col("prompt")
    prompt = "prompt" if kind == "dpo" else "messages"
    key = pl.col("prompt_id") if "prompt_id" in schema else _hash(asked, schema[prompt]).cast(pl.String)
    model = pl.col("source_model") if "source_model" in schema else pl.lit(None, pl.String)
    chars = {f"_{part} characters": text.str.len_chars() for part, text in _lasts(kind, schema).items()}
    return source.collect(frame.select(*plain, **hashes, **chars, _prompt=key, _model=model))


def _lasts(kind: str, schema: Mapping[str, pl.DataType]) -> dict[str, pl.Expr]:
    named = {"response" if part == "messages" else part: last_text(schema, part) for part in _TEXTS[kind]}
    return {part: text for part, text in named.items() if text is not None}


def _hash(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Hash a text, or turns by their roles and texts."""
    if dtype != MESSAGES:
        return column.cast(pl.String, strict=False).hash() if dtype == pl.String else column.hash()
    turn = pl.element().struct
    return column.list.eval(turn.field("role") + "\0" + turn.field("content")).list.join("\1").hash()


def _counts(first: pl.DataFrame, second: pl.DataFrame) -> list[tuple[str, str, int, int]]:
    counts = []
    for column in ("split", "corpus", "source_model"):
        sides = [dict(rows.group_by(column).len().iter_rows()) if column in rows else {} for rows in (first, second)]
        values = sorted({*sides[0], *sides[1]} - {None})
        counts += [(column, value, sides[0].get(value, 0), sides[1].get(value, 0)) for value in values]
    return counts


def _numbers(first: pl.DataFrame, second: pl.DataFrame) -> dict[str, tuple[Distribution, Distribution]]:
    """Give the distributions that both releases have."""
    found = {}
    for name in (*_NUMBERS, *(c for c in first.columns if c.endswith(" characters"))):
        if name in first and name in second:
            found[name.lstrip("_").replace("_", " ")] = distribution(first[name]), distribution(second[name])
    sides = {"chosen_reward", "rejected_reward"}
    if sides <= set(first.columns) & set(second.columns):
        gaps = [rows["chosen_reward"] - rows["rejected_reward"] for rows in (first, second)]
        found["reward gap"] = distribution(gaps[0]), distribution(gaps[1])
    return {name: pair for name, pair in found.items() if pair[0].bins or pair[1].bins}
