"""The two datasets, SFT and DPO: the winners' keys joined with their texts and everything known of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from fusedata.recipe import Recipe
from fusedata.schema import KEY, MESSAGES
from fusedata.select import select
from fusedata.split import assign, held_out
from fusedata.store import Parts, collect

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
SCHEMAS = {"sft": SFT, "dpo": DPO}


@dataclass(frozen=True)
class Tables:
    """The tables of a run, the parts of all sources together."""

    prompts: pl.DataFrame
    responses: Sequence[Parts]
    verdicts: Sequence[Parts]
    rewards: Sequence[Parts]

    def all(self) -> list[Parts]:
        """List every part table, to say which part cannot be read."""
        return [*self.responses, *self.verdicts, *self.rewards]


@dataclass(frozen=True)
class Datasets:
    """`sft` and `dpo`: SFT and DPO rows with a last column `test`, sorted by prompt_id. `places`: what `assign` gives."""

    sft: pl.DataFrame
    dpo: pl.DataFrame
    places: pl.DataFrame


def candidates(tables: Tables) -> pl.LazyFrame:
    """Give every response to one of the prompts with its verdict and reward, without its text."""
    wanted = tables.prompts.lazy().select("prompt_id")
    rows = _together(tables.responses).select(*KEY, "text_id").join(wanted, on="prompt_id", how="semi")
    verdicts = _together(tables.verdicts).select(*KEY, "passed") if tables.verdicts else None
    rewards = _together(tables.rewards).select(*KEY, "reward") if tables.rewards else None
    for scores, column in (
        (verdicts, pl.lit(None, pl.Boolean).alias("passed")),
        (rewards, pl.lit(None, pl.Float64).alias("reward")),
    ):
        rows = rows.with_columns(column) if scores is None else rows.join(scores, on=KEY, how="left")
    return rows


def assemble(tables: Tables, recipe: Recipe) -> Datasets:
    """Select, split and join. Raises RunError where a part cannot be read."""
    checked, rewarded = recipe.correctness is not None, recipe.reward is not None
    found = collect(candidates(tables), tables.all())
    selection = select(found.lazy(), checked=checked, rewarded=rewarded, dpo=recipe.dpo)
    places = assign(tables.prompts, selection, recipe.split, recipe.seed)
    sft = selection.sft.join(places.filter("sft").select("prompt_id"), on="prompt_id", how="semi")
    pairs = selection.pairs.join(places.filter("dpo").select("prompt_id"), on="prompt_id", how="semi")
    rows = _rows(tables, [sft, *(_keys(pairs, side) for side in _SIDES)], recipe)
    sft, dpo = _sft(sft, rows), _dpo(pairs, rows)
    return Datasets(_with_test(sft, recipe), _with_test(dpo, recipe), places)


def _with_test(rows: pl.DataFrame, recipe: Recipe) -> pl.DataFrame:
    return rows.with_columns(test=held_out(rows["prompt_id"], recipe.split.test, recipe.seed))


def _together(tables: Sequence[Parts]) -> pl.LazyFrame:
    return pl.concat([table.scan() for table in tables])


def _keys(pairs: pl.DataFrame, side: str) -> pl.DataFrame:
    return pairs.select("prompt_id", source_model=f"{side}_source_model", sample=f"{side}_sample")


def _rows(tables: Tables, wanted: list[pl.DataFrame], recipe: Recipe) -> pl.DataFrame:
    """Give the wanted responses with texts, scores, verdicts and prompts."""
    keys = pl.concat(wanted).unique().lazy()
    rows = _together(tables.responses).join(keys, on=KEY, how="semi")
    if tables.verdicts:
        verdicts = _together(tables.verdicts).select(*KEY, verdict="status", verdict_detail="detail")
        rows = rows.join(verdicts.join(keys, on=KEY, how="semi"), on=KEY, how="left")
    if tables.rewards:
        rewards = _together(tables.rewards).select(*KEY, "reward", "tokens")
        rows = rows.join(rewards.join(keys, on=KEY, how="semi"), on=KEY, how="left")
    licenses = {corpus.id: corpus.license for corpus in recipe.corpora}
    corpora = pl.LazyFrame(
        {"corpus": list(licenses), "license": list(licenses.values())}, schema_overrides={"license": pl.String}
    )
    prompts = (
        tables.prompts.lazy()
        .select("prompt_id", "corpus", "corpus_row", "messages")
        .join(corpora, on="corpus", how="left")
    )
    return collect(rows.join(prompts, on="prompt_id"), tables.all())


def _turn(role: str, text: str) -> pl.Expr:
    return pl.concat_list(pl.struct(role=pl.lit(role), content=pl.col(text)))


def _sft(keys: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    joined = keys.join(rows, on=KEY).with_columns(messages=pl.concat_list("messages", _turn("assistant", "text")))
    return _shaped(joined, SFT)


def _dpo(pairs: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    shared = [name for name in DPO if name in rows.columns and name not in KEY]
    chosen = _side(rows, "chosen", shared).rename({"messages": "prompt", "chosen_source_model": "source_model"})
    pairs = pairs.select("prompt_id", *(f"{side}_{key}" for side in _SIDES for key in KEY[1:]))
    pairs = pairs.rename({"chosen_source_model": "source_model"})
    joined = pairs.join(chosen, on=["prompt_id", "source_model", "chosen_sample"])
    rejected = _side(rows, "rejected", []).drop("messages")
    return _shaped(joined.join(rejected, on=["prompt_id", "rejected_source_model", "rejected_sample"]), DPO)


def _side(rows: pl.DataFrame, side: str, shared: list[str]) -> pl.DataFrame:
    """Give the responses as one side of a pair: its columns by the side's name, `shared` by their own."""
    named = {f"{side}_{name}": name for name in ("source_model", *_SIDE) if name in rows.columns}
    return rows.select("prompt_id", "messages", *shared, _turn("assistant", "text").alias(side), **named)


def _shaped(frame: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """Give `frame` the columns of `schema`, in order; what it lacks is null."""
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in frame.columns]
    return frame.with_columns(missing).select(schema.names()).cast(schema).sort("prompt_id")
