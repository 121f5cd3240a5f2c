"""A corpus that is read in parts, as the nodes of a cluster do, gives what it gives when it is read as a whole."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest
from conftest import recipe_over, write_corpus

from fusedata.collect.distinct import Distinct
from fusedata.collect.filters import near_duplicates
from fusedata.collect.gold import gold_check
from fusedata.collect.locate import Located, locate
from fusedata.collect.prompts import Problems, collect, read_problems
from fusedata.collect.rows import lazy_rows, parts
from fusedata.config import validate
from fusedata.corpus import Corpus
from fusedata.recipe import Recipe

SIZE = 600
TABLE = {"prompt": "q", "answer": "a", "license": "mit", "at_least": {"score": 1}, "where_not": {"lang": ["de"]}}


def plain_rows(first: int) -> list[dict[str, object]]:
    """Problems in many rows: equal ones, blank ones, ones with two answers, ones that no condition keeps."""
    return [
        {
            "q": [f"  What is {n % 41} plus {n % 41}? ", "", f"What\r\nis {n % 7}?", f"What\nis {n % 7}?"][n % 4],
            "a": str(n % 41 * 2 if n % 4 else n % 3),
            "score": n % 9,
            "lang": "de" if n % 11 == 0 else "en",
        }
        for n in range(first, first + 160)
    ]


def turns_rows(first: int) -> list[dict[str, object]]:
    talks = [
        [("user", f"Hello {n % 13}"), ("assistant", "Hi"), ("user" if n % 5 else "assistant", "?")][n % 6 == 0 :]
        for n in range(first, first + 60)
    ]
    return [{"q": [{"role": r, "content": c} for r, c in talk], "a": None, "score": 3, "lang": "en"} for talk in talks]


def corpora(folder: Path) -> list[tuple[Corpus, Located]]:
    """Parquet files of several row groups, JSON files whose answers are of two types, conversations."""
    for name, first in (("one", 0), ("two", 100), ("three", 500)):
        (folder / "tables").mkdir(exist_ok=True)
        pl.DataFrame(plain_rows(first)).write_parquet(folder / "tables" / f"{name}.parquet", row_group_size=37)
        (folder / "talks").mkdir(exist_ok=True)
        pl.DataFrame(turns_rows(first), schema_overrides={"a": pl.String}).write_parquet(
            folder / "talks" / f"{name}.parquet", row_group_size=20
        )
    (folder / "lines").mkdir(exist_ok=True)
    whole = [{**row, "a": int(str(row["a"]))} for row in plain_rows(7)]
    write_corpus(folder / "lines" / "a.jsonl", whole)
    write_corpus(folder / "lines" / "b.jsonl", [{**row, "a": float(str(row["a"]))} for row in whole])
    lines = "\n".join(json.dumps(row) for row in whole[:50])
    (folder / "lines" / "c.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
    tables = [
        {"id": f"test/{name}", "path": str(folder / name), "files": ["*"], **TABLE}
        for name in ("lines", "tables", "talks")
    ]
    tables[2].pop("answer")
    recipe = validate(Recipe, {"name": "x", "corpora": tables, "source_models": [{"id": "test/model"}]}, "test")
    return [(c, locate(c.id, files=c.files, split="train", path=Path(str(c.path)))) for c in recipe.corpora]


def in_parts(corpus: Corpus, located: Located, seed: int) -> Problems:
    whole = Problems(Distinct())
    cut = parts(corpus, located, SIZE)
    assert len(cut) >= 3
    for own, part in cut:
        some = read_problems(corpus, own, seed, part)
        whole.plain, whole.reasons = some.plain, some.reasons
        whole.found.join(some.found.different(), some.found.seen, some.found.dropped)
    return whole


@pytest.mark.parametrize("take", [None, 12])
def test_prompts_drops_and_funnel_are_those_of_the_corpus_read_as_a_whole(tmp_path, take):
    found = [(corpus.model_copy(update={"take": take}), located) for corpus, located in corpora(tmp_path)]
    recipe = recipe_over(tmp_path).model_copy(update={"corpora": tuple(corpus for corpus, _ in found)})

    def filters():
        return [gold_check(lambda rows: iter([None] * rows.height)), near_duplicates(0.8)]

    whole, cut = collect(found, recipe, filters()), collect(found, recipe, filters(), in_parts)
    assert whole.prompts.height > 20
    assert {"in an earlier corpus", "conflicting gold answers", "near duplicate"} <= set(whole.dropped["reason"])
    assert cut.prompts.equals(whole.prompts)
    assert cut.dropped.equals(whole.dropped)
    assert cut.funnel == whole.funnel
    assert {"empty prompt (rows)", "turns out of order (rows)", "at_least score (rows)", "where_not lang (rows)"} <= {
        what for _, what, _ in whole.funnel
    }


def test_parts_hold_each_row_once_in_the_corpus_order(tmp_path):
    for corpus, located in corpora(tmp_path):
        whole = pl.concat(frame.collect() for frame in lazy_rows(corpus, located))
        cut = [lazy_rows(corpus, own, part) for own, part in parts(corpus, located, SIZE)]
        assert pl.concat(frame.collect() for frames in cut for frame in frames).equals(whole)
        assert whole["row"].to_list() == list(range(whole.height))
