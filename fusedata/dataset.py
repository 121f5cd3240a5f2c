"""The two datasets, SFT and DPO: which responses make them up, by keys and numbers alone, and what their rows hold."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from fusedata.candidates import Tables, candidates
from fusedata.recipe import Recipe
from fusedata.schema import MESSAGES
from fusedata.select import Selection, select
from fusedata.split import assign, held_out

_SIDES = ("chosen", "rejected")
_COMMON = {
    "prompt_id": pl.String(),
    "corpus": pl.String(),
    "corpus_row": pl.Int64(),
    "license": pl.String(),
    "source_model": pl.String(),
}
SFT = pl.Schema(
    {
        **_COMMON,
        "sample": pl.Int32(),
        "messages": MESSAGES,
        "reward": pl.Float64(),
        "verdict": pl.String(),
        "verdict_detail": pl.String(),
        "finish_reason": pl.String(),
        "prompt_tokens": pl.Int32(),
        "completion_tokens": pl.Int32(),
        "tokens": pl.Int32(),
    }
)
_SIDE = {
    "sample": pl.Int32(),
    "reward": pl.Float64(),
    "verdict": pl.String(),
    "verdict_detail": pl.String(),
    "finish_reason": pl.String(),
    "completion_tokens": pl.Int32(),
    "tokens": pl.Int32(),
}
DPO = pl.Schema(
    {
        **_COMMON,
        "rejected_source_model": pl.String(),
        "prompt": MESSAGES,
        "chosen": MESSAGES,
        "rejected": MESSAGES,
        "prompt_tokens": pl.Int32(),
        **{f"{side}_{name}": dtype for side in _SIDES for name, dtype in _SIDE.items()},
    }
)
"""A row is what TRL's DPOTrainer takes: `chosen` and `rejected` hold the turn of the assistant only."""
WEIGHT = {"weight": pl.Float64()}
"""Ends the rows of a dataset with a row a source model: its share of its prompt, 1 in sum."""
OWN = {"chosen_own": MESSAGES, **{f"chosen_own_{name}": dtype for name, dtype in _SIDE.items()}}
"""Follows in a pair of WRPO: the best response of the target model, which also wrote the rejected one
(`rejected_source_model`), in the form of `chosen`: a trainer that knows no third response takes the row as a pair."""
SCHEMAS = {"sft": SFT, "dpo": DPO}
"""The columns that every dataset has; `schemas` gives those of one recipe."""


def schemas(recipe: Recipe) -> dict[str, pl.Schema]:
    """Give the columns that the datasets of a recipe have."""
    own = OWN if recipe.dpo and recipe.dpo.method == "wrpo" else {}
    weighted = {"sft": recipe.sft.per != "prompt", "dpo": recipe.dpo is not None and recipe.dpo.per != "prompt"}
    more = {kind: WEIGHT if weighted[kind] else {} for kind in SCHEMAS}
    return {"sft": pl.Schema({**SFT, **more["sft"]}), "dpo": pl.Schema({**DPO, **own, **more["dpo"]})}


Counts = Mapping[str, Mapping[str, int]]
"""For "sft" and "dpo" the rows of each split."""
Flaws = Sequence[tuple[str, str, int]]
"""How many responses were screened out, by corpus and flaw."""


@dataclass(frozen=True)
class Decided:
    """The datasets before a text is read.

    `keys`: for "sft" and "dpo" the selected rows that go into it, as `select` gives them with LOCATED. `places` says
    where prompts went, as `assign` does; `test` names the prompts that are held out.
    """

    keys: Mapping[str, pl.DataFrame]
    places: pl.DataFrame
    test: pl.Series
    flaws: Flaws


@dataclass(frozen=True)
class Datasets:
    """The datasets as they were written, and where prompts went."""

    places: pl.DataFrame
    flaws: Flaws
    counts: Counts
    read: Callable[[str], pl.DataFrame]
    """Reads the rows of "sft" or "dpo" with a last column `test`, sorted by prompt_id and source model."""

    @cached_property
    def sft(self) -> pl.DataFrame:
        """All SFT rows, read when they are first asked for."""
        return self.read("sft")

    @cached_property
    def dpo(self) -> pl.DataFrame:
        """All DPO rows, read when they are first asked for."""
        return self.read("dpo")


def decide(tables: Tables, recipe: Recipe) -> Decided:
    """Select and split, on keys and numbers alone. Raises RunError."""
    return decided(candidates(tables, located=True), tables, recipe)


def decided(found: pl.DataFrame, tables: Tables, recipe: Recipe) -> Decided:
    """Select and split what was `found`, located candidates."""
    flaws = _flaws(found, tables.prompts)
    selection, places = _placed(found, tables, recipe)
    fed = {"sft": selection.sft, "dpo": selection.pairs}
    keys = {kind: _fed(rows, places, kind) for kind, rows in fed.items()}
    test = held_out([rows["prompt_id"] for rows in keys.values()], recipe.split.test, recipe.seed)
    return Decided(keys, places, test, flaws)


def placed(tables: Tables, recipe: Recipe) -> tuple[pl.DataFrame, Selection, pl.DataFrame]:
    """Select and split, without texts: the candidates, the selection, and where each prompt goes. Raises RunError."""
    found = candidates(tables)
    return found, *_placed(found, tables, recipe)


def _placed(rows: pl.DataFrame, tables: Tables, recipe: Recipe) -> tuple[Selection, pl.DataFrame]:
    selection = select(
        rows,
        checked=recipe.correctness is not None,
        rewarded=recipe.reward is not None,
        dpo=recipe.dpo,
        sft=recipe.sft,
        screened=bool(tables.flaws),
    )
    return selection, assign(tables.prompts, selection, recipe.split, recipe.seed)


def _fed(rows: pl.DataFrame, places: pl.DataFrame, kind: str) -> pl.DataFrame:
    return rows.join(places.filter(kind).select("prompt_id"), on="prompt_id", how="semi", maintain_order="left")


def _flaws(found: pl.DataFrame, prompts: pl.DataFrame) -> list[tuple[str, str, int]]:
    if "flaw" not in found.columns:
        return []
    flawed = found.filter(pl.col("flaw").is_not_null()).select(pl.col("prompt_id").cast(pl.String), "flaw")
    counts = flawed.join(prompts.select("prompt_id", "corpus"), on="prompt_id").group_by("corpus", "flaw").len()
    return counts.sort("corpus", "flaw").rows()


def shaped(kind: str, keys: pl.DataFrame, said: Mapping[str, pl.DataFrame], schema: pl.Schema) -> pl.DataFrame:
    """Give keys of `kind` the columns of `schema`, in order, sorted by prompt_id and source model.

    `said` holds what is known of each side's responses, in the order of the keys: "" of SFT, "chosen" and the others
    of DPO. What is not known is null.
    """
    if kind == "sft":
        turns = pl.concat_list("messages", _turn("text"))
        rows = keys.hstack(said[""]).with_columns(messages=turns)
    else:
        sides = [
            one.select(_turn("text").alias(side), pl.exclude("text").name.prefix(f"{side}_"))
            for side, one in said.items()
        ]
        rows = keys.drop("chosen_reward", "rejected_reward")
        rows = pl.concat([rows, *sides], how="horizontal")
        rows = rows.rename(
            {"messages": "prompt", "chosen_source_model": "source_model", "chosen_prompt_tokens": "prompt_tokens"}
        )
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in rows.columns]
    return rows.with_columns(missing).select(schema.names()).cast(schema).sort("prompt_id", "source_model")


def sides(keys: pl.DataFrame) -> list[str]:
    """Name the responses of a row of DPO: what their columns begin with."""
    return [side for side in (*_SIDES, "chosen_own") if f"{side}_sample" in keys.columns]


def _turn(text: str) -> pl.Expr:
    return pl.concat_list(pl.struct(role=pl.lit("assistant"), content=pl.col(text)))
