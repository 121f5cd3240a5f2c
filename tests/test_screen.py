"""Responses with a flaw take no part, whatever they score; each is counted, and a prompt left without says why."""

import re
import shutil
from pathlib import Path

import polars as pl
import pytest
from conftest import dataset_bytes, questions, recipe_over, twin_build, write_corpus
from runs import invoke
from test_build import Recorder, StopsAfter

from fusedata.build import Build
from fusedata.curation import Screen
from fusedata.recipe import Recipe
from fusedata.sample.protocol import Completion
from fusedata.schema import FLAW_NAMES, FLAWS, KEY
from fusedata.scored import read_scores
from fusedata.status import status
from fusedata.store import read_run
from fusedata.testing import EchoEngine
from fusedata.texts.screening import flaws

PROMPTS = 24
SCREEN = {"truncated": True, "refusals": True}


class Flawed(EchoEngine):
    """Refuses all that it is asked of one prompt; of the others every third sample breaks off at `max_tokens`."""

    def _answer(self, request):
        if request.messages[-1]["content"].startswith("What is 7 "):
            return Completion("I'm sorry, but as an AI language model I cannot help with that.", "stop", 5, 12)
        said = super()._answer(request)
        return said._replace(finish_reason="length") if request.sample % 3 == 0 else said


def made(folder: Path, **changes: object) -> Recipe:
    path = write_corpus(folder / "modulo.jsonl", questions(PROMPTS))
    return recipe_over(path, **{"screen": SCREEN, "split": {"order": "shared"}, **changes})


def build(recipe: Recipe, engine: EchoEngine | None = None, **seams: object) -> Build:
    return twin_build(recipe, engine or Flawed(), **seams)


def screened(run: Path) -> pl.DataFrame:
    opened = read_run(run)
    return pl.concat([opened.parts("flaws", label, FLAWS).scan().collect() for label in opened.labels("flaws")])


def test_what_is_flawed_is_neither_chosen_nor_rejected(tmp_path):
    built = build(made(tmp_path)).run(tmp_path / "run")
    assert built.dpo.height > 0
    assert not (built.sft["sample"] % 3 == 0).any()
    assert not (built.dpo["chosen_sample"] % 3 == 0).any()
    assert not (built.dpo["rejected_sample"] % 3 == 0).any()
    without = build(made(tmp_path, screen=None)).run(tmp_path / "without")
    assert (without.sft["sample"] % 3 == 0).any()


def test_a_prompt_whose_responses_are_all_flawed_is_dropped_as_screened_out(tmp_path):
    places = build(made(tmp_path)).run(tmp_path / "run").places
    assert places.filter(dropped="screened out").height == 1
    assert places.filter(dropped="screened out")["pair_reason"].to_list() == ["screened out"]


def test_every_response_with_a_text_has_a_row_that_names_its_flaw(tmp_path):
    build(made(tmp_path)).run(tmp_path / "run")
    rows = screened(tmp_path / "run")
    assert rows.select(KEY).is_unique().all()
    assert rows["flaw"].value_counts(sort=True).rows() == [(None, 92), ("truncated", 46), ("refusal", 6)]


def test_flaws_are_counted_on_the_card(tmp_path):
    built = build(made(tmp_path)).run(tmp_path / "run")
    assert built.flaws == [("test/modulo", "refusal", 6), ("test/modulo", "truncated", 46)]
    card = (tmp_path / "run" / "dataset" / "sft" / "README.md").read_text()
    assert "| test/modulo | response screened out: truncated (responses) | 46 |" in card
    assert "| test/modulo | no row: screened out | 1 |" in card


def test_flaws_are_counted_by_status(tmp_path):
    build(made(tmp_path)).run(tmp_path / "run")
    found = status(tmp_path / "run")
    (row,) = (row for row in found.progress if row.table == "flaws")
    assert (row.wanted, row.done, row.left) == (PROMPTS * 6, PROMPTS * 6, 0)
    assert row.verdicts == {"none": 92, "truncated": 46, "refusal": 6}
    assert found.dataset.stale == ()
    assert all(flow.holds for flow in found.flows)
    assert re.search(r"flaws +wanted +done +left +none +truncated +refusal", invoke("status", tmp_path / "run"))


def test_nothing_is_screened_or_told_where_the_recipe_does_not_ask(tmp_path):
    built = build(made(tmp_path, screen=None)).run(tmp_path / "run")
    assert list(built.flaws) == []
    assert read_run(tmp_path / "run").labels("flaws") == []
    assert "flaws" not in invoke("status", tmp_path / "run")


def test_an_interrupted_build_screens_nothing_twice_and_gives_the_same_bytes(tmp_path):
    class Cut(Flawed, StopsAfter):
        pass

    recipe = made(tmp_path)
    with pytest.raises(Exception, match="gone"):
        build(recipe, Cut(7)).run(tmp_path / "cut")
    build(recipe).run(tmp_path / "cut")
    build(recipe).run(tmp_path / "whole")
    assert dataset_bytes(tmp_path / "cut") == dataset_bytes(tmp_path / "whole")
    assert screened(tmp_path / "cut").height == PROMPTS * 6
    recorder = Recorder()
    build(recipe, reporter=recorder).run(tmp_path / "cut")
    assert not [stage for stage in recorder.stages if stage.startswith("flaws")]


def test_a_part_of_flaws_that_was_deleted_is_made_again(tmp_path):
    recipe = made(tmp_path)
    build(recipe).run(tmp_path / "run")
    before = dataset_bytes(tmp_path / "run")
    next((tmp_path / "run" / "flaws").glob("*/part-*")).unlink()
    build(recipe).run(tmp_path / "run")
    assert dataset_bytes(tmp_path / "run") == before


def test_another_screen_screens_anew_and_samples_and_scores_nothing(tmp_path):
    build(made(tmp_path)).run(tmp_path / "run")
    engine, recorder = Flawed(), Recorder()
    changed = made(tmp_path, screen={**SCREEN, "truncated": False})
    build(changed, engine, reporter=recorder).run(tmp_path / "run")
    assert engine.asked == []
    assert [s for s in recorder.stages if " of " in s] == ["flaws of test/echo"]
    assert recorder.changes[0][1] == ["flaws of test/echo: made anew (screen.truncated)"]
    build(changed).run(tmp_path / "fresh")
    assert dataset_bytes(tmp_path / "run") == dataset_bytes(tmp_path / "fresh")


def test_a_screen_that_is_taken_back_is_forgotten(tmp_path):
    build(made(tmp_path)).run(tmp_path / "run")
    build(made(tmp_path, screen=None)).run(tmp_path / "run")
    build(made(tmp_path, screen=None)).run(tmp_path / "fresh")
    assert dataset_bytes(tmp_path / "run") == dataset_bytes(tmp_path / "fresh")


def test_a_text_that_was_drawn_again_is_screened_again(tmp_path):
    recipe = made(tmp_path)
    build(recipe, EchoEngine()).run(tmp_path / "run")
    assert screened(tmp_path / "run")["flaw"].null_count() == PROMPTS * 6
    shutil.rmtree(tmp_path / "run" / "responses")

    class Says(Flawed):
        def identity(self):
            return EchoEngine().identity()

    build(recipe, Says()).run(tmp_path / "run")
    flawed = screened(tmp_path / "run").filter(pl.col("flaw") == "refusal")
    assert flawed.height == 6


def test_flaws_can_be_forced_and_inspected(tmp_path):
    build(made(tmp_path)).run(tmp_path / "run")
    recorder = Recorder()
    build(made(tmp_path), reporter=recorder).run(tmp_path / "run", force=["flaws"])
    assert [s for s in recorder.stages if " of " in s] == ["flaws of test/echo"]
    sql = "SELECT flaw, count(*) AS n FROM flaws GROUP BY flaw ORDER BY n"
    assert re.search(r"refusal\W+6", invoke("inspect", tmp_path / "run", "--sql", sql))


def test_a_window_is_calibrated_on_what_takes_part(tmp_path):
    build(made(tmp_path)).run(tmp_path / "run")
    assert read_scores(tmp_path / "run").rows.height == 92


def test_carried_responses_are_screened_too(tmp_path):
    rows = [
        {"q": "One plus one?", "a": "2", "s": s} for s in ("The answer is 2.", "I'm sorry, I cannot help with that.")
    ]
    path = write_corpus(tmp_path / "carried.jsonl", rows)
    corpus = {"id": "test/carried", "path": str(path), "prompt": "q", "answer": "a", "sampled": False}
    corpus |= {"responses": {"column": "s", "source_model": "human"}}
    built = build(made(tmp_path, corpora=[corpus], source_models=[])).run(tmp_path / "run")
    assert built.flaws == [("test/carried", "refusal", 1)]


def test_the_names_of_flaws_are_those_that_screening_gives():
    long = "The answer is four because two and two make four in every system that we know of. " * 2
    rows = pl.DataFrame(
        {
            "text": [
                "four",
                long * 9,
                long,
                "I'm sorry, but I can't assist with that request.",
                "四加四等于八，这是对的。" * 3,
            ],
            "finish_reason": ["stop", "stop", "length", "stop", "stop"],
        }
    )
    found = flaws(rows, Screen(min_chars=10, max_chars=1_000, languages=("en",)))
    assert found.to_list() == ["too short", "too long", "truncated", "refusal", "language"]
    repeated = flaws(
        pl.DataFrame({"text": ["again and " * 60 + "so on."], "finish_reason": ["stop"]}), Screen(max_repetition=0.3)
    )
    assert {*found, *repeated} == {*FLAW_NAMES}
