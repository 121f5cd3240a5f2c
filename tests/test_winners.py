"""Rows of the datasets, a share of the prompts at a time: the same whatever the shares, and nothing left behind."""

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from test_dataset import recipe, said, tables_of

from fusedata.candidates import Tables
from fusedata.card import Facts
from fusedata.dataset import decide
from fusedata.errors import RunError
from fusedata.publish.stage import publish
from fusedata.recipe import Recipe
from fusedata.winners import assemble, winners

PROMPTS = 60


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    """60 prompts, of each a right response and a wrong one, in 40 parts that do not follow the prompts."""
    right = [said(f"right {n}", 0.15, prompt_id=f"p{n:02d}") for n in range(PROMPTS)]
    wrong = [said(f"wrong {n}", 0.1, prompt_id=f"p{n:02d}", sample=1, passed=False) for n in range(PROMPTS)]
    return tables_of(tmp_path / "tables", *right, *reversed(wrong), size=3)


def written(tables: Tables, made: Recipe, run: Path, share: int) -> dict[str, bytes]:
    decided = decide(tables, made)
    facts = Facts(made, "none", [], [("test/modulo", "rows read", PROMPTS)], decided.places)
    with winners(tables, decided, made, run, share) as found:
        publish(run / "dataset", found, facts)
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


def test_every_row_has_the_texts_of_its_own_prompt(tables: Tables) -> None:
    made = assemble(tables, recipe())
    said_by = {side: made.dpo[side].list.first().struct.field("content") for side in ("chosen", "rejected")}
    number = made.dpo["prompt_id"].str.slice(1).cast(pl.Int64).cast(pl.String)
    assert said_by["chosen"].equals("right " + number)
    assert said_by["rejected"].equals("wrong " + number)


@pytest.mark.parametrize("share", [1, 7, 1_000])
def test_the_files_are_the_same_whatever_the_shares(tables: Tables, tmp_path: Path, share: int) -> None:
    made = recipe(split={"order": "ratio", "sft": 0.4, "test": 0.2})
    own = written(tables, made, tmp_path / "own", share)
    assert own == written(tables, made, tmp_path / "whole", 20)
    assert {Path(name).parts[1] for name in own} == {"sft", "dpo"}


def test_the_folder_holds_what_assembling_in_memory_gives(tables: Tables, tmp_path: Path) -> None:
    made = recipe(split={"order": "ratio", "sft": 0.4, "test": 0.2})
    decided = decide(tables, made)
    facts = Facts(made, "none", [], [("test/modulo", "rows read", PROMPTS)], decided.places)
    with winners(tables, decided, made, tmp_path, 10) as found:
        read = publish(tmp_path / "dataset", found, facts)
    whole = assemble(tables, made)
    assert read.counts == whole.counts
    assert_frame_equal(read.sft, whole.sft)
    assert_frame_equal(read.dpo, whole.dpo)


def test_texts_that_a_killed_build_left_are_removed(tables: Tables, tmp_path: Path) -> None:
    (tmp_path / ".winners.tmp").mkdir()
    (tmp_path / ".winners.tmp" / "row-1.arrows").write_bytes(b"half a file")
    with winners(tables, decide(tables, recipe()), recipe(), tmp_path) as found:
        assert sum(frame.height for frame in found.frames("dpo")) == PROMPTS
    assert not (tmp_path / ".winners.tmp").exists()


def test_texts_make_room_as_they_are_read(tables: Tables, tmp_path: Path) -> None:
    with winners(tables, decide(tables, recipe()), recipe(), tmp_path, 20) as found:
        held = [len(list((tmp_path / ".winners.tmp").glob("row-*"))) for _ in found.frames("dpo")]
    assert held == list(range(held[0], held[0] - len(held), -1))  # those of SFT stay
    assert len(held) > 2


def test_a_part_that_is_damaged_after_the_decision_is_named(tables: Tables, tmp_path: Path) -> None:
    decided = decide(tables, recipe())
    path = tables.responses[0].paths()[3]
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(RunError, match=path.name), winners(tables, decided, recipe(), tmp_path):
        pass
