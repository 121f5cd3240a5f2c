"""Responses that a corpus carries, under the name of the model that really wrote them, and their rewards."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import NamedTuple

import polars as pl

from fusedata.collect.code_tests import problems
from fusedata.collect.locate import Located
from fusedata.collect.rows import SAID, is_plain, kept_rows, read_rows
from fusedata.collect.turns import last_answer, read_said, turn_keys
from fusedata.corpus import Carried, CarriedReward, Corpus
from fusedata.errors import CorpusError
from fusedata.schema import KEY, RESPONSES, REWARDS, prompt_id, text_id


class Answers(NamedTuple):
    """Some carried responses: RESPONSES, and REWARDS of those whose reward the corpus holds."""

    responses: pl.DataFrame
    rewards: pl.DataFrame


def carried_label(corpus: Corpus) -> str:
    """Name the source of the responses that `corpus` carries."""
    return f"{corpus.id} (carried)"


def carried(
    corpus: Corpus, source: Carried, located: Located, prompts: pl.DataFrame, reward: CarriedReward | None = None
) -> Iterator[Answers]:
    """Give the carried answers of `prompts` (prompt_id) in row order, equal texts once a prompt.

    The sample number of a response counts the distinct answers of its prompt, from 0 in row order, so it does not
    depend on which other prompts are wanted. Rows that the corpus's filters drop, and blank answers, are passed over;
    of equal texts, the first one's reward counts. Raises CorpusError.
    """
    wanted = set(prompts["prompt_id"])
    known: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    samples: Counter[str] = Counter()
    more = [source.column, *([reward.column] if reward else [])]
    for frame in read_rows(corpus, located, *more):
        plain = is_plain(corpus, frame.schema)
        rows = []
        for said, response, score in _answers(frame, corpus, source, reward):
            key = known.get(said) or prompt_id(read_said(said, plain=plain))
            same = text_id(response) if key in wanted else None
            if same is None or (key, same) in seen:
                continue
            known[said] = key
            seen.add((key, same))
            rows.append((key, source.source_model, samples[key], response, same, score))
            samples[key] += 1
        if rows:
            yield _frames(rows, reward)


Said = tuple[str, str | None, float | None]


def _answers(frame: pl.DataFrame, corpus: Corpus, source: Carried, reward: CarriedReward | None) -> Iterator[Said]:
    """Give prompt, response and reward of the rows that the filters keep, one for each response."""
    _check_types(frame.schema, corpus, source, reward)
    rows = kept_rows(frame.lazy(), corpus).collect()
    said = problems(rows, corpus, corpus.tests)["text"] if corpus.tests else rows[SAID]
    held = rows[source.column]
    keys = turn_keys(held.dtype)
    scores = rows[reward.column].to_list() if reward else repeat(None, rows.height)
    for text, value, score in zip(said, held.to_list(), scores, strict=True):
        responses = value if isinstance(value, list) and not keys else [last_answer(value, keys) if keys else value]
        numbers = score if isinstance(score, list) else [score]
        if len(numbers) != len(responses):  # which reward is whose cannot be told
            numbers = [None] * len(responses)
        yield from zip(repeat(text), responses, numbers, strict=False)


def _check_types(types: pl.Schema, corpus: Corpus, source: Carried, reward: CarriedReward | None) -> None:
    found = types[source.column]
    texts = (pl.String, pl.Null, pl.List(pl.String), pl.List(pl.Null))
    if found not in texts and not turn_keys(found):
        remedy = "name a column of text, or of lists of it, as `responses.column`"
        raise CorpusError(f"Corpus {corpus.id}: its column {source.column!r} holds {found}, not text; {remedy}.")
    if reward is None:
        return
    found = types[reward.column]
    one = found.inner if isinstance(found, pl.List) else found
    if not (one == pl.Null or one.is_numeric()):
        remedy = "name a column of numbers, or of lists of them, as `responses.reward.column`"
        raise CorpusError(f"Corpus {corpus.id}: its column {reward.column!r} holds {found}, not numbers; {remedy}.")


def _frames(rows: Sequence[tuple[object, ...]], reward: CarriedReward | None) -> Answers:
    frame = pl.DataFrame(
        rows,
        schema={**{name: RESPONSES[name] for name in (*KEY, "text", "text_id")}, "reward": pl.Float64},
        orient="row",
    )
    scored = frame.filter(pl.col("reward").is_finite()).with_columns(
        reward_model=pl.lit(reward.model if reward else None)
    )
    frame = frame.with_columns(finish_reason=pl.lit("carried"), engine=pl.lit("corpus"))
    return Answers(_filled(frame, RESPONSES), _filled(scored, REWARDS))


def _filled(frame: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """Give all columns of a table, null where nothing is known."""
    rest = {name: pl.lit(None, dtype) for name, dtype in schema.items() if name not in frame.columns}
    return frame.with_columns(**rest).select(schema.names()).cast(schema)
