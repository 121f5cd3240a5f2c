"""Responses that a corpus carries, under the name of the model that really wrote them."""

from collections import Counter
from collections.abc import Iterator

import polars as pl

from fusedata.collect.code_tests import problems
from fusedata.collect.locate import Located
from fusedata.collect.prompts import kept_rows, messages, read_columns
from fusedata.collect.read import scan
from fusedata.corpus import Carried, Corpus
from fusedata.errors import CorpusError
from fusedata.schema import RESPONSES, prompt_id, text_id


def carried_label(corpus: Corpus) -> str:
    """Name the source of the responses that `corpus` carries."""
    return f"{corpus.id} (carried)"


def carried(corpus: Corpus, source: Carried, located: Located, prompts: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Give RESPONSES in frames: the carried answers of `prompts` (prompt_id) in row order, equal texts once a prompt.

    The sample number of a response counts the distinct answers of its prompt, from 0 in row order, so it does not
    depend on which other prompts are wanted. Rows that the corpus's filters drop, and blank answers, are passed over.
    Raises CorpusError.
    """
    wanted = set(prompts["prompt_id"])
    known: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    samples: Counter[str] = Counter()
    for frame in scan(located, read_columns(corpus, source.column)):
        rows = []
        for text, response in _pairs(frame, corpus, source):
            key = known.get(text) or prompt_id(messages(text))
            same = text_id(response)
            if key not in wanted or response is None or same is None or (key, same) in seen:
                continue
            known[text] = key
            seen.add((key, same))
            rows.append((key, source.source_model, samples[key], response, same))
            samples[key] += 1
        if rows:
            yield _frame(rows)


def _pairs(frame: pl.DataFrame, corpus: Corpus, source: Carried) -> Iterator[tuple[str, str | None]]:
    """Give prompt and response of the rows that the filters keep."""
    if frame[source.column].dtype not in (pl.String, pl.Null):
        found = frame[source.column].dtype
        remedy = "name a column of text as `responses.column`"
        raise CorpusError(f"Corpus {corpus.id}: its column {source.column!r} holds {found}, not text; {remedy}.")
    rows = kept_rows(frame.lazy(), corpus).collect()
    texts = problems(rows, corpus, corpus.tests)["text"] if corpus.tests else rows[corpus.prompt]
    yield from zip(texts, rows[source.column], strict=True)


def _frame(rows: list[tuple[str, str, int, str, str]]) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema=["prompt_id", "source_model", "sample", "text", "text_id"], orient="row")
    rest = {name: pl.lit(None, dtype) for name, dtype in RESPONSES.items() if name not in frame.columns}
    rest |= {"finish_reason": pl.lit("carried"), "engine": pl.lit("corpus")}
    return frame.with_columns(**rest).select(RESPONSES.names()).cast(RESPONSES)
