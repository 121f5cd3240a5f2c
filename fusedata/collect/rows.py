"""Rows of a corpus as a recipe reads them: its columns under the recipe's names, what each says, which are kept."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import polars as pl

from fusedata.collect.locate import Located
from fusedata.collect.read import Part, cut, named, scan, scan_lazy, survey
from fusedata.collect.turns import said, turn_keys
from fusedata.corpus import Corpus
from fusedata.errors import CorpusError

SAID = "\0said"
"""The column of what a row's prompt says: its text in a plain corpus, else its turns as JSON (`turns.read_said`).

Empty: the user says nothing. Null: the turns are out of order. Of a plain corpus that is yet to be read, blanks stand
at the ends of the text.
"""

EMPTY = "empty prompt"


def lazy_rows(corpus: Corpus, located: Located, part: Part | None = None) -> Iterator[pl.LazyFrame]:
    """Give what `read_rows` does; where polars can read it, as one frame that is yet to be read. Raises CorpusError."""
    there = part.names if part else _columns(corpus, located, ())
    frames = scan_lazy(located, list(there.values()), part) if corpus.tests is None else None
    frames = [_renamed(frame, there) for frame in frames or ()]
    if frames and is_plain(corpus, frames[0].collect_schema()):
        yield _with_input(pl.concat(frames), corpus).with_columns(pl.col(corpus.prompt).fill_null("").alias(SAID))
        return
    yield from (frame.lazy() for frame in read_rows(corpus, located, part=part))


def read_rows(corpus: Corpus, located: Located, *more: str, part: Part | None = None) -> Iterator[pl.DataFrame]:
    """Give the rows in frames of bounded size: the recipe's columns of them, `more`, `row` and SAID.

    Raises CorpusError, for a column whose type does not fit its role too.
    """
    there = part.names if part else _columns(corpus, located, more)
    for frame in scan(located, list(there.values()), part=part):
        rows = _renamed(frame.lazy(), there).collect()
        if is_plain(corpus, rows.schema):
            yield _plainly(rows.lazy(), corpus).collect()
        else:
            turns = said(_with_input(rows.lazy(), corpus).collect(), corpus)
            yield rows.with_columns(pl.Series(SAID, turns, dtype=pl.String))


def parts(corpus: Corpus, located: Located, size: int) -> list[tuple[Located, Part]]:
    """Cut a corpus into parts of about `size` bytes, each of one file: what `lazy_rows` gives of all of them together.

    Raises CorpusError.
    """
    names = _columns(corpus, located, ())
    spans, types = survey(located, list(names.values()))
    return [
        (replace(located, files=(file.path,), names=(file.name,)), Part(names, types, span))
        for file, whole in zip(located.parts(), spans, strict=True)
        for span in cut(file, whole, size)
    ]


def is_plain(corpus: Corpus, types: pl.Schema) -> bool:
    """Whether a prompt of the corpus is one text. Raises CorpusError for columns whose types do not fit their roles."""
    _check_types(corpus, types)
    return types[corpus.prompt] == pl.String and not (corpus.system or corpus.turns)


def kept_rows(rows: pl.LazyFrame, corpus: Corpus) -> pl.LazyFrame:
    """Keep the rows that have a prompt and meet the corpus's conditions."""
    return rows.filter(*_conditions(corpus, rows.collect_schema()).values())


def reasons(corpus: Corpus, types: pl.Schema) -> list[str]:
    """List what `why_not` may say, in the order in which rows are asked."""
    return list(_conditions(corpus, types))


def why_not(corpus: Corpus, types: pl.Schema) -> pl.Expr:
    """Why a row is not kept: the first condition that it does not meet, as an Enum; null: it meets all."""
    conditions = _conditions(corpus, types)
    reason = pl.Enum(list(conditions))  # a byte a row
    return pl.coalesce(pl.when(~met).then(pl.lit(name, reason)) for name, met in conditions.items())


def topic(corpus: Corpus, types: pl.Schema) -> pl.Expr:
    """The topic by the corpus's label: "code", "math", "other"; null where it has none."""
    if corpus.topic is None:
        return pl.lit(None, pl.String)
    column, code, math = corpus.topic.column, list(corpus.topic.code), list(corpus.topic.math)
    return (
        pl.when(_any(column, types, lambda value: value.cast(pl.String).is_in(code)))
        .then(pl.lit("code"))
        .when(_any(column, types, lambda value: value.cast(pl.String).is_in(math)))
        .then(pl.lit("math"))
        .when(_any(column, types, lambda value: value.cast(pl.String).str.strip_chars().str.len_chars() > 0))
        .then(pl.lit("other"))
    )


def _columns(corpus: Corpus, located: Located, more: tuple[str, ...]) -> dict[str, str]:
    """Name the columns that are read, each with the name that it has in these files."""
    tests = corpus.tests.columns() if corpus.tests else []
    single = [corpus.input, corpus.system, corpus.answer, corpus.topic.column if corpus.topic else None]
    limits = (*corpus.where, *corpus.where_not, *corpus.at_least, *corpus.at_most)
    columns = dict.fromkeys([corpus.prompt, *filter(None, single), *tests, *limits, *more])
    older = {column: names for column, names in corpus.older_names.items() if column in columns}
    return {column: column for column in columns} | named(located, older)


def _renamed(rows: pl.LazyFrame, there: dict[str, str]) -> pl.LazyFrame:
    return rows.select(pl.col("row"), *(pl.col(name).alias(column) for column, name in there.items()))


def _plainly(rows: pl.LazyFrame, corpus: Corpus) -> pl.LazyFrame:
    text = pl.col(corpus.prompt).str.strip_chars().fill_null("")
    return _with_input(rows, corpus).with_columns(text.alias(SAID))


def _with_input(rows: pl.LazyFrame, corpus: Corpus) -> pl.LazyFrame:
    """Let the prompt go on with the corpus's `input`."""
    if corpus.input is None:
        return rows
    prompt, more = (pl.col(name).cast(pl.String).str.strip_chars() for name in (corpus.prompt, corpus.input))
    both = pl.concat_str([prompt, pl.lit("\n\n"), more])
    return rows.with_columns(pl.when(prompt != "", more != "").then(both).otherwise(prompt).alias(corpus.prompt))


def _check_types(corpus: Corpus, types: pl.Schema) -> None:
    text = {pl.String(), pl.Null()}
    prompt = types[corpus.prompt]
    alone = corpus.input or corpus.turns or corpus.tests
    _expect(corpus, corpus.prompt, prompt, fits=prompt == pl.String or (not alone and turn_keys(prompt) is not None))
    for column in filter(None, (corpus.input, corpus.system)):
        _expect(corpus, column, types[column], fits=types[column] in text)
    if corpus.answer:
        answer = types[corpus.answer]
        _expect(corpus, corpus.answer, answer, fits=answer in text or answer.is_numeric())
    for column in (*corpus.at_least, *corpus.at_most, *corpus.where, *corpus.where_not):
        if (kind := _inner(types[column])).is_nested():
            found = f"its column {column!r} holds {kind}, which no number or value compares with"
            raise CorpusError(f"Corpus {corpus.id}: {found}; name a column of numbers or text, or a list of them.")


def _expect(corpus: Corpus, column: str, kind: pl.DataType, *, fits: bool) -> None:
    if not fits:
        remedy = "name a column of text in the recipe"
        raise CorpusError(f"Corpus {corpus.id}: its column {column!r} holds {kind}, not text; {remedy}.")


def _conditions(corpus: Corpus, types: pl.Schema) -> dict[str, pl.Expr]:
    """Conditions to stay, each under the reason that a row bears which does not meet it."""
    conditions = {
        "turns out of order": pl.col(SAID).is_not_null(),
        EMPTY: pl.col(SAID) != "",
    }
    for column, values in corpus.where.items():
        conditions[f"where {column}"] = _is_one_of(column, types, values)
    for column, values in corpus.where_not.items():
        conditions[f"where_not {column}"] = ~_is_one_of(column, types, values)
    for column, low in corpus.at_least.items():
        conditions[f"at_least {column}"] = _any(column, types, partial(_reaches, low=low))
    for column, high in corpus.at_most.items():
        conditions[f"at_most {column}"] = _any(column, types, partial(_stays, high=high))
    return conditions


def _is_one_of(column: str, types: pl.Schema, values: tuple[str, ...]) -> pl.Expr:
    return _any(column, types, lambda value: value.cast(pl.String).is_in(list(values)))


def _any(column: str, types: pl.Schema, test: Callable[[pl.Expr], pl.Expr]) -> pl.Expr:
    """Whether a row's value meets `test`; of a list, any of its elements. Null does not."""
    if isinstance(types[column], pl.List):
        return pl.col(column).list.eval(test(pl.element()).fill_null(value=False)).list.any().fill_null(value=False)
    return test(pl.col(column)).fill_null(value=False)


def _reaches(value: pl.Expr, low: float) -> pl.Expr:
    return _number(value) >= low


def _stays(value: pl.Expr, high: float) -> pl.Expr:
    return _number(value) <= high


def _number(value: pl.Expr) -> pl.Expr:
    """A value as a number, a text of one too; null where it is none."""
    return value.cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False).fill_nan(None)


def _inner(kind: pl.DataType) -> pl.DataType:
    return pl.DataFrame(schema={"": kind.inner}).schema[""] if isinstance(kind, pl.List) else kind
