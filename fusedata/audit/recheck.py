"""Judging published answers again, by the recipe's own check and a run's gold answers or tests."""

from collections.abc import Iterator
from functools import partial

import polars as pl

from fusedata.audit.report import Finding
from fusedata.audit.rows import PASSING, finding
from fusedata.profile import Profile
from fusedata.readers import recipe_of, settled
from fusedata.shapes import PARTS, Kind
from fusedata.store import Run, batches, read_prompts
from fusedata.verify.checks import Check, opened

_ROWS = 2_000
_FOUND = {"split": pl.String(), "row": pl.Int64(), "prompt_id": pl.String(), "detail": pl.String()}
NAME = "verdicts again"


def recheck_findings(
    run: Run, datasets: dict[str, tuple[Kind, pl.LazyFrame]], profile: Profile | None = None
) -> Iterator[Finding]:
    """Judge every answer of the datasets of a run. Raises VerifierError, MissingExtraError, RunError."""
    recipe, prompts = recipe_of(run), read_prompts(run).select("prompt_id", "answer", "tests")
    with opened(recipe.correctness, profile or Profile(name="audit")) as check:
        for name, (kind, rows) in datasets.items():
            if check is None:
                yield Finding(NAME, "skipped", "the recipe checks no answers", name)
            else:
                yield settled(partial(_judged, name, kind, rows, prompts, check))


def _judged(name: str, kind: Kind, rows: pl.LazyFrame, prompts: pl.DataFrame, check: Check) -> Finding:
    found, count = [pl.DataFrame(schema=_FOUND)], 0
    for part in PARTS[kind][1:]:
        text = pl.col(part).list.last().struct.field("content").fill_null("")
        texts = rows.select("split", "row", "prompt_id", text=text)
        for batch in batches(texts, (), _ROWS, in_order=True):
            joined = batch.join(prompts, on="prompt_id", how="left", maintain_order="left")
            known = joined.filter(pl.col("answer").is_not_null())
            found.append(_other(known, part, check))
            count += known.height
    message = "judged again, a chosen answer is not right, or a rejected one is not wrong"
    return finding(name, count, NAME, "error", message, pl.concat(found))


def _other(rows: pl.DataFrame, part: str, check: Check) -> pl.DataFrame:
    """Give the answers whose verdict is not what their side of the pair takes."""
    passing = part != "rejected"
    verdicts = list(check.judge(rows))
    told = [f"{part}: {verdict.status}" for verdict in verdicts]
    wrong = [(v.status in PASSING) != passing or v.passed is None for v in verdicts]
    judged = rows.with_columns(detail=pl.Series(told, dtype=pl.String), _wrong=pl.Series(wrong, dtype=pl.Boolean))
    return judged.filter("_wrong").select(_FOUND.keys())
