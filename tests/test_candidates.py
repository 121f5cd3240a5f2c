"""Candidates: each response with what was said of it, of its own text and by the gold answer of its prompt."""

from itertools import count
from pathlib import Path

import polars as pl
import pytest

from fusedata.candidates import Tables, candidates
from fusedata.errors import RunError
from fusedata.schema import FLAWS, PROMPTS, RESPONSES, REWARDS, VERDICTS
from fusedata.store import Parts

PROMPT_IDS = ("a", "b", "c")


def written(folder: Path, schema: pl.Schema, *parts: list[dict[str, object]]) -> Parts:
    table = Parts(folder, schema)
    for number, rows in enumerate(parts):
        table.write(str(number), pl.DataFrame([{**dict.fromkeys(schema), **row} for row in rows], schema))
    return table


def said(prompt: str, sample: int, **more: object) -> dict[str, object]:
    return {"prompt_id": prompt, "source_model": "m", "sample": sample, "text_id": f"{prompt}{sample}", **more}


@pytest.fixture(params=[1, 1_000_003])
def tables(tmp_path: Path, request: pytest.FixtureRequest) -> Tables:
    """Samples whose numbers follow each other, and such that lie far apart."""
    far = request.param
    prompts = pl.DataFrame(
        [{**dict.fromkeys(PROMPTS), "prompt_id": name, "corpus": "c", "answer": "1"} for name in PROMPT_IDS], PROMPTS
    )
    keys = [(prompt, sample * far) for prompt in PROMPT_IDS for sample in range(3)]
    responses = written(tmp_path / "responses", RESPONSES, [said(*key) for key in keys], [said("unasked", 0)])
    others = [said("a", far, passed=True, answer="2"), said("b", 0, text_id="older", passed=True, answer="1")]
    judged = [
        said(*key, passed=key[0] == "b", answer="1") for key in reversed(keys) if key not in {("a", far), ("b", 0)}
    ]
    verdicts = written(tmp_path / "verdicts", VERDICTS, others, judged)
    scored = [said(*key, reward=float(number)) for number, key in enumerate(keys) if key[0] != "c"]
    rewards = written(tmp_path / "rewards", REWARDS, scored[::2], scored[1::2])
    return Tables(prompts, [responses], [verdicts], [rewards])


def found(tables: Tables, column: str) -> list[object]:
    rows = candidates(tables).with_columns(pl.col("prompt_id").cast(pl.String))
    return rows.sort("prompt_id", "sample")[column].to_list()


def test_a_response_of_no_prompt_is_no_candidate(tables):
    assert found(tables, "prompt_id") == [name for name in PROMPT_IDS for _ in range(3)]


def test_a_verdict_by_another_answer_or_of_another_text_is_none(tables):
    assert found(tables, "passed") == [False, None, False, None, True, True, False, False, False]


def test_what_was_not_scored_has_no_reward(tables):
    assert found(tables, "reward") == [0, 1, 2, 3, 4, 5, None, None, None]


def test_located_candidates_tell_the_rows_of_what_was_said(tables):
    rows = candidates(tables, located=True)
    verdicts, rewards = (
        parts[0].scan(first=0).collect().select("row", "prompt_id", "sample")
        for parts in (tables.verdicts, tables.rewards)
    )
    for row, told in (("verdict_row", verdicts), ("reward_row", rewards)):
        known = rows.drop_nulls(row).with_columns(pl.col("prompt_id").cast(pl.String))
        both = known.join(told, left_on=row, right_on="row", suffix="_told")
        assert both.height == known.height > 0
        assert both["prompt_id"].equals(both["prompt_id_told"], check_names=False)
        assert both["sample"].equals(both["sample_told"], check_names=False)


def test_of_thousands_each_response_is_one_of_its_own_prompt(tmp_path):
    ids = [f"{number:024x}" for number in range(0, 8_000, 2)]
    others = [f"{number:024x}" for number in range(1, 8_000, 2)]
    prompts = pl.DataFrame([{**dict.fromkeys(PROMPTS), "prompt_id": name, "corpus": "c"} for name in ids], PROMPTS)
    responses = written(tmp_path / "responses", RESPONSES, [said(name, 0) for name in reversed(ids + others)])
    rewards = written(
        tmp_path / "rewards", REWARDS, [said(name, 0, reward=float(int(name, 16))) for name in others + ids]
    )
    rows = candidates(Tables(prompts, [responses], [], [rewards])).sort("prompt_id")
    assert rows["prompt_id"].cast(pl.String).to_list() == ids
    assert rows["text_id"].to_list() == [f"{name}0" for name in ids]
    assert rows["reward"].to_list() == [float(int(name, 16)) for name in ids]


def prompts_of(*ids: str) -> pl.DataFrame:
    return pl.DataFrame([{**dict.fromkeys(PROMPTS), "prompt_id": name, "corpus": "c"} for name in ids], PROMPTS)


def test_models_of_one_table_are_told_apart(tmp_path):
    keys = [{"source_model": model} for model in ("n", "m", "n/o")]
    responses = written(tmp_path / "responses", RESPONSES, [said("a", 0, **key) for key in keys])
    rewarded = [said("a", 0, **key, reward=float(n)) for n, key in enumerate(keys)]
    rewards = written(tmp_path / "rewards", REWARDS, rewarded[2:], rewarded[:2], [said("a", 0, reward=9.0, text_id="")])
    rows = candidates(Tables(prompts_of("a"), [responses], [], [rewards]))
    assert dict(rows.select(pl.col("source_model").cast(pl.String), "reward").iter_rows()) == {"n": 0, "m": 1, "n/o": 2}


def test_what_is_told_twice_holds_as_it_is_told_last(tmp_path):
    responses = written(tmp_path / "responses", RESPONSES, [said("a", 0), said("a", 1)])
    told = [said("a", 0, reward=1.0), said("a", 1, reward=2.0), said("a", 0, reward=3.0), said("a", 1, reward=None)]
    rewards = written(tmp_path / "rewards", REWARDS, told[:2], told[2:])
    rows = candidates(Tables(prompts_of("a"), [responses], [], [rewards]), located=True).sort("sample")
    assert rows["reward"].to_list() == [3, None]
    assert rows["reward_row"].to_list() == [2, 3]


def test_flaws_are_told_by_their_names(tmp_path):
    tables = {
        "responses": (RESPONSES, [said("a", n) for n in range(3)]),
        "flaws": (FLAWS, [said("a", 0, flaw="refusal"), said("a", 1, flaw=None)]),
    }
    responses, flaws = (written(tmp_path / name, *table) for name, table in tables.items())
    rows = candidates(Tables(prompts_of("a"), [responses], [], [], [flaws])).sort("sample")
    assert rows["flaw"].to_list() == ["refusal", None, None]


def test_without_responses_there_are_no_candidates(tmp_path):
    rows = candidates(Tables(prompts_of("a"), [Parts(tmp_path / "responses", RESPONSES)], [], []))
    assert rows.is_empty()
    assert rows.columns == ["prompt_id", "source_model", "sample", "text_id", "passed", "reward"]


@pytest.mark.parametrize("located", [False, True])
def test_without_a_source_of_responses_there_are_no_candidates(tmp_path, located):
    empty = Parts(tmp_path / "responses", RESPONSES)
    rows = candidates(Tables(prompts_of("a"), [], [], []), located=located)
    assert rows.schema == candidates(Tables(prompts_of("a"), [empty], [], []), located=located).schema
    assert rows.is_empty()


def test_parts_that_are_written_while_rows_are_counted_are_not_read(tables, monkeypatch):
    before, listed, late = candidates(tables), Parts.paths, count()

    def growing(table: Parts, kind: str = "*") -> list[Path]:
        paths, row = listed(table, kind), said("a", next(late) + 3)
        table.write(f"late-{row['sample']}", pl.DataFrame([{**dict.fromkeys(table.schema), **row}], table.schema))
        return paths

    monkeypatch.setattr(Parts, "paths", growing)
    read = Tables(tables.prompts, tables.responses, tables.verdicts, tables.rewards)
    assert candidates(read).equals(before)
    assert len(listed(tables.responses[0])) > 2


def test_a_part_that_is_replaced_by_a_longer_one_after_the_rows_were_counted_is_to_be_read_again(tables):
    assert len(tables.numbered["responses"]) == 1
    longer = [{**dict.fromkeys(RESPONSES), **said("a", sample)} for sample in range(20)]
    tables.responses[0].write("0", pl.DataFrame(longer, RESPONSES))
    with pytest.raises(RunError, match=r"responses: was written to while it was read; read it again\."):
        candidates(tables)
