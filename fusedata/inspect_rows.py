"""Single rows of a run or a dataset: sample rows, everything known of one prompt, and SQL. A reader."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from fusedata.candidates import run_tables
from fusedata.dataset import placed
from fusedata.errors import ConfigError
from fusedata.inspect_ import RUN_TABLES, Opened, judged
from fusedata.plots import one_line
from fusedata.readers import KINDS, check_files, recipe_of
from fusedata.schema import KEY, ranked
from fusedata.store import Run, first_line, read_prompts

Row = Mapping[str, Any]
_NAMED = 4
"""Prompt ids that the message of an ambiguous beginning lists."""


@dataclass(frozen=True)
class Answer:
    """One response and what is known of it; `roles`: chosen, rejected, chosen_own (DPO), response (SFT), or none.

    `tokens` counts the whole conversation, under the reward model's tokenizer.
    """

    roles: tuple[str, ...]
    source_model: str | None
    sample: int | None
    text: str | None
    reward: float | None = None
    verdict: str | None = None
    detail: str | None = None
    completion_tokens: int | None = None
    tokens: int | None = None
    finish_reason: str | None = None
    error: str | None = None
    flaw: str | None = None


@dataclass(frozen=True)
class Sample:
    """One row of a dataset: its prompt as one text, and its answers (SFT: one; DPO: chosen, rejected)."""

    dataset: str
    split: str
    prompt_id: str | None
    corpus: str | None
    prompt: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Known:
    """Everything known of one prompt.

    `rows` names the datasets and splits it has a row in; `dropped` holds its rows of DROPPED; `sft_reason` and
    `pair_reason` say why the tables give no SFT row and no pair (None: they give one, or nothing was selected).
    """

    prompt_id: str
    corpus: str | None
    corpus_row: int | None
    answer: str | None
    tests: str | None
    messages: tuple[Mapping[str, str], ...]
    answers: tuple[Answer, ...]
    rows: tuple[tuple[str, str], ...]
    dropped: tuple[Row, ...]
    sft_reason: str | None
    pair_reason: str | None


def filtered(source: Opened, condition: str) -> Opened:
    """Keep the rows of the datasets of which an SQL condition holds, and nothing of a run's tables.

    A dataset that lacks a column of the condition is left out. Raises ConfigError where every one does, or where the
    condition is none.
    """
    kept: dict[str, pl.LazyFrame] = {}
    said = ""
    for name in (name for name in source.tables if name not in RUN_TABLES):
        try:
            rows = source.tables[name].filter(pl.sql_expr(condition))
            rows.collect_schema()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            said = one_line(first_line(error), 200)
        else:
            kept[name] = rows
    if not kept:
        raise ConfigError(f"--where: {said}.")
    return Opened(source.root, None, kept, (), source.folders)


def head(source: Opened, name: str, count: int) -> pl.DataFrame:
    """Give the first rows of a table. Raises ConfigError (no such table), RunError (not made yet, unreadable)."""
    return source.collect(source.table(name).head(count))


def total(source: Opened, name: str) -> int:
    """Count the rows of a table. Raises as `head` does."""
    return int(source.collect(source.table(name).select(pl.len())).item())


def samples(source: Opened, kind: str, count: int, seed: int) -> list[Sample]:
    """Give `count` rows of a dataset, chosen by a hash of seed and prompt: the same rows each time."""
    frame = source.tables[kind]
    key = pl.col("prompt_id") if "prompt_id" in frame.collect_schema() else pl.int_range(pl.len()).cast(pl.String)
    ids = source.collect(frame.select(key.alias("id")))["id"].fill_null("")
    places = ranked("inspect", seed, ids)[:count]
    rows = source.collect(frame.with_row_index("_place").filter(pl.col("_place").is_in(places)))
    by_place = {row["_place"]: row for row in rows.iter_rows(named=True)}
    return [_sample(kind, by_place[place]) for place in places]


def _sample(kind: str, row: Row) -> Sample:
    prompt = row.get("prompt") if kind == "dpo" else (row.get("messages") or [])[:-1]
    return Sample(kind, row["split"], row.get("prompt_id"), row.get("corpus"), turns(prompt), _row_answers(kind, row))


def turns(value: object) -> str:
    """Give a text, or several turns as one text: the role stands before each but a sole one."""
    if not isinstance(value, list):
        return "" if value is None else str(value)
    if len(value) == 1:
        return str(value[0]["content"])
    return "\n".join(f"{turn['role']}: {turn['content']}" for turn in value)


def _row_answers(kind: str, row: Row) -> tuple[Answer, ...]:
    """Give the answers of a dataset's row; what a foreign dataset does not tell is None."""
    if kind == "sft":
        text = turns((row.get("messages") or [])[-1:])
        return (_answer(("response",), row, text, row.get("source_model"), ""),)
    models = {"chosen": row.get("source_model"), "rejected": row.get("rejected_source_model", row.get("source_model"))}
    if row.get("chosen_own") is not None:  # the target model wrote it, as it wrote the rejected one
        models["chosen_own"] = models["rejected"]
    return tuple(_answer((side,), row, turns(_last(row[side])), models[side], f"{side}_") for side in models)


def _last(value: object) -> object:
    return value[-1:] if isinstance(value, list) else value


def _answer(roles: tuple[str, ...], row: Row, text: str | None, model: str | None, side: str) -> Answer:
    return Answer(
        roles=roles,
        source_model=model,
        sample=row.get(f"{side}sample"),
        text=text,
        reward=row.get(f"{side}reward"),
        verdict=row.get(f"{side}verdict"),
        detail=row.get(f"{side}verdict_detail"),
        completion_tokens=row.get(f"{side}completion_tokens"),
        tokens=row.get(f"{side}tokens"),
        finish_reason=row.get(f"{side}finish_reason"),
        error=row.get("error"),
        flaw=row.get("flaw"),
    )


def known(source: Opened, beginning: str) -> Known:
    """Give everything known of the prompt whose id begins so. Raises ConfigError: none does, or several do."""
    prompt_id = _resolved(source, beginning)
    rows = {name: _of(source, name, prompt_id) for name in ("prompts", "dropped", *KINDS)}
    found = [(kind, row) for kind in KINDS for row in rows[kind]]
    first: Row = next(iter([*rows["prompts"], *(row for _, row in found), *rows["dropped"]]))
    reasons = _reasons(source.run, prompt_id) if source.run else {}
    return Known(
        prompt_id=prompt_id,
        corpus=first.get("corpus"),
        corpus_row=first.get("corpus_row"),
        answer=first.get("answer"),
        tests=first.get("tests"),
        messages=tuple(_messages(first)),
        answers=tuple(_responses(source, prompt_id, found) if source.run else _of_rows(found)),
        rows=tuple(dict.fromkeys((kind, row["split"]) for kind, row in found)),
        dropped=tuple(rows["dropped"]),
        sft_reason=reasons.get("sft_reason"),
        pair_reason=reasons.get("pair_reason"),
    )


def _resolved(source: Opened, beginning: str) -> str:
    """Complete the beginning of a prompt id."""
    named = [
        t for n, t in source.tables.items() if n in {"prompts", "dropped", *KINDS} and "prompt_id" in t.collect_schema()
    ]
    if not named:
        raise ConfigError(f"{source.root}: its rows have no prompt ids.")
    matching = [t.select("prompt_id").filter(pl.col("prompt_id").str.starts_with(beginning)).unique() for t in named]
    ids = source.collect(pl.concat(matching).unique().sort("prompt_id").head(_NAMED + 1))["prompt_id"].to_list()
    if not ids:
        raise ConfigError(f"--prompt {beginning}: no prompt of {source.root} has an id that begins so.")
    if len(ids) > 1 and beginning not in ids:
        more = ", …" if len(ids) > _NAMED else ""
        raise ConfigError(
            f"--prompt {beginning}: several prompts begin so ({', '.join(ids[:_NAMED])}{more}); give more."
        )
    return beginning if beginning in ids else str(ids[0])


def _of(source: Opened, name: str, prompt_id: str) -> list[dict[str, Any]]:
    if name not in source.tables or "prompt_id" not in source.tables[name].collect_schema():
        return []
    return source.collect(source.tables[name].filter(pl.col("prompt_id") == prompt_id)).rows(named=True)


def _messages(row: Row) -> list[dict[str, str]]:
    value = row.get("messages") or row.get("prompt") or []
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    return value[:-1] if value and value[-1]["role"] == "assistant" else value


def _reasons(run: Run, prompt_id: str) -> Row:
    """Say why the tables give no SFT row or no pair for one prompt."""
    prompts = read_prompts(run).filter(pl.col("prompt_id") == prompt_id)
    _, selection, _ = placed(run_tables(run, prompts), recipe_of(run))
    return next(selection.reasons.iter_rows(named=True), {})


def _responses(source: Opened, prompt_id: str, found: Sequence[tuple[str, Row]]) -> Iterable[Answer]:
    """Give every response to a prompt with its verdict and its reward."""
    tables = {**source.tables, "verdicts": judged(source)}
    one = {name: table.filter(pl.col("prompt_id") == prompt_id) for name, table in tables.items() if name in RUN_TABLES}
    scored = [*KEY, "text_id"]
    verdicts = one["verdicts"].select(*scored, verdict="status", verdict_detail="detail")
    rewards = one["rewards"].select(*scored, "reward", "tokens", reward_error="error")
    flaws = one["flaws"].select(*scored, "flaw")
    rows = one["responses"]
    for known_of_it in (verdicts, rewards, flaws):
        rows = rows.join(known_of_it, on=scored, how="left")
    rows = rows.with_columns(error=pl.coalesce("error", "reward_error"))
    chosen: dict[tuple[str | None, int | None], tuple[str, ...]] = {}
    for answer in _of_rows(found):
        place = (answer.source_model, answer.sample)
        chosen[place] = (*chosen.get(place, ()), *answer.roles)
    for row in source.collect(rows).sort("source_model", "sample").iter_rows(named=True):
        roles = chosen.get((row["source_model"], row["sample"]), ())
        yield _answer(roles, row, row["text"], row["source_model"], "")


def _of_rows(found: Sequence[tuple[str, Row]]) -> list[Answer]:
    return [answer for kind, row in found for answer in _row_answers(kind, row)]


def query(source: Opened, sql: str, limit: int | None = None) -> pl.DataFrame:
    """Run SQL (polars' dialect) over the tables by their names.

    Raises ConfigError where the query is wrong, RunError where a file of the tables went away or cannot be read.
    """
    known_tables = f"the tables are {', '.join(source.tables)}"
    try:
        result = pl.SQLContext(dict(source.tables)).execute(sql, eager=False)
        result.collect_schema()
    except _QUERY_FAILURES as error:
        raise ConfigError(f"--sql: {_said(error)}; {known_tables}.") from error
    try:
        return (result if limit is None else result.head(limit)).collect(engine="streaming")
    except _QUERY_FAILURES as error:
        for table in source.tables.values():
            source.collect(table.select(pl.len()))  # its files as they were opened; what is there by now comes next
        check_files(source.folders, source.parts)
        raise ConfigError(f"--sql: {_said(error)}.") from error


_QUERY_FAILURES = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError, TypeError)


def _said(error: BaseException) -> str:
    """What polars says, which may quote a text of a model."""
    return one_line(first_line(Exception(str(error))), 200)
