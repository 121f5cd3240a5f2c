"""Checks that look at one row at a time: each is a condition on facts, a severity and a sentence. Pure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from fusedata.audit.expected import Expected
from fusedata.audit.facts import ESTIMATE
from fusedata.audit.report import Example, Finding, Severity
from fusedata.shapes import PARTS, Kind

EXAMPLES = 5
PASSING = ("right", "passed")
UNJUDGED = ("unjudged", "unavailable")
_USUAL_ROLES = r"^(system,)?user(,assistant,user)*$"


@dataclass(frozen=True)
class RowCheck:
    """Rows of which `found` holds; `detail` says what each example has. `lacks`: why the check cannot be made."""

    name: str
    severity: Severity
    message: str
    found: pl.Expr | None
    detail: pl.Expr | None = None
    lacks: str = ""


Make = Callable[[Kind, Expected, set[str]], RowCheck | None]


def row_findings(dataset: str, kind: Kind, rows: pl.DataFrame, expected: Expected) -> Iterator[Finding]:
    """Make every row check on the facts of a dataset."""
    told = {column for column in rows.columns if rows[column].null_count() < rows.height}
    for make in ROW_CHECKS:
        check = make(kind, expected, told)
        if check is not None:
            yield flagged(dataset, rows, check)


def flagged(dataset: str, rows: pl.DataFrame, check: RowCheck) -> Finding:
    """Count the rows that a check finds, by split, with the first of them as examples."""
    if check.found is None:
        return Finding(check.name, "skipped", check.lacks, dataset, of=rows.height)
    detail = pl.lit(None, pl.String) if check.detail is None else check.detail.cast(pl.String)
    found = rows.filter(check.found.fill_null(value=False)).select("split", "row", "prompt_id", detail=detail)
    return finding(dataset, rows.height, check.name, check.severity, check.message, found)


def finding(dataset: str, of: int, name: str, severity: Severity, message: str, found: pl.DataFrame) -> Finding:
    """Make a finding of `found` rows (split, row, prompt_id, and perhaps detail); `ok` where there is none."""
    splits = dict(found.group_by("split").len().sort("split").iter_rows())
    examples = tuple(Example(**row) for row in found.head(EXAMPLES).iter_rows(named=True))
    return Finding(name, severity if found.height else "ok", message, dataset, found.height, of, splits, examples)


def _answers(kind: Kind) -> tuple[str, ...]:
    return PARTS[kind][1:]


def _named(kind: Kind, condition: Callable[[str], pl.Expr], parts: Sequence[str] | None = None) -> pl.Expr:
    """Name the parts of which a condition holds."""
    said = [pl.when(condition(part).fill_null(value=False)).then(pl.lit(part)) for part in parts or PARTS[kind]]
    return pl.concat_str(said, separator=", ", ignore_nulls=True)


def _any(condition: Callable[[str], pl.Expr], parts: Sequence[str]) -> pl.Expr:
    return pl.any_horizontal(condition(part).fill_null(value=False) for part in parts)


def _schema(kind: Kind, _: Expected, __: set[str]) -> RowCheck:
    def null(part: str) -> pl.Expr:
        return pl.col(f"{part}_null")

    return RowCheck("schema", "error", "turns or their texts are null", _any(null, PARTS[kind]), _named(kind, null))


def _empty(kind: Kind, _: Expected, __: set[str]) -> RowCheck:
    def blank(part: str) -> pl.Expr:
        return pl.col(f"{part}_blank") & ~pl.col(f"{part}_null")

    return RowCheck("empty text", "error", "a text is blank", _any(blank, PARTS[kind]), _named(kind, blank))


def _roles(kind: Kind, _: Expected, __: set[str]) -> RowCheck:
    usual = pl.col("prompt_roles").str.contains(_USUAL_ROLES)
    for part in _answers(kind):
        usual &= pl.col(f"{part}_roles") == "assistant"
    there = ~_any(lambda part: pl.col(f"{part}_null"), PARTS[kind])
    message = "roles are not [system,] user, (assistant, user)… and then one answer of the assistant"
    said = pl.concat_str([pl.col(f"{part}_roles") for part in PARTS[kind]], separator=" | ", ignore_nulls=True)
    return RowCheck("role order", "error", message, there & ~usual, said)


def _identical(kind: Kind, _: Expected, __: set[str]) -> RowCheck | None:
    if kind == "sft":
        return None
    same = (pl.col("chosen_key") == pl.col("rejected_key")) & ~pl.col("chosen_null") & ~pl.col("rejected_null")
    return RowCheck("identical answers", "error", "chosen and rejected are the same text", same)


def _gap(kind: Kind, expected: Expected, told: set[str]) -> RowCheck | None:
    if kind == "sft":
        return None
    gap = (pl.col("chosen_reward") - pl.col("rejected_reward")).round(9)
    if not {"chosen_reward", "rejected_reward"} <= told:
        return RowCheck("reward gap", "skipped", "", None, lacks="the rows tell no rewards")
    unscored = pl.col("chosen_reward").is_null() | pl.col("rejected_reward").is_null()
    if expected.gap is None:
        return RowCheck("reward gap", "warning", "the rejected answer has the higher reward", gap < 0, gap)
    low, high = expected.gap
    message = f"the gap of the rewards is not within [{low:g}, {high:g}]"
    return RowCheck("reward gap", "error", message, unscored | ~gap.is_between(low, high), gap)


def _one_model(kind: Kind, expected: Expected, told: set[str]) -> RowCheck | None:
    if kind == "sft" or expected.same_source_model is False:
        return None
    name = "one source model"
    if not {"source_model", "rejected_source_model"} <= told:
        return RowCheck(name, "skipped", "", None, lacks="the rows do not tell who wrote the rejected answers")
    other = pl.col("source_model").ne_missing(pl.col("rejected_source_model"))
    severity: Severity = "error" if expected.same_source_model else "note"
    return RowCheck(name, severity, "the two answers come from two models", other, pl.col("rejected_source_model"))


def _verified(kind: Kind, expected: Expected, told: set[str]) -> RowCheck | None:
    verdicts = {"verdict": True} if kind == "sft" else {"chosen_verdict": True, "rejected_verdict": False}
    if expected.checked is False and not told & set(verdicts):
        return None
    if not told & set(verdicts):
        return RowCheck("verdicts", "skipped", "", None, lacks="the rows tell no verdicts")
    wrong = pl.any_horizontal(_misjudged(column, passing=passing) for column, passing in verdicts.items())
    said = pl.concat_str(*verdicts, separator=" | ", ignore_nulls=True)
    message = "an answer that should be right was not found so, or a rejected one was not found wrong"
    return RowCheck("verdicts", "error", message, wrong, said)


def _misjudged(column: str, *, passing: bool) -> pl.Expr:
    verdict = pl.col(column)
    wanted = verdict.is_in(PASSING) if passing else ~verdict.is_in([*PASSING, *UNJUDGED])
    return verdict.is_null() | ~wanted


def _too_long(kind: Kind, expected: Expected, told: set[str]) -> RowCheck:
    columns = ["tokens"] if kind == "sft" else ["chosen_tokens", "rejected_tokens"]
    counted = set(columns) <= told
    answers = _answers(kind)
    estimates = [pl.col("prompt_tokens_estimate") + pl.col(f"{part}_tokens_estimate") for part in answers]
    tokens = pl.max_horizontal(
        pl.coalesce(column, estimate) for column, estimate in zip(columns, estimates, strict=True)
    )
    how = "" if counted else f" ({ESTIMATE})"
    message = f"the conversation has more than {expected.max_tokens:,} tokens{how}: training cuts it"
    return RowCheck("too long", "warning", message, tokens > expected.max_tokens, tokens)


def _truncated(kind: Kind, _: Expected, __: set[str]) -> RowCheck:
    def cut(part: str) -> pl.Expr:
        reason = pl.col("finish_reason" if part == "response" else f"{part}_finish_reason")
        return pl.when(reason.is_not_null()).then(reason == "length").otherwise(pl.col(f"{part}_fence"))

    answers = _answers(kind)
    message = "the answer was cut off at its length limit, or ends inside a code block"
    return RowCheck("truncated", "warning", message, _any(cut, answers), _named(kind, cut, answers))


def _special(kind: Kind, _: Expected, __: set[str]) -> RowCheck:
    found = pl.coalesce(f"{part}_special" for part in PARTS[kind])
    return RowCheck(
        "special tokens", "warning", "a chat template's control token is in a text", ~found.is_null(), found
    )


def _license(_: Kind, __: Expected, told: set[str]) -> RowCheck | None:
    if "license" not in told:
        return None
    license_ = pl.col("license").str.strip_chars().str.to_lowercase()
    message = "the row's corpus has no licence, or an unknown one"
    return RowCheck(
        "licence", "warning", message, license_.is_null() | license_.is_in(["", "unknown"]), pl.col("corpus")
    )


ROW_CHECKS: tuple[Make, ...] = (
    *(_schema, _empty, _roles, _identical, _gap, _one_model, _verified),
    *(_too_long, _truncated, _special, _license),
)
