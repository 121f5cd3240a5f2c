"""`assemble`: from a run's tables to the rows of both datasets."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from conftest import recipe_over

from fusedata.candidates import Tables, candidates
from fusedata.dataset import DPO, SFT, Datasets
from fusedata.errors import RunError
from fusedata.recipe import Recipe
from fusedata.schema import MESSAGES, PROMPTS, RESPONSES, REWARDS, VERDICTS, text_id
from fusedata.store import Parts
from fusedata.winners import assemble

SCHEMAS = {"responses": RESPONSES, "verdicts": VERDICTS, "rewards": REWARDS}
TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1?"}]


def prompts(*ids: str) -> pl.DataFrame:
    known = {"corpus": "test/modulo", "corpus_row": 3, "messages": TURNS, "answer": "2", "sampled": True, "chars": 9}
    return pl.DataFrame([{"prompt_id": i, **known} for i in ids], schema=PROMPTS)


def said(text: str | None, reward: float, *, passed: bool = True, **key: Any) -> dict[str, Any]:
    key = {"prompt_id": "p", "source_model": "test/echo", "sample": 0, **key}
    return {**key, "text": text, "reward": reward, "passed": passed}


def write(parts: dict[str, Parts], name: str, rows: list[dict[str, Any]]) -> None:
    tokens = {"prompt_tokens": 7, "completion_tokens": 5, "tokens": 12, "finish_reason": "stop"}
    rows = [
        {
            "answer": "2",
            **r,
            **tokens,
            "text_id": text_id(r["text"]),
            "status": "right" if r["passed"] else "wrong",
            "detail": "2",
        }
        for r in rows
    ]
    for stage, table in parts.items():
        table.write(name, pl.DataFrame([{c: r.get(c) for c in SCHEMAS[stage]} for r in rows], schema=SCHEMAS[stage]))


def tables_of(folder: Path, *rows: dict[str, Any], size: int = 2, stages: tuple[str, ...] = tuple(SCHEMAS)) -> Tables:
    """The tables of a run, in parts of `size` rows."""
    parts = {stage: Parts(folder / stage, SCHEMAS[stage]) for stage in stages}
    for at in range(0, len(rows), size):
        write(parts, f"{at}", list(rows[at : at + size]))
    ids = dict.fromkeys(row["prompt_id"] for row in rows)
    return Tables(prompts(*ids), *([parts[stage]] if stage in parts else [] for stage in SCHEMAS))


def recipe(**changes: Any) -> Recipe:
    return recipe_over(Path("unused"), **{"split": {"order": "shared"}, **changes})


PAIR = (said("two", 0.15), said("three", 0.1, passed=False, sample=1))


@pytest.fixture
def made(tmp_path: Path) -> Datasets:
    return assemble(tables_of(tmp_path, *PAIR), recipe())


def test_an_sft_row_is_the_prompt_and_its_best_response(made: Datasets) -> None:
    assert made.sft["messages"].to_list() == [[*TURNS, {"role": "assistant", "content": "two"}]]


def test_a_pair_is_the_prompt_and_two_turns_of_the_assistant(made: Datasets) -> None:
    (pair,) = made.dpo.iter_rows(named=True)
    assert pair["prompt"] == TURNS
    assert pair["chosen"] == [{"role": "assistant", "content": "two"}]
    assert pair["rejected"] == [{"role": "assistant", "content": "three"}]


def test_a_row_says_where_it_comes_from(made: Datasets) -> None:
    for rows in (made.sft, made.dpo):
        row = rows.row(0, named=True)
        assert (row["prompt_id"], row["corpus"], row["corpus_row"], row["license"]) == ("p", "test/modulo", 3, "mit")
        assert row["source_model"] == "test/echo"


def test_each_side_of_a_pair_keeps_its_own_facts(made: Datasets) -> None:
    (pair,) = made.dpo.iter_rows(named=True)
    assert (pair["chosen_reward"], pair["chosen_verdict"], pair["chosen_sample"]) == (0.15, "right", 0)
    assert (pair["rejected_reward"], pair["rejected_verdict"], pair["rejected_sample"]) == (0.1, "wrong", 1)
    assert {pair[f"{side}_{name}"] for side in ("chosen", "rejected") for name in ("verdict_detail",)} == {"2"}
    assert (pair["prompt_tokens"], pair["chosen_completion_tokens"], pair["rejected_tokens"]) == (7, 5, 12)


def test_an_sft_row_keeps_reward_verdict_and_token_counts(made: Datasets) -> None:
    (row,) = made.sft.iter_rows(named=True)
    assert (row["reward"], row["verdict"], row["verdict_detail"]) == (0.15, "right", "2")
    assert (row["sample"], row["finish_reason"]) == (0, "stop")
    assert (row["prompt_tokens"], row["completion_tokens"], row["tokens"]) == (7, 5, 12)


def test_columns_are_those_declared_and_test(made: Datasets) -> None:
    assert made.sft.schema == {**SFT, "test": pl.Boolean()}
    assert made.dpo.schema == {**DPO, "test": pl.Boolean()}
    assert made.dpo.schema["prompt"] == MESSAGES


def test_each_text_goes_to_its_own_key_where_others_say_the_same(tmp_path: Path) -> None:
    rows = [said("same", 0.15, prompt_id=p, source_model=m) for p in ("p", "q") for m in ("a/one", "b/two")]
    found = assemble(tables_of(tmp_path, *rows), recipe())
    assert found.sft.select("prompt_id", "source_model").rows() == [("p", "a/one"), ("q", "a/one")]


def test_the_order_of_parts_and_rows_never_matters(tmp_path: Path) -> None:
    rows = [
        said(f"{p} {m} {s}", 0.1 + s / 50, passed=s > 1, prompt_id=p, source_model=m, sample=s)
        for p in ("p", "q", "r")
        for m in ("a/one", "b/two")
        for s in range(4)
    ]
    one = assemble(tables_of(tmp_path / "one", *rows), recipe())
    other = assemble(tables_of(tmp_path / "other", *reversed(rows), size=5), recipe())
    assert (one.sft.rows(), one.dpo.rows()) == (other.sft.rows(), other.dpo.rows())
    assert one.dpo.height == 3


def test_a_pair_across_models_names_both(tmp_path: Path) -> None:
    rows = (said("two", 0.15), said("three", 0.1, passed=False, source_model="test/other"))
    found = assemble(
        tables_of(tmp_path, *rows),
        recipe(dpo={"same_source_model": False, "reward_gap": [0.01, 0.1], "reward_gap_model": "fusedata/hash-reward"}),
    )
    assert found.dpo.select("source_model", "rejected_source_model").row(0) == ("test/echo", "test/other")
    assert found.dpo["rejected"].to_list() == [[{"role": "assistant", "content": "three"}]]


def test_responses_to_other_prompts_are_left_aside(tmp_path: Path) -> None:
    tables = tables_of(tmp_path, *PAIR, said("four", 0.2, prompt_id="gone"))
    wanted = Tables(prompts("p"), tables.responses, tables.verdicts, tables.rewards)
    assert set(candidates(wanted)["prompt_id"]) == {"p"}
    assert assemble(wanted, recipe()).places["prompt_id"].to_list() == ["p"]


def test_a_corpus_s_own_answers_count_for_its_prompts_alone(tmp_path: Path) -> None:
    tables = tables_of(tmp_path, *PAIR)
    for corpus, count in (("test/modulo", 1), ("test/other", 0)):
        responses = [Parts(t.folder, t.schema, corpus=corpus) for t in tables.responses]
        found = assemble(Tables(tables.prompts, responses, tables.verdicts, tables.rewards), recipe())
        assert (found.sft.height, found.dpo.height) == (count, count)


def test_what_was_sampled_does_not_count_for_a_prompt_that_is_not_sampled(tmp_path: Path) -> None:
    tables = tables_of(tmp_path, *PAIR)
    responses = [Parts(t.folder, t.schema, samples=5) for t in tables.responses]
    unsampled = tables.prompts.with_columns(sampled=pl.lit(value=False))
    found = assemble(Tables(unsampled, responses, tables.verdicts, tables.rewards), recipe())
    assert found.places["dropped"].to_list() == ["no response"]


def test_a_verdict_by_another_gold_answer_is_none(tmp_path: Path) -> None:
    tables = tables_of(tmp_path, *PAIR)
    write(
        {"verdicts": tables.verdicts[0]},
        "before",
        [{**row, "passed": not row["passed"], "answer": "3"} for row in PAIR],
    )
    (row,) = assemble(tables, recipe()).sft.iter_rows(named=True)
    assert (row["messages"][-1]["content"], row["verdict"]) == ("two", "right")


@pytest.mark.parametrize("stage", ["verdicts", "rewards"])
def test_a_score_of_another_text_is_none(tmp_path: Path, stage: str) -> None:
    tables = tables_of(tmp_path, *PAIR)
    (parts,) = getattr(tables, stage)
    write({stage: parts}, "before", [{**row, "text": "before", "passed": False, "reward": 9.0} for row in PAIR])
    (row,) = assemble(tables, recipe()).dpo.iter_rows(named=True)
    assert (row["chosen_reward"], row["chosen_verdict"], row["rejected_reward"]) == (0.15, "right", 0.1)


def test_a_prompt_without_a_gold_answer_keeps_its_verdicts(tmp_path: Path) -> None:
    tables = tables_of(tmp_path, *({**row, "answer": None} for row in PAIR))
    unanswered = tables.prompts.with_columns(answer=pl.lit(None, pl.String))
    found = assemble(Tables(unanswered, tables.responses, tables.verdicts, tables.rewards), recipe())
    assert found.dpo.height == 1


def test_candidates_hold_no_text(tmp_path: Path) -> None:
    names = candidates(tables_of(tmp_path, *PAIR)).columns
    assert names == ["prompt_id", "source_model", "sample", "text_id", "passed", "reward"]


def test_each_dataset_holds_the_prompts_that_the_split_gives_it(tmp_path: Path) -> None:
    rows = [{**row, "prompt_id": f"p{n}"} for n in range(10) for row in PAIR]
    found = assemble(tables_of(tmp_path, *rows), recipe(split={"order": "ratio", "sft": 0.4}))
    assert found.sft["prompt_id"].to_list() == found.places.filter("sft")["prompt_id"].to_list()
    assert found.dpo["prompt_id"].to_list() == found.places.filter("dpo")["prompt_id"].to_list()
    assert (found.sft.height, found.dpo.height) == (4, 6)


def test_samples_beyond_those_of_the_recipe_are_left_aside(tmp_path: Path) -> None:
    tables = tables_of(tmp_path, *PAIR, said("best", 0.19, sample=2))
    few = [[Parts(t.folder, t.schema, samples=2) for t in table] for table in (tables.responses, tables.verdicts)]
    found = assemble(Tables(tables.prompts, *few, tables.rewards), recipe())
    assert found.sft["sample"].to_list() == [0]


@pytest.mark.parametrize("text", [None, "", " \n"])
def test_a_response_without_a_text_is_no_response(tmp_path: Path, text: str | None) -> None:
    found = assemble(tables_of(tmp_path, said(text, 0.2)), recipe())
    assert found.places["dropped"].to_list() == ["no response"]
    assert (found.sft.height, found.dpo.height) == (0, 0)


def test_a_response_without_verdict_or_reward_is_unjudged(tmp_path: Path) -> None:
    tables = tables_of(tmp_path, *PAIR)
    write({"responses": tables.responses[0]}, "late", [said("late", 0.3, prompt_id="q")])
    found = assemble(Tables(prompts("p", "q"), tables.responses, tables.verdicts, tables.rewards), recipe())
    assert found.places.filter(prompt_id="q")["dropped"].item() == "unjudged"


def test_without_check_and_reward_the_first_response_is_an_sft_row(tmp_path: Path) -> None:
    tables = tables_of(tmp_path, *PAIR, stages=("responses",))
    found = assemble(tables, recipe(correctness=None, reward=None, dpo=None))
    (row,) = found.sft.iter_rows(named=True)
    assert row["messages"][-1]["content"] == "two"
    assert (row["reward"], row["verdict"], row["tokens"]) == (None, None, None)
    assert found.dpo.is_empty()


def test_a_corpus_without_a_licence_gives_none(tmp_path: Path) -> None:
    corpus = {"id": "test/modulo", "path": "x", "prompt": "question", "answer": "answer"}
    assert assemble(tables_of(tmp_path, *PAIR), recipe(corpora=[corpus])).sft["license"].to_list() == [None]


def test_no_prompts_give_empty_datasets_of_the_declared_columns(tmp_path: Path) -> None:
    found = assemble(tables_of(tmp_path), recipe())
    assert found.sft.schema == {**SFT, "test": pl.Boolean()}
    assert (found.sft.height, found.dpo.height, found.places.height) == (0, 0, 0)


def test_pairs_are_held_out_by_the_prompt_as_sft_rows_are(tmp_path: Path) -> None:
    rows = [{**row, "prompt_id": f"p{n}"} for n in range(200) for row in PAIR]
    found = assemble(tables_of(tmp_path, *rows, size=400), recipe(split={"order": "shared", "test": 0.2}))
    assert found.sft.select("prompt_id", "test").rows() == found.dpo.select("prompt_id", "test").rows()
    assert 20 < found.sft["test"].sum() < 60


@pytest.mark.parametrize("stage", list(SCHEMAS))
def test_a_part_that_cannot_be_read_is_named(tmp_path: Path, stage: str) -> None:
    tables = tables_of(tmp_path, *PAIR)
    (tmp_path / stage / "part-0.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(RunError, match=f"{stage}/part-0.parquet: this part cannot be read"):
        assemble(tables, recipe())
