"""Collection on the cluster: nodes read corpora part by part and give back what differs; one task puts it together.

Prompts pass the filters in that one task: which of near duplicates is kept depends on what was taken before, in the
order of hashes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pyarrow as pa

from fusedata.collect.locate import Located
from fusedata.collect.prompts import Problems, collect, read_problems
from fusedata.collect.read import Part
from fusedata.collect.rows import parts
from fusedata.collect.stage import Corpora, Funnel, carry, prompt_filters, write_prompts
from fusedata.contamination.overlap import Item
from fusedata.corpus import Corpus
from fusedata.errors import FusedataError
from fusedata.on_ray.cluster import again, dataset_of, elsewhere, everywhere, readings
from fusedata.on_ray.workers import Place, Seams, failure, packed
from fusedata.storage import place
from fusedata.store import read_run

LEAST_BYTES = 256 << 20
"""Corpora that are smaller, all together, are read by the driver: it is done before the cluster has begun."""
PART_BYTES = 128 << 20
"""What a node reads at a time."""
Cut = tuple[Corpus, Located, Part]
_TABLE = pa.schema(
    {"number": pa.int64(), "told": pa.binary(), "rows": pa.large_binary(), "kind": pa.string(), "error": pa.string()}
)


@dataclass(frozen=True)
class Describing:
    """How parts of corpora, by their numbers, become their problems; an error of ours is told in place of them."""

    seen: Place
    cuts: Mapping[int, Cut]
    seed: int

    def __call__(self, numbers: pa.Table) -> Iterator[pa.Table]:
        """Read some parts."""
        for number in numbers["number"].to_pylist():
            corpus, located, part = self.cuts[number]
            try:
                with self.seen.begun(f"corpus {corpus.id}: reading {located.files[0]}", part.span):
                    found = described(number, read_problems(corpus, located, self.seed, part))
                yield found
            except FusedataError as error:
                yield pa.table({"number": [number], "told": [b""], "rows": [b""], **failure(error)}, _TABLE)


def described(number: int, problems: Problems) -> pa.Table:
    """Give the problems of a part as a table of one row."""
    found = problems.found
    told = orjson.dumps([found.seen, found.dropped, problems.plain, list(problems.reasons)])
    held = {"number": [number], "told": [told], "rows": [packed(found.different())], "kind": [""], "error": [""]}
    return pa.table(held, _TABLE)


def read_elsewhere(seen: Place, corpora: Corpora, seed: int, size: int) -> tuple[list[Any], list[int]]:
    """Read corpora in parts of about `size` bytes, on any nodes; one that not all of them see, here.

    Gives references to tables of `described`, in any order, and how many each corpus has. Raises FusedataError.
    """
    import ray

    alike = shared(corpora)
    calls = [partial(_cut, seen, *pair, size) for pair, is_seen in zip(corpora, alike, strict=True) if is_seen]
    found = (cuts for cuts, _ in elsewhere(calls))
    tables: list[Any] = []
    counts: list[int] = []
    cuts: dict[int, Cut] = {}
    for (corpus, located), is_seen in zip(corpora, alike, strict=True):
        number = sum(counts)
        own = next(found) if is_seen else []
        cuts |= {number + n: (corpus, *part) for n, part in enumerate(own)}
        counts.append(len(own) if is_seen else 1)
        if not is_seen:
            tables.append(ray.put(described(number, read_problems(corpus, located, seed))))
    if cuts:
        given = dataset_of(pa.table({"number": [number]}) for number in cuts)
        tables += readings(given, Describing(seen, cuts, seed), cpus=1).to_arrow_refs()
    return tables, counts


def _cut(seen: Place, corpus: Corpus, located: Located, size: int) -> tuple[list[tuple[Located, Part]], None]:
    with seen.begun(f"corpus {corpus.id}: cutting it into parts"):
        return parts(corpus, located, size), None


def shared(corpora: Corpora) -> list[bool]:
    """Tell of each corpus whether all nodes see its files as they are here."""
    files = [located.files for _, located in corpora]
    (here, _), *there = [_stamps(files), *everywhere(partial(_stamps, files))]
    return [all(stamps[n] == own for stamps, _ in there) for n, own in enumerate(here)]


def _stamps(corpora: Sequence[Sequence[Path]]) -> tuple[list[list[tuple[int, int]]], None]:
    """Give size and time of change of each corpus's files, as this node sees them."""

    def stamp(path: Path) -> tuple[int, int]:
        state = path.stat() if path.exists() else None
        return (state.st_size, state.st_mtime_ns) if state else (0, 0)

    return [[stamp(path) for path in files] for files in corpora], None


def put_together(
    seen: Place,
    seams: Seams,
    corpora: Corpora,
    items: Sequence[Item],
    tables: Sequence[Any],
    counts: Sequence[int],
) -> tuple[Funnel, None]:
    """Take the prompts out of what nodes have read, and write PROMPTS and DROPPED. Raises FusedataError."""
    ordered, left = _ordered(tables), iter(counts)

    def read(*_: object) -> Problems:
        return _joined(islice(ordered, next(left)))

    with seen.begun("collect: taking the prompts"):
        with seams.open_check(seams.recipe.correctness, seams.profile) as check:
            filters = prompt_filters(seams.recipe, check.gold if check else None, items)
            found = collect(corpora, seams.recipe, filters, read)
        write_prompts(read_run(place(seen.root)), found)
        return found.funnel, None


def _ordered(tables: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Give the tables by their numbers, each one's row."""
    import ray

    waiting: dict[int, Any] = {}
    expected = 0
    for table in tables:
        waiting[ray.get(table)["number"][0].as_py()] = table
        while expected in waiting:
            yield ray.get(waiting.pop(expected)).to_pylist()[0]
            expected += 1


def _joined(rows: Iterator[dict[str, Any]]) -> Problems:
    problems = Problems()
    for row in rows:
        if row["kind"]:
            raise again(row["kind"], row["error"])
        seen, dropped, problems.plain, problems.reasons = orjson.loads(row["told"])
        problems.found.join(pl.read_ipc(BytesIO(row["rows"])), seen, dropped)
    return problems


def carry_there(seen: Place, seams: Seams, corpus: Corpus, located: Located) -> tuple[None, None]:
    """Write what a corpus carries of responses and rewards. Raises FusedataError."""
    with seen.begun(f"corpus {corpus.id}: reading its responses"):
        if write := carry(read_run(place(seen.root)), corpus, located, seams.recipe.reward):
            write()
        return None, None
