"""Looking into a run or a dataset folder: counts, distributions, sample rows, one prompt, SQL. A reader.

Texts are read for the rows that are shown only; counts and distributions take columns of numbers, streaming.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from fusedata.dataset import SCHEMAS
from fusedata.errors import ConfigError, FusedataError, RunError
from fusedata.mixture import looked_into
from fusedata.plots import Distribution, Summary, distribution, summarise
from fusedata.readers import FAILURES, KINDS, check_files, collect_files, data_files, of_prompts, scan_dataset
from fusedata.schema import DROPPED, FLAWS, KEY, PROMPTS, RESPONSES, REWARDS, VERDICTS
from fusedata.sources import Hub, datasets_in, find_folder
from fusedata.store import Parts, Run, first_line, read_prompts, read_run

RUN_TABLES = {
    "prompts": PROMPTS,
    "responses": RESPONSES,
    "verdicts": VERDICTS,
    "rewards": REWARDS,
    "flaws": FLAWS,
    "dropped": DROPPED,
}
TABLES = (*RUN_TABLES, *KINDS)
_NOTHING = "holds neither run.json nor data/*.parquet nor JSON; name a run folder, or a folder of SFT rows or pairs."


@dataclass(frozen=True)
class Opened:
    """The tables of a run or of a dataset folder, lazily, by name; `run` is None for a dataset folder."""

    root: Path
    run: Run | None
    tables: Mapping[str, pl.LazyFrame]
    parts: Sequence[Parts] = ()
    folders: Sequence[Path] = ()

    def collect(self, frame: pl.LazyFrame) -> pl.DataFrame:
        """Collect a query over the tables, streaming. Raises RunError naming the file that cannot be read."""
        return collect_files(frame, self.folders, self.parts)

    def table(self, name: str) -> pl.LazyFrame:
        """Give a table. Raises ConfigError where there is none of that name, RunError where it is not made yet."""
        if name not in self.tables:
            raise ConfigError(f"{name}: unknown table; {self.root} has {', '.join(self.tables)}.")
        if name in KINDS and self.run is not None and not self.folders:
            raise RunError(f"{self.root}: has no dataset yet; `fusedata status {self.root}` says what is left.")
        return self.tables[name]

    def __getattr__(self, name: str) -> pl.LazyFrame:
        """Give a table by its name. Raises AttributeError where there is none."""
        if name not in {*TABLES, *self.__dict__.get("tables", ())}:
            raise AttributeError(name)
        try:
            return self.table(name)
        except FusedataError as error:
            raise AttributeError(str(error)) from None

    def has_rows(self, name: str) -> bool:
        """Whether a table is there and has a row."""
        return name in self.tables and bool(self.collect(self.tables[name].select(pl.len())).item())


def opened(name: str | Path, *, hub: Hub = "huggingface", revision: str | None = None) -> Opened:
    """Open a run folder, its `dataset` folder, a folder or file of anyone's SFT rows or pairs, or a hub's dataset.

    Rows that are kept in another shape than TRL's are brought into it. Raises RunError where there is nothing of the
    kind or a file cannot be read, CorpusError where its rows cannot, HubError where the hub refuses.
    """
    root = looked_into(Path(name).expanduser() if isinstance(name, str | Path) else name)
    if (root / "run.json").is_file():
        return _opened_run(read_run(root))
    found = {kind: root / kind for kind in KINDS if (root / kind / "data").is_dir()}
    found = found or ({_kind(root): root} if (root / "data").is_dir() and data_files(root) else {})
    if found:
        return Opened(root, None, {kind: _scanned(folder) for kind, folder in found.items()}, (), list(found.values()))
    folder, files = find_folder(name, hub=hub, revision=revision)
    if not files:
        raise RunError(f"{folder}: {_NOTHING}")
    datasets = datasets_in(folder, files)
    return Opened(root, None, {dataset.name: dataset.as_messages() for dataset in datasets})


def _opened_run(run: Run) -> Opened:
    prompts = read_prompts(run)
    parts = {name: [run.parts(name, label, s) for label in run.labels(name)] for name, s in RUN_TABLES.items()}
    tables = {name: pl.concat([p.scan() for p in ps] or [_empty(name)]) for name, ps in parts.items()}
    for name in ("responses", "flaws", "verdicts", "rewards"):
        tables[name] = pl.concat([of_prompts(p.scan(), p.asked(prompts)) for p in parts[name]] or [_empty(name)])
    folders = [run.root / "dataset" / kind for kind in KINDS]
    for kind, folder in zip(KINDS, folders, strict=True):
        tables[kind] = _scanned(folder) if folder.is_dir() else _empty(kind)
    there = [f for f in folders if f.parent.is_dir()]
    return Opened(run.root, run, tables, [p for ps in parts.values() for p in ps], there)


def _empty(name: str) -> pl.LazyFrame:
    schema = RUN_TABLES.get(name) or {**SCHEMAS[name], "split": pl.String()}
    return pl.LazyFrame(schema=schema)


def _scanned(folder: Path) -> pl.LazyFrame:
    """Scan a dataset folder. Raises RunError where it holds no data, or none that can be read."""
    rows = scan_dataset(folder)
    if rows is None:
        raise RunError(f"{folder}: {_NOTHING}")
    try:
        rows.collect_schema()
    except FAILURES as error:
        check_files([folder])
        raise RunError(f"{folder}: its files do not fit together ({first_line(error)}).") from error
    return rows


def _kind(folder: Path) -> str:
    columns = _scanned(folder).collect_schema().names()
    if "chosen" in columns and "rejected" in columns:
        return "dpo"
    if "messages" in columns:
        return "sft"
    raise RunError(f"{folder}: its rows have neither `messages` nor `chosen` and `rejected`; it is no SFT or DPO data.")


@dataclass(frozen=True)
class Count:
    """Rows of a dataset by split, corpus and source model; None where the dataset does not tell."""

    dataset: str
    split: str
    corpus: str | None
    source_model: str | None
    rows: int


@dataclass(frozen=True)
class Responses:
    """What is known of one source model's responses, in a run."""

    source_model: str
    responses: int
    failed: int
    verdicts: Mapping[str, int]
    reward: Summary
    completion_tokens: Summary


@dataclass(frozen=True)
class Length:
    """How long one part of a dataset's rows is."""

    dataset: str
    part: str
    unit: str
    summary: Summary


@dataclass(frozen=True)
class Overview:
    """What a run or a dataset holds, in numbers.

    `verdicts` counts the verdicts of all responses, or of a dataset's rows where there is no run; `longer` says how
    many of the pairs have the longer (in characters), equal or shorter text chosen.
    """

    root: Path
    counts: tuple[Count, ...]
    responses: tuple[Responses, ...]
    verdicts: Mapping[str, int]
    distributions: Mapping[str, Distribution]
    lengths: tuple[Length, ...]
    longer: Mapping[str, int] = field(default_factory=dict)


def overview(source: Opened) -> Overview:
    """Count and measure. Raises RunError where a file cannot be read."""
    kinds = [kind for kind in KINDS if source.has_rows(kind)]
    measured = {kind: _measured(source, kind) for kind in kinds}
    answers = _answers(source) if source.run else None
    return Overview(
        root=source.root,
        counts=tuple(count for kind in kinds for count in _counts(source, kind)),
        responses=() if answers is None else tuple(_responses(answers)),
        verdicts=_verdicts(source, kinds) if answers is None else _counted(answers["status"]),
        distributions=_distributions(answers, measured),
        lengths=tuple(length for kind in kinds for length in _lengths(kind, measured[kind])),
        longer=_longer(measured["dpo"]) if "dpo" in kinds else {},
    )


def _counts(source: Opened, kind: str) -> list[Count]:
    frame = source.tables[kind]
    names = frame.collect_schema().names()
    by = [pl.col(c) if c in names else pl.lit(None, pl.String).alias(c) for c in ("split", "corpus", "source_model")]
    rows = source.collect(frame.select(by).group_by("split", "corpus", "source_model").len())
    rows = rows.sort("corpus", "source_model", "split", descending=[False, False, True])
    return [Count(kind, *row) for row in rows.iter_rows()]


_MEASURES = {
    "sft": {"response": "messages"},
    "dpo": {"chosen": "chosen", "rejected": "rejected", "chosen own": "chosen_own"},
}


def _measured(source: Opened, kind: str) -> pl.DataFrame:
    """Give the numbers of each row: rewards, tokens, and the characters of each text."""
    frame = source.tables[kind]
    schema = frame.collect_schema()
    texts = {f"{part} characters": last_text(schema, column) for part, column in _MEASURES[kind].items()}
    columns = {name: text.str.len_chars() for name, text in texts.items() if text is not None}
    names = ("reward", "tokens", "completion_tokens", "prompt_tokens")
    sides = ("", "chosen_", "rejected_", "chosen_own_")
    numbers = [f"{side}{name}" for side in sides for name in names if f"{side}{name}" in schema]
    return source.collect(frame.select(*numbers, **columns))


def last_text(schema: Mapping[str, pl.DataType], column: str) -> pl.Expr | None:
    """Give the text of a column, or the last turn's where it holds turns; None where it holds neither."""
    dtype = schema.get(column)
    if dtype == pl.String:
        return pl.col(column)
    turn = dtype.inner if isinstance(dtype, pl.List) else None
    if isinstance(turn, pl.Struct) and "content" in {part.name for part in turn.fields}:
        return pl.col(column).list.last().struct.field("content")
    return None


def judged(source: Opened) -> pl.LazyFrame:
    """Give the verdicts of a run by the gold answers that its prompts have now; the table keeps those by older ones."""
    gold = source.tables["prompts"].select("prompt_id", "answer")
    return source.tables["verdicts"].join(gold, on=["prompt_id", "answer"], how="semi", nulls_equal=True)


def _answers(source: Opened) -> pl.DataFrame:
    """Give the numbers of each response, and what is said of its text."""
    told = [*KEY, "text_id"]
    rows = source.tables["responses"].select(*told, "completion_tokens", failed=pl.col("error").is_not_null())
    rows = rows.join(judged(source).select(*told, "status"), on=told, how="left")
    rows = rows.join(source.tables["rewards"].select(*told, "reward"), on=told, how="left")
    return source.collect(rows.select("source_model", "completion_tokens", "failed", "status", "reward"))


def _responses(answers: pl.DataFrame) -> Iterable[Responses]:
    for (model,), own in sorted(answers.group_by("source_model"), key=lambda group: str(group[0][0])):
        reward, tokens = summarise(own["reward"]), summarise(own["completion_tokens"])
        yield Responses(str(model), own.height, int(own["failed"].sum()), _counted(own["status"]), reward, tokens)


def _counted(statuses: pl.Series) -> Mapping[str, int]:
    counts = statuses.drop_nulls().value_counts()
    return dict(counts.sort("count", statuses.name, descending=[True, False]).iter_rows())


def _verdicts(source: Opened, kinds: Sequence[str]) -> Mapping[str, int]:
    return {
        f"{column}: {verdict}": count
        for kind in kinds
        for column in ("verdict", "chosen_verdict", "rejected_verdict")
        if column in source.tables[kind].collect_schema()
        for verdict, count in source.collect(source.tables[kind].group_by(column).len().sort(column)).iter_rows()
    }


def _distributions(answers: pl.DataFrame | None, measured: Mapping[str, pl.DataFrame]) -> dict[str, Distribution]:
    """Give the histograms that the tables allow, by what they are of."""
    columns = {} if answers is None else {"reward of a response": answers["reward"]}
    for kind, rows in measured.items():
        if {"chosen_reward", "rejected_reward"} <= set(rows.columns):
            columns["reward gap of a pair"] = rows["chosen_reward"] - rows["rejected_reward"]
        elif "reward" in rows.columns and answers is None:
            columns[f"reward of {'an SFT row' if kind == 'sft' else 'a row'}"] = rows["reward"]
    found = {name: distribution(values) for name, values in columns.items()}
    return {name: found_one for name, found_one in found.items() if found_one.bins}


def _lengths(kind: str, measured: pl.DataFrame) -> Iterable[Length]:
    for column in measured.columns:
        words = column.replace("_", " ").split()
        part, unit, summary = words[:-1], words[-1], summarise(measured[column])
        if unit in {"tokens", "characters"} and summary.count:
            whole = [] if unit == "characters" or part[-1:] in (["prompt"], ["completion"]) else ["conversation"]
            yield Length(kind, " ".join(part + whole), unit, summary)


def _longer(measured: pl.DataFrame) -> dict[str, int]:
    if not {"chosen characters", "rejected characters"} <= set(measured.columns):
        return {}
    more = measured["chosen characters"].cast(pl.Int64) - measured["rejected characters"].cast(pl.Int64)
    return {"longer": int((more > 0).sum()), "equal": int((more == 0).sum()), "shorter": int((more < 0).sum())}
