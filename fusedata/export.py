"""Datasets in the shapes that others train from: TRL, LLaMA-Factory, ms-swift, ShareGPT, and FuseAI's released one."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import orjson
import polars as pl

from fusedata.errors import ConfigError, CorpusError, RunError
from fusedata.publish.folder import write_split
from fusedata.shapes import PARTS, Kind
from fusedata.sources import Dataset, Hub, open_datasets
from fusedata.store import first_line, replacing, writing

Form = Literal["trl", "llamafactory", "ms-swift", "sharegpt", "fuseai"]
FORMS: tuple[Form, ...] = ("trl", "llamafactory", "ms-swift", "sharegpt", "fuseai")

_ROWS = 5_000
_FROM = {"user": "human", "assistant": "gpt", "tool": "observation"}


@dataclass(frozen=True)
class Exported:
    """One split of one dataset as it was written: a file, or for TRL the folder of its shards."""

    dataset: str
    split: str
    path: Path
    rows: int


def export(
    source: str | Path,
    form: Form,
    out: Path,
    *,
    hub: Hub = "huggingface",
    revision: str | None = None,
    cache: Path | None = None,
) -> list[Exported]:
    """Write the datasets of a run, a folder or a hub as `form` into `out`, a new or empty folder; no row is left out.

    Raises ConfigError where `out` holds something, CorpusError where a row cannot be said in that form, and what
    `open_datasets` raises.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: is there already and not empty; name a new folder.")
    datasets, _ = open_datasets(source, hub=hub, revision=revision, cache=cache)
    written: list[Exported] = []
    with replacing(out) as new:
        for dataset in datasets:
            written += _written(dataset, form, new, sole=len({d.kind for d in datasets}) == len(datasets))
        if form == "llamafactory":
            _dataset_info(new, written, {dataset.name: dataset.kind for dataset in datasets})
    return [Exported(w.dataset, w.split, out / w.path.relative_to(new), w.rows) for w in written]


def _written(dataset: Dataset, form: Form, folder: Path, *, sole: bool) -> Iterator[Exported]:
    name = dataset.kind if sole else dataset.name.replace("/", "_")
    try:
        _check(dataset)
        splits = dataset.rows.group_by("split", maintain_order=True).len().collect(engine="streaming")
        for split, count in splits.iter_rows():
            rows = SHAPED[form](dataset.rows.filter(split=split), dataset.kind)
            yield Exported(dataset.name, split, WRITERS[form](folder, name, split, rows), count)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise RunError(f"{dataset.folder}: cannot be exported ({first_line(error)}).") from error


def _check(dataset: Dataset) -> None:
    """Refuse rows that could only be exported in part: each must have a prompt, and answers of one turn."""
    prompt, *answers = (pl.col(part).list.len().fill_null(0) for part in PARTS[dataset.kind])
    odd = dataset.rows.filter((prompt == 0) | pl.any_horizontal(answer != 1 for answer in answers))
    rows = odd.select("split", "row").head(1).collect(engine="streaming")
    if rows.height:
        split, row = rows.row(0)
        found = "has no prompt, or an answer that is not one turn"
        raise CorpusError(f"{dataset.folder}: row {row} of {split} {found}; `fusedata audit` lists such rows.")


def _turns(part: pl.Expr) -> pl.Expr:
    said = pl.element().struct
    turn = said.field("role").replace(_FROM).alias("from"), said.field("content").alias("value")
    return part.list.eval(pl.struct(*turn))


def _whole(*parts: str) -> pl.Expr:
    return pl.concat_list(*parts)


def _trl(rows: pl.LazyFrame, kind: Kind) -> pl.LazyFrame:
    """Give messages, or prompt, chosen and rejected; and what a trainer may weigh or group rows by."""
    told = rows.select(pl.col("prompt_id", "corpus", "source_model", "weight"), *PARTS[kind])
    return told if kind == "dpo" else told.select(pl.exclude("prompt", "response"), messages=_whole(*PARTS["sft"]))


def _sharegpt(rows: pl.LazyFrame, kind: Kind) -> pl.LazyFrame:
    return rows.select(_sharegpt_columns(kind))


def _llamafactory(rows: pl.LazyFrame, kind: Kind) -> pl.LazyFrame:
    """ShareGPT's turns, the system prompt in a column of its own; chosen and rejected single turns, never lists."""
    first = pl.col("prompt").list.first()
    has_system = first.struct.field("role") == "system"
    system = pl.when(has_system).then(first.struct.field("content")).otherwise(pl.lit(""))
    prompt = pl.when(has_system).then(pl.col("prompt").list.slice(1)).otherwise(pl.col("prompt"))
    return rows.with_columns(prompt=prompt, system=system).select(*_sharegpt_columns(kind), "system")


def _sharegpt_columns(kind: Kind) -> list[pl.Expr]:
    if kind == "sft":
        return [_turns(_whole(*PARTS["sft"])).alias("conversations")]
    sides = [_turns(pl.col(side)).list.first().alias(side) for side in PARTS["dpo"][1:]]
    return [_turns(pl.col("prompt")).alias("conversations"), *sides]


def _ms_swift(rows: pl.LazyFrame, kind: Kind) -> pl.LazyFrame:
    if kind == "sft":
        return rows.select(messages=_whole(*PARTS["sft"]))
    rejected = pl.col("rejected").list.first().struct.field("content")
    return rows.select(messages=_whole("prompt", "chosen"), rejected_response=rejected)


def _fuseai(rows: pl.LazyFrame, kind: Kind) -> pl.LazyFrame:
    told = pl.col("corpus").alias("dataset"), pl.col("source_model")
    if kind == "sft":
        return rows.select(*told, conversations=_turns(_whole(*PARTS["sft"])))
    return rows.select(*told, *PARTS["dpo"])


SHAPED: Mapping[Form, Callable[[pl.LazyFrame, Kind], pl.LazyFrame]] = {
    "trl": _trl,
    "llamafactory": _llamafactory,
    "ms-swift": _ms_swift,
    "sharegpt": _sharegpt,
    "fuseai": _fuseai,
}


def _parquet(folder: Path, name: str, split: str, rows: pl.LazyFrame) -> Path:
    write_split(folder / name, split, rows.collect(engine="streaming"))
    return folder / name


def _json_lines(folder: Path, name: str, split: str, rows: pl.LazyFrame) -> Path:
    path = folder / f"{name}_{split}.jsonl"
    with writing(path) as file:
        for batch in rows.collect_batches(chunk_size=_ROWS, lazy=True):
            batch.write_ndjson(file)
    return path


def _json_array(folder: Path, name: str, split: str, rows: pl.LazyFrame) -> Path:
    """One JSON array a split, as FuseAI released its sets."""
    path = folder / name / f"{split}.json"
    with writing(path) as file:
        separator = b"[\n"
        for batch in rows.collect_batches(chunk_size=_ROWS, lazy=True):
            for row in batch.iter_rows(named=True):
                file.write(separator + orjson.dumps(row))
                separator = b",\n"
        file.write(b"\n]\n")
    return path


WRITERS: Mapping[Form, Callable[[Path, str, str, pl.LazyFrame], Path]] = {
    "trl": _parquet,
    "llamafactory": _json_lines,
    "ms-swift": _json_lines,
    "sharegpt": _json_lines,
    "fuseai": _json_array,
}


def _dataset_info(folder: Path, written: list[Exported], kinds: Mapping[str, Kind]) -> None:
    """Write the entries that LLaMA-Factory's `dataset_dir` needs: one a split, by the name of its file."""
    entries = {}
    for one in written:
        ranking = kinds[one.dataset] == "dpo"
        sides = {"chosen": "chosen", "rejected": "rejected"} if ranking else {}
        entries[one.path.stem] = {
            "file_name": one.path.name,
            "formatting": "sharegpt",
            **({"ranking": True} if ranking else {}),
            "columns": {"messages": "conversations", **sides, "system": "system"},
        }
    with writing(folder / "dataset_info.json") as file:
        file.write(orjson.dumps(entries, option=orjson.OPT_INDENT_2) + b"\n")
