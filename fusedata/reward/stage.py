"""RESPONSES into REWARDS: how good is a response by the reward model."""

from collections.abc import Iterator

import polars as pl

from fusedata.plan import Advance, windows
from fusedata.reward.protocol import Item, RewardModel
from fusedata.schema import KEY, REWARDS, keys_digest
from fusedata.store import F, Parts


def reward(
    prompts: pl.DataFrame, responses: Parts, parts: Parts, model: RewardModel, batch_size: int, advance: Advance
) -> None:
    """Score the responses that `parts` lacks a reward of. Raises RewardError, RunError.

    Batches are cut from all wanted responses, never from what is left: a model that is deterministic for a batch gives
    the same scores to a build that was interrupted and to one that was not. Prompts come in order of their longest
    response, each with all of its responses: a model may share the prompt among them.
    """
    for window in windows(scored_with(prompts), responses, parts):
        for batch in batches(window, batch_size):
            advance(score(batch, parts, model))


def scored_with(prompts: F) -> F:
    """Give what responses are scored with."""
    return prompts.drop("corpus_row")


def batches(window: pl.DataFrame, batch_size: int) -> Iterator[pl.DataFrame]:
    """Cut a window into batches, and give those with something left to do."""
    length = (pl.col("chars") + pl.col("text").str.len_chars()).max().over("prompt_id")
    for batch in window.sort(length, *KEY).iter_slices(batch_size):
        if batch["todo"].any():
            yield batch


def score(batch: pl.DataFrame, parts: Parts, model: RewardModel) -> int:
    """Score one batch, write what of it was left to do, and count that. Raises RewardError, RunError.

    The whole batch is scored: what is left of it would be another batch.
    """
    rows = _rewards(batch, model).filter(batch["todo"])
    parts.write(keys_digest(rows), rows)
    return rows.height


def _rewards(rows: pl.DataFrame, model: RewardModel) -> pl.DataFrame:
    items = [Item(tuple(m), text) for m, text in zip(rows["messages"].to_list(), rows["text"], strict=True)]
    scores, tokens, errors = zip(*model.score(items), strict=True)
    return rows.with_columns(
        reward_model=pl.lit(model.name),
        reward=pl.Series(scores, dtype=pl.Float64),
        tokens=pl.Series(tokens, dtype=pl.Int32),
        error=pl.Series(errors, dtype=pl.String),
    ).select(REWARDS.names())
