"""The two datasets, SFT and DPO: the winners' keys joined with their texts and everything known of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from fusedata.recipe import Recipe
from fusedata.schema import FLAWS, KEY, MESSAGES, RESPONSES, REWARDS, VERDICTS
from fusedata.select import Selection, select
from fusedata.split import assign, held_out
from fusedata.store import Parts, Run, collect

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

_SCORED = [*KEY, "text_id"]
_VERDICT = {"verdict": "status", "verdict_detail": "detail"}
_REWARD = {"reward": "reward", "tokens": "tokens"}


def schemas(recipe: Recipe) -> dict[str, pl.Schema]:
    """Give the columns that the datasets of a recipe have."""
    own = OWN if recipe.dpo and recipe.dpo.method == "wrpo" else {}
    weighted = {"sft": recipe.sft.per != "prompt", "dpo": recipe.dpo is not None and recipe.dpo.per != "prompt"}
    more = {kind: WEIGHT if weighted[kind] else {} for kind in SCHEMAS}
    return {"sft": pl.Schema({**SFT, **more["sft"]}), "dpo": pl.Schema({**DPO, **own, **more["dpo"]})}


@dataclass(frozen=True)
class Tables:
    """The tables of a run, the parts of all sources together."""

    prompts: pl.DataFrame
    responses: Sequence[Parts]
    verdicts: Sequence[Parts]
    rewards: Sequence[Parts]
    flaws: Sequence[Parts] = ()

    def all(self) -> list[Parts]:
        """List every part table, to say which part cannot be read."""
        return [*self.responses, *self.verdicts, *self.rewards, *self.flaws]


def run_tables(run: Run, prompts: pl.DataFrame) -> Tables:
    """Give the tables of a run that are in force."""
    known = {"responses": RESPONSES, "verdicts": VERDICTS, "rewards": REWARDS, "flaws": FLAWS}
    parts = {s: [run.parts(s, label, schema) for label in run.labels(s)] for s, schema in known.items()}
    return Tables(prompts, **parts)


@dataclass(frozen=True)
class Datasets:
    """`sft`, `dpo`: SFT and DPO rows with a last column `test`, sorted by prompt_id and source model.

    `places` says where prompts went, as `assign` does; `flaws` counts the responses that were screened out, by corpus
    and flaw.
    """

    sft: pl.DataFrame
    dpo: pl.DataFrame
    places: pl.DataFrame
    flaws: Sequence[tuple[str, str, int]] = ()


def candidates(tables: Tables) -> pl.LazyFrame:
    """Give every response that counts for one of the prompts with its verdict, reward and flaw, without its text.

    The column `flaw` is there where responses are screened.

    Prompts and source models are numbered (Enum, Categorical), and texts compared by 64-bit hashes of their ids: short
    keys join and group faster than strings.
    """
    prompt = pl.col("prompt_id").cast(pl.Enum(tables.prompts["prompt_id"].sort()), strict=False)
    key = (prompt, pl.col("source_model").cast(pl.Categorical), "sample", pl.col("text_id").hash().alias("text"))
    rows = _counting(tables.responses, tables.prompts).select(*key, "text_id").filter(pl.col("prompt_id").is_not_null())
    for scores, column, dtype in (
        (_verdicts(tables), "passed", pl.Boolean),
        (_rewards(tables), "reward", pl.Float64),
    ):
        none = rows.with_columns(pl.lit(None, dtype).alias(column))
        rows = none if scores is None else rows.join(scores.select(*key, column), on=[*KEY, "text"], how="left")
    if tables.flaws:
        flaws = _counting(tables.flaws, tables.prompts).filter(pl.col("flaw").is_not_null())
        rows = rows.join(flaws.select(*key, "flaw"), on=[*KEY, "text"], how="left")
    return rows.drop("text")


def _counting(parts: Sequence[Parts], prompts: pl.DataFrame) -> pl.LazyFrame:
    """Give the rows that count: a table may hold those to prompts of a corpus or a recipe that it was made for."""
    return pl.concat([_asked(table, prompts) for table in parts])


def _asked(parts: Parts, prompts: pl.DataFrame) -> pl.LazyFrame:
    asked = parts.asked(prompts)
    rows = parts.scan()
    return rows if asked.height == prompts.height else rows.join(asked.lazy(), on="prompt_id", how="semi")


def _verdicts(tables: Tables) -> pl.LazyFrame | None:
    """Give the verdicts by the gold answers in force; None where nothing is checked."""
    if not tables.verdicts:
        return None
    answers = tables.prompts.lazy().select("prompt_id", "answer")
    return _counting(tables.verdicts, tables.prompts).join(
        answers, on=["prompt_id", "answer"], how="semi", nulls_equal=True
    )


def _rewards(tables: Tables) -> pl.LazyFrame | None:
    return _counting(tables.rewards, tables.prompts) if tables.rewards else None


def assemble(tables: Tables, recipe: Recipe) -> Datasets:
    """Select, split and join: keys decide, then only the texts that were selected are read. Raises RunError."""
    found, selection, places = placed(tables, recipe)
    sft = selection.sft.join(places.filter("sft").select("prompt_id"), on="prompt_id", how="semi")
    pairs = selection.pairs.join(places.filter("dpo").select("prompt_id"), on="prompt_id", how="semi")
    rows = _rows(tables, pl.concat([sft.select(_SCORED), *(_keys(pairs, side) for side in _sides(pairs))]), recipe)
    columns = schemas(recipe)
    sft, dpo = _sft(sft, rows, columns["sft"]), _dpo(pairs, rows, columns["dpo"])
    test = held_out([sft["prompt_id"], dpo["prompt_id"]], recipe.split.test, recipe.seed)
    is_test = pl.col("prompt_id").is_in(test.implode()).alias("test")
    return Datasets(sft.with_columns(is_test), dpo.with_columns(is_test), places, _flaws(found, tables.prompts))


def placed(tables: Tables, recipe: Recipe) -> tuple[pl.DataFrame, Selection, pl.DataFrame]:
    """Select and split, without texts: the candidates, the selection, and where each prompt goes. Raises RunError."""
    found = collect(candidates(tables), tables.all())
    selection = select(
        found.lazy(),
        checked=recipe.correctness is not None,
        rewarded=recipe.reward is not None,
        dpo=recipe.dpo,
        sft=recipe.sft,
        screened=bool(tables.flaws),
    )
    return found, selection, assign(tables.prompts, selection, recipe.split, recipe.seed)


def _flaws(found: pl.DataFrame, prompts: pl.DataFrame) -> list[tuple[str, str, int]]:
    if "flaw" not in found.columns:
        return []
    flawed = found.filter(pl.col("flaw").is_not_null()).select(pl.col("prompt_id").cast(pl.String), "flaw")
    counts = flawed.join(prompts.select("prompt_id", "corpus"), on="prompt_id").group_by("corpus", "flaw").len()
    return counts.sort("corpus", "flaw").rows()


def _sides(pairs: pl.DataFrame) -> tuple[str, ...]:
    return (*_SIDES, "chosen_own") if "chosen_own_sample" in pairs.columns else _SIDES


def _keys(pairs: pl.DataFrame, side: str) -> pl.DataFrame:
    return pairs.select(**{column: column if column == "prompt_id" else f"{side}_{column}" for column in _SCORED})


def _rows(tables: Tables, wanted: pl.DataFrame, recipe: Recipe) -> pl.DataFrame:
    """Give the `wanted` responses, and others of equal texts, with texts, scores, verdicts and prompts.

    The filter on `text_id` is one that the Parquet reader applies before it decodes the other columns.
    """
    wanted = wanted.select(_SCORED).unique()
    same_text = pl.col("text_id").is_in(wanted["text_id"].implode())
    rows = collect(_counting(tables.responses, tables.prompts).filter(same_text), tables.responses)
    for scores, columns in ((_verdicts(tables), _VERDICT), (_rewards(tables), _REWARD)):
        if scores is not None:
            found = scores.select(*_SCORED, **columns).join(wanted.lazy(), on=_SCORED, how="semi")
            rows = rows.join(collect(found, [*tables.verdicts, *tables.rewards]), on=_SCORED, how="left")
    return rows.join(_prompts(tables.prompts, recipe), on="prompt_id")


def _prompts(prompts: pl.DataFrame, recipe: Recipe) -> pl.DataFrame:
    """Give what a row tells of its prompt, with the licence that the recipe states for the corpus."""
    licenses = {corpus.id: corpus.license for corpus in recipe.corpora}
    license_ = pl.col("corpus").replace_strict(licenses, default=None, return_dtype=pl.String)
    return prompts.select("prompt_id", "corpus", "corpus_row", "messages", license=license_)


def _turn(role: str, text: str) -> pl.Expr:
    return pl.concat_list(pl.struct(role=pl.lit(role), content=pl.col(text)))


def _sft(keys: pl.DataFrame, rows: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    joined = keys.join(rows, on=KEY).with_columns(messages=pl.concat_list("messages", _turn("assistant", "text")))
    return _shaped(joined, schema)


def _dpo(pairs: pl.DataFrame, rows: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    shared = [name for name in DPO if name in rows.columns and name not in KEY]
    pairs = pairs.drop(pl.selectors.ends_with("_text_id", "_reward"))
    for side in _sides(pairs):
        one = _side(rows, side, shared if side == "chosen" else [])
        pairs = pairs.join(one, on=["prompt_id", f"{side}_source_model", f"{side}_sample"])
    return _shaped(pairs.rename({"messages": "prompt", "chosen_source_model": "source_model"}), schema)


def _side(rows: pl.DataFrame, side: str, shared: list[str]) -> pl.DataFrame:
    """Give the responses as one side of a pair: its columns by the side's name, `shared` by their own."""
    named = {f"{side}_{name}": name for name in ("source_model", *_SIDE) if name in rows.columns}
    turns = ["messages"] if shared else []
    return rows.select("prompt_id", *turns, *shared, _turn("assistant", "text").alias(side), **named)


def _shaped(frame: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """Give `frame` the columns of `schema`, in order; what it lacks is null."""
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in frame.columns]
    return frame.with_columns(missing).select(schema.names()).cast(schema).sort("prompt_id", "source_model")
