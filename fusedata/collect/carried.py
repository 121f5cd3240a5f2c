"""Responses that a corpus carries, under the name of the model that really wrote them."""

from collections import Counter
from collections.abc import Iterator

import polars as pl

from fusedata.collect.locate import Located
from fusedata.collect.prompts import messages
from fusedata.collect.read import scan
from fusedata.recipe import Carried, Corpus
from fusedata.schema import RESPONSES, digest, prompt_id


def carried(corpus: Corpus, source: Carried, located: Located, prompts: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Give RESPONSES in frames: the carried answers of `prompts` (prompt_id) in row order, equal texts once a prompt.

    The sample number of a response counts the distinct answers of its prompt, from 0 in row order, so it does not
    depend on which other prompts are wanted. Raises CorpusError.
    """
    wanted = set(prompts["prompt_id"])
    known: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    samples: Counter[str] = Counter()
    for frame in scan(located, list(dict.fromkeys([corpus.prompt, source.column]))):
        rows = []
        for text, response in zip(frame[corpus.prompt], frame[source.column], strict=True):
            key = known.get(text) or known.setdefault(text, prompt_id(messages(text or "")))
            key_text = (key, digest(response or ""))
            if key not in wanted or not response or key_text in seen:
                continue
            seen.add(key_text)
            rows.append((key, source.source_model, samples[key], response, key_text[1]))
            samples[key] += 1
        if rows:
            yield _frame(rows)


def _frame(rows: list[tuple[str, str, int, str, str]]) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema=["prompt_id", "source_model", "sample", "text", "text_id"], orient="row")
    rest = {name: pl.lit(None, dtype) for name, dtype in RESPONSES.items() if name not in frame.columns}
    rest |= {"finish_reason": pl.lit("carried"), "engine": pl.lit("corpus")}
    return frame.with_columns(**rest).select(RESPONSES.names()).cast(RESPONSES)
