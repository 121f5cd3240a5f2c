"""PROMPTS into RESPONSES: plan every wanted sample, ask the engine for those that are not there."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter

import polars as pl

from fusedata.errors import EngineError
from fusedata.plan import Advance
from fusedata.sample.protocol import Engine, Group, Request
from fusedata.schema import RESPONSES, Message, keys_digest, sample_seed, text_id
from fusedata.store import Parts, count


def sample(
    prompts: pl.DataFrame, source_model: str, samples: int, engine: Engine, parts: Parts, *, seed: int, advance: Advance
) -> None:
    """Draw the samples of `source_model` that `parts` lacks; one that failed is in a part of its own.

    Raises EngineError, also where the engine leaves a request without an answer, and RunError.
    """
    parts.forget_failed()
    batches = _batches(prompts, source_model, samples, engine.batch_size, parts, seed)
    for group in engine.generate(batches):
        write(group, source_model, engine.name, parts)
        advance(len(group))
    check_answered(prompts, source_model, samples, engine, parts)


def write(group: Group, source_model: str, engine: str, parts: Parts) -> None:
    """Write what became of some requests: finished rows, and those that failed. Raises RunError."""
    rows = _rows(group, source_model, engine)
    parts.write_rows(keys_digest(rows), rows, failed=pl.col("finish_reason") == "error")


def check_answered(prompts: pl.DataFrame, source_model: str, samples: int, engine: Engine, parts: Parts) -> None:
    """Raise EngineError where a wanted sample has neither been finished nor failed."""
    left = todo(prompts, source_model, samples, engine.batch_size, parts).height - count(parts.scan("failed"), parts)
    if left:
        raise EngineError(f"{source_model}: the engine {engine.name} left {left} requests without an answer.")


def todo(prompts: pl.DataFrame, source_model: str, samples: int, batch_size: int, parts: Parts) -> pl.DataFrame:
    """Plan the missing samples: row (into `prompts`), prompt_id, sample, batch.

    Batches are cut from all wanted samples in order of prompt length, never from what is left: an engine that is
    deterministic for a batch gives the same texts to a build that was interrupted and to one that was not.
    """
    wanted = prompts.lazy().with_row_index("row").filter("sampled").sort("chars", "prompt_id")
    wanted = (
        wanted.select("row", "prompt_id")
        .with_columns(sample=pl.int_ranges(samples, dtype=pl.Int32))
        .explode("sample", empty_as_null=False)
    )
    wanted = wanted.with_columns(batch=pl.int_range(pl.len()) // batch_size)
    done = parts.done().filter(source_model=source_model).lazy()
    return wanted.join(done, on=["prompt_id", "sample"], how="anti", maintain_order="left").collect()


def _batches(
    prompts: pl.DataFrame, source_model: str, samples: int, batch_size: int, parts: Parts, seed: int
) -> Iterator[list[Request]]:
    missing = todo(prompts, source_model, samples, batch_size, parts).iter_rows()
    for _, batch in groupby(missing, key=itemgetter(3)):
        rows = list(batch)
        turns = prompts["messages"].gather([row for row, *_ in rows]).to_list()
        keys = ((prompt_id, number) for _, prompt_id, number, _ in rows)
        yield requests(zip(keys, turns, strict=True), source_model, seed)


def requests(rows: Iterable[tuple[tuple[str, int], Sequence[Message]]], source_model: str, seed: int) -> list[Request]:
    """Give the requests of one batch, from (prompt_id, sample) and the turns of each."""
    return [
        Request(prompt_id, number, turns, sample_seed(seed, prompt_id, source_model, number))
        for (prompt_id, number), turns in rows
    ]


def _rows(group: Group, source_model: str, engine: str) -> pl.DataFrame:
    columns = {
        "prompt_id": [request.prompt_id for request, _ in group],
        "source_model": source_model,
        "sample": [request.sample for request, _ in group],
        "text": [completion.text for _, completion in group],
        "text_id": [text_id(completion.text) for _, completion in group],
        "finish_reason": [completion.finish_reason for _, completion in group],
        "prompt_tokens": [completion.prompt_tokens for _, completion in group],
        "completion_tokens": [completion.completion_tokens for _, completion in group],
        "seed": [request.seed for request, _ in group],
        "engine": engine,
        "error": [completion.error for _, completion in group],
    }
    return pl.DataFrame(columns, schema=RESPONSES)
