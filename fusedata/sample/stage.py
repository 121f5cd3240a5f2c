"""PROMPTS into RESPONSES: plan every wanted sample, ask the engine for those that are not there."""

from collections.abc import Iterable, Iterator, Sequence

import polars as pl

from fusedata.errors import EngineError
from fusedata.plan import Advance
from fusedata.sample.plan import Plan, planned
from fusedata.sample.protocol import Engine, Group, Request
from fusedata.schema import RESPONSES, Message, keys_digest, sample_seed, text_id
from fusedata.store import Parts


def sample(
    prompts: pl.DataFrame, source_model: str, samples: int, engine: Engine, parts: Parts, *, seed: int, advance: Advance
) -> None:
    """Draw the samples of `source_model` that `parts` lacks; one that failed is in a part of its own.

    Raises EngineError, also where the engine leaves a request without an answer, and RunError.
    """
    parts.forget_failed()
    plan = planned(prompts, source_model, samples, engine.batch_size, parts)
    for group in engine.generate(_batches(prompts, plan, source_model, seed)):
        write(group, source_model, engine.name, parts)
        advance(len(group))
    tried = planned(prompts, source_model, samples, engine.batch_size, parts, "*")
    check_answered(tried.missing, source_model, engine)


def write(group: Group, source_model: str, engine: str, parts: Parts) -> None:
    """Write what became of some requests: finished rows, and those that failed. Raises RunError."""
    rows = _rows(group, source_model, engine)
    parts.write_rows(keys_digest(rows), rows, failed=pl.col("finish_reason") == "error")


def check_answered(missing: int, source_model: str, engine: Engine) -> None:
    """Raise EngineError where wanted samples have neither been finished nor failed."""
    if missing:
        raise EngineError(f"{source_model}: the engine {engine.name} left {missing} requests without an answer.")


def _batches(prompts: pl.DataFrame, plan: Plan, source_model: str, seed: int) -> Iterator[list[Request]]:
    for number in range(len(plan.batches)):
        rows, samples, _ = plan.rows(plan.batches[number : number + 1])
        ids, turns = (prompts[name].gather(rows).to_list() for name in ("prompt_id", "messages"))
        yield requests(zip(zip(ids, samples.tolist(), strict=True), turns, strict=True), source_model, seed)


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
