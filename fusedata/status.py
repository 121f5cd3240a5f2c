"""What a run has done, what failed and why, what is left. A reader: it takes no lock and writes nothing."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from fusedata.candidates import Tables, run_tables
from fusedata.contamination.report import Report, read_report
from fusedata.dataset import placed
from fusedata.ledger import Difference, reward_tolerance
from fusedata.plan import asked_of, wanted
from fusedata.readers import KINDS, expected, funnel_of, of_prompts, published, recipe_of, same_recipe, settled
from fusedata.recipe import Recipe
from fusedata.schema import DROPPED, FLAW_NAMES, KEY, STATUSES
from fusedata.select import near_limits
from fusedata.store import Parts, Run, collect, read_prompts, read_run

Counts = Mapping[str, int]
_FLAWS = ("none", *FLAW_NAMES)
_FEW = 4  # a check with fewer statuses has a column for each of them


@dataclass(frozen=True)
class Reason:
    """Why rows failed or could not be judged: the text (numbers that vary are N), how often, and one such row."""

    text: str
    count: int
    example: str


@dataclass(frozen=True)
class Progress:
    """One table of one source: `wanted` = `done` + `failed` + `left`; `wanted` and `left` are None where not yet known.

    `verdicts` counts them by status, of FLAWS by flaw ("none": it takes part); `reasons` tell of failed rows, of
    verdicts the unjudged ones.
    """

    table: str
    source: str
    wanted: int | None
    done: int
    failed: int
    left: int | None
    verdicts: Counts | None
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Flow:
    """Where the rows of a corpus went.

    rows_read = sum(left_out) + prompts, and prompts = sft + dpo - both + sum(dropped); `holds` says that it is so.
    `no_pair` says why prompts feed SFT alone. Counts after `prompts` are None where no dataset is up to date.
    """

    corpus: str
    rows_read: int
    left_out: Counts
    prompts: int
    sft: int | None
    dpo: int | None
    both: int | None
    dropped: Counts | None
    no_pair: Counts | None
    holds: bool


@dataclass(frozen=True)
class Published:
    """The dataset folder: rows a split of `sft` and `dpo`, and why it is not what the tables give (empty: it is).

    `near_limits` pairs lie so near an end of the gap's window that they may fall outside when scored again.
    """

    sft: Counts
    dpo: Counts
    stale: tuple[str, ...]
    near_limits: int


@dataclass(frozen=True)
class Status:
    """The state of a run. `prompts` and `left` are None until they are collected; `flows` has a row a corpus then.

    `left` counts the rows of all tables that were not tried yet, as far as is known: no response, no verdict.
    """

    run: Path
    recipe: str
    description: str
    profile: str
    fusedata: str
    limit: int | None
    stand_ins: tuple[Difference, ...]
    prompts: int | None
    left: int | None
    progress: tuple[Progress, ...]
    flows: tuple[Flow, ...]
    contamination: Report | None
    """None: decontamination is switched off, or prompts are not collected yet."""
    dataset: Published | None
    next: tuple[str, ...]


def status(root: Path) -> Status:
    """Read the state of the run in `root`. Raises RunError: no run there, or a part that cannot be read."""
    read_run(root)
    return settled(lambda: _status(read_run(root)))


def _status(run: Run) -> Status:
    recipe, funnel = recipe_of(run), funnel_of(run)
    prompts = read_prompts(run)
    tables = run_tables(run, prompts)
    progress = tuple(_progress(run, recipe, tables, known=funnel is not None))
    left = None if funnel is None else sum(p.left or 0 for p in progress)
    dataset, places = _published(run, tables, recipe, left)
    state = run.state
    return Status(
        run=run.root,
        recipe=recipe.name,
        description=recipe.description,
        profile=state["profile"],
        fusedata=state["fusedata"],
        limit=recipe.limit,
        stand_ins=tuple((key, before, after) for key, before, after in state["stand_ins"]),
        prompts=None if funnel is None else prompts.height,
        left=left,
        progress=progress,
        flows=_flows(run, recipe, funnel or [], places),
        contamination=read_report(run),
        dataset=dataset,
        next=_next(run, recipe, dataset, failed=sum(p.failed for p in progress)),
    )


def _progress(run: Run, recipe: Recipe, tables: Tables, *, known: bool) -> list[Progress]:
    samples = {model.id: model.samples for model in recipe.source_models}
    labels, prompts = run.labels("responses"), tables.prompts.select("prompt_id", "corpus", "answer", "sampled")
    each = [asked_of(table, prompts, recipe, label) for label, table in zip(labels, tables.responses, strict=True)]
    rows = []
    for label, parts, asked in zip(labels, tables.responses, each, strict=True):
        count = asked.height * samples[label] if label in samples else None
        rows.append(_drawn(label, parts, asked, count, known=known))
    left = [row.left for row in rows]
    stages = (("flaws", tables.flaws), ("verdicts", tables.verdicts), ("rewards", tables.rewards))
    for table, scored in ((table, scored) for table, scored in stages if scored):
        sources = zip(run.labels(table), left, tables.responses, scored, each, strict=True)
        rows += [_scored(table, *source) for source in sources]
    names = {"verdicts": STATUSES[recipe.correctness.check] if recipe.correctness else (), "flaws": _FLAWS}
    return [row if row.verdicts is None else _named(row, rows, names[row.table]) for row in rows]


def _named(row: Progress, rows: Sequence[Progress], known: Sequence[str]) -> Progress:
    """Name the statuses that any source has, in one order for all, and always the first two."""
    few = len(known) < _FEW
    own = [r.verdicts or {} for r in rows if r.table == row.table]
    shown = [s for s in known if few or s in known[:2] or any(verdicts.get(s) for verdicts in own)]
    return replace(row, verdicts={status: (row.verdicts or {}).get(status, 0) for status in shown})


def _drawn(label: str, parts: Parts, asked: pl.DataFrame, wanted: int | None, *, known: bool) -> Progress:
    """Count the responses of one source; of those that a corpus carries, what is there is what is wanted."""
    rows = of_prompts(parts.scan(), asked)
    done = _count(rows.filter(pl.col("error").is_null()), [parts])
    reasons = _reasons(rows.filter(pl.col("error").is_not_null()), pl.col("error"), [parts])
    total = done + sum(reason.count for reason in reasons) if wanted is None else wanted
    return _row("responses", label, total if known else None, done, reasons)


def _scored(
    table: str, label: str, to_come: int | None, responses: Parts, parts: Parts, asked: pl.DataFrame
) -> Progress:
    """Count what is said of one source's responses: wanted is one for each with a text, or yet to come."""
    keys, tries = wanted(asked, responses), [parts, responses]
    on = [name for name in keys.columns if name in parts.schema]
    found = parts.scan().join(keys.lazy(), on=on, how="semi", nulls_equal=True)
    total = None if to_come is None else keys.height + to_come
    if table == "rewards":
        reasons = _reasons(found.filter(pl.col("error").is_not_null()), pl.col("error"), tries)
        return _row(table, label, total, _count(found.filter(pl.col("error").is_null()), tries), reasons)
    what = pl.col("status") if table == "verdicts" else pl.col("flaw").fill_null("none")
    verdicts = dict(collect(found.group_by(what).len(), tries).iter_rows())
    unjudged = found.filter(pl.col("passed").is_null()) if table == "verdicts" else None
    judged, reasons = sum(verdicts.values()), () if unjudged is None else _reasons(unjudged, _WHY_UNJUDGED, tries)
    return Progress(table, label, total, judged, 0, _left(total, judged), verdicts, reasons)


def _row(table: str, label: str, wanted: int | None, done: int, failures: tuple[Reason, ...]) -> Progress:
    failed = sum(failure.count for failure in failures)
    return Progress(table, label, wanted, done, failed, _left(wanted, done + failed), None, failures)


def _left(wanted: int | None, tried: int) -> int | None:
    return None if wanted is None else max(0, wanted - tried)


_WHY_UNJUDGED = pl.coalesce(
    pl.col("detail").str.extract(r"(?:^|; )(?:could not be judged|gave up): (.*)$"), "detail", pl.lit("no reason given")
)


def _count(rows: pl.LazyFrame, tables: Sequence[Parts]) -> int:
    return int(collect(rows.select(pl.len()), tables).item())


def _reasons(rows: pl.LazyFrame, why: pl.Expr, tables: Sequence[Parts]) -> tuple[Reason, ...]:
    """Count rows by why, texts that differ in numbers only together; the most frequent first."""
    named = rows.select(*KEY, why=why.fill_null("no reason given"))
    grouped = named.group_by(pl.col("why").str.replace_all(r"\d+(?:\.\d+)?", "N").alias("masked")).agg(
        pl.len().alias("count"),
        pl.when(pl.col("why").min() == pl.col("why").max()).then(pl.col("why").min()).alias("why"),
        pl.struct(*KEY).sort_by(*KEY).first().alias("key"),
    )
    found = collect(grouped, tables).sort("count", "masked", descending=[True, False])
    return tuple(
        Reason(row["why"] or row["masked"], row["count"], "{prompt_id} {source_model} #{sample}".format(**row["key"]))
        for row in found.iter_rows(named=True)
    )


def _published(
    run: Run, tables: Tables, recipe: Recipe, left: int | None
) -> tuple[Published | None, pl.DataFrame | None]:
    """Compare the dataset with what the tables give; where they agree, give the places of the prompts too."""
    folder = run.root / "dataset"
    if not folder.is_dir():
        return None, None
    rows = {kind: published(folder / kind, kind) for kind in KINDS}
    found, selection, places = placed(tables, recipe)
    wanted = expected(recipe, found, selection, places)
    doubts = {
        "its prompts are to be collected anew": left is None,
        f"{left or 0:,} rows are left to do": bool(left),
        "the recipe changed": not all(same_recipe(folder / kind, recipe) for kind in KINDS),
        "the tables give other rows": not all(rows[kind].equals(wanted[kind]) for kind in KINDS),
    }
    stale = tuple(why for why, true in doubts.items() if true)
    splits = {k: dict(sorted(frame["split"].value_counts().iter_rows(), reverse=True)) for k, frame in rows.items()}
    near = near_limits(rows["dpo"], recipe.dpo, reward_tolerance(run.state))
    return Published(splits["sft"], splits["dpo"], stale, near), None if stale else places


def _flows(
    run: Run, recipe: Recipe, funnel: list[tuple[str, str, int]], places: pl.DataFrame | None
) -> tuple[Flow, ...]:
    dropped = run.parts("dropped", "", DROPPED)
    rows = collect(dropped.scan().group_by("corpus", "reason").len(), [dropped])
    recorded = {(corpus, reason): count for corpus, reason, count in rows.iter_rows()}
    return tuple(_flow(corpus.id, funnel, recorded, places) for corpus in recipe.corpora if funnel)


def _flow(
    corpus: str, funnel: list[tuple[str, str, int]], recorded: dict[tuple[str, str], int], places: pl.DataFrame | None
) -> Flow:
    """Add up one corpus: what collecting counted, what DROPPED records, where the prompts went."""
    counted = {what: count for name, what, count in funnel if name == corpus}
    read, prompts = counted.pop("rows read", 0), counted.pop("prompts", 0)
    named = {what: count for what, count in counted.items() if not what.endswith("(rows)")}
    holds = read == sum(counted.values()) + prompts and named == {r: n for (c, r), n in recorded.items() if c == corpus}
    if places is None:
        return Flow(corpus, read, counted, prompts, None, None, None, None, None, holds)
    own = places.filter(pl.col("corpus") == corpus)
    sft, dpo, both = (int(own.select(column.sum()).item()) for column in _PLACES)
    dropped = _counts(own["dropped"])
    no_pair = _counts(own.filter(pl.col("sft") & ~pl.col("dpo"))["pair_reason"])
    holds = holds and prompts == own.height == sft + dpo - both + sum(dropped.values())
    return Flow(corpus, read, counted, prompts, sft, dpo, both, dropped, no_pair, holds)


def _counts(reasons: pl.Series) -> Counts:
    counts = reasons.drop_nulls().value_counts()
    return dict(counts.sort("count", reasons.name, descending=[True, False]).iter_rows())


_PLACES = (pl.col("sft"), pl.col("dpo"), pl.col("sft") & pl.col("dpo"))


def _next(run: Run, recipe: Recipe, dataset: Published | None, failed: int) -> tuple[str, ...]:
    """Give the commands that make sense now, the first first."""
    look = f"fusedata inspect {shlex.quote(str(run.root))}"
    if dataset is None:
        return (_build_command(run, recipe),)
    if dataset.stale or failed:
        return (_build_command(run, recipe), look)
    return (look,)


def _build_command(run: Run, recipe: Recipe) -> str:
    """Give the command that goes on with this run."""
    name, profile = run.state.get("typed") or (recipe.name, run.state["profile"])
    limit = ["--limit", str(recipe.limit)] if recipe.limit else []
    return shlex.join(["fusedata", "build", name, "--profile", profile, *limit, "--out", str(run.root)])
