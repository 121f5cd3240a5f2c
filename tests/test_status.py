import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import polars as pl
import pytest
from conftest import questions, recipe_over, twin_build, write_corpus
from runs import CARRIED, CORPUS, MODEL, NASTY, SUMS, Engine, Stopped, Stopper, built, fails, invoke

from fusedata.build import Build
from fusedata.errors import RunError
from fusedata.profile import find_profile, load_profile
from fusedata.readers import settled
from fusedata.recipe import find_recipe, load_recipe
from fusedata.reward.protocol import TOO_LONG, Item, Scored
from fusedata.status import Progress, Status, status
from fusedata.testing import EchoEngine, HashReward

TABLES = ("responses", "verdicts", "rewards")


class Refusing(HashReward):
    """Scores no response that ends in an odd digit."""

    def score(self, items: Sequence[Item]) -> list[Scored]:
        return [Scored(None, 1, TOO_LONG) if item.response[-2] in "13579" else Scored(0.1, 1) for item in items]


class Other(HashReward):
    """Says it is HashReward, and scores otherwise: what a force of the rewards may give."""

    def score(self, items: Sequence[Item]) -> list[Scored]:
        return [scored._replace(score=-(scored.score or 0)) for scored in super().score(items)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("failed"), engine=fails("7 + 8"))


def row(found: Status, table: str, source: str = MODEL) -> Progress:
    (one,) = (p for p in found.progress if (p.table, p.source) == (table, source))
    return one


def test_a_finished_run_has_done_all_that_was_wanted(whole: Path) -> None:
    found = status(whole)
    assert [(row(found, t).wanted, row(found, t).done, row(found, t).left) for t in TABLES] == [(24, 24, 0)] * 3
    assert found.left == 0


def test_what_a_corpus_carries_is_wanted_as_it_is_there(whole: Path) -> None:
    carried = row(status(whole), "responses", f"{CARRIED} (carried)")
    assert (carried.wanted, carried.done, carried.left) == (1, 1, 0)


def test_verdicts_are_counted_by_what_they_say(whole: Path) -> None:
    assert row(status(whole), "verdicts").verdicts == {"right": SUMS, "wrong": SUMS, "unjudged": 0}


def test_wanted_is_done_and_failed_and_left(failed: Path) -> None:
    for one in status(failed).progress:
        assert one.wanted == one.done + one.failed + (one.left or 0)


def test_failed_rows_are_counted_by_error_whatever_numbers_it_tells(failed: Path) -> None:
    (reason,) = row(status(failed), "responses").reasons
    assert (reason.text, reason.count) == ("the prompt has N tokens, and the model's context is N", 2)
    assert re.fullmatch(rf"[0-9a-f]{{24}} {MODEL} #0", reason.example)


def test_an_error_that_is_always_the_same_keeps_its_numbers(tmp_path: Path) -> None:
    run = built(tmp_path, engine=fails("7 + 8"), source_models=[{"id": MODEL, "samples": 1}])
    (reason,) = row(status(run), "responses").reasons
    assert reason.text == "the prompt has 14 tokens, and the model's context is 4"


def test_a_response_without_a_text_wants_neither_verdict_nor_reward(failed: Path) -> None:
    assert [row(status(failed), table).wanted for table in ("verdicts", "rewards")] == [22, 22]


def test_responses_that_the_reward_model_cannot_score_are_failed_rewards(tmp_path: Path) -> None:
    rewards = row(status(built(tmp_path, scorer=Refusing())), "rewards")
    assert (rewards.done, rewards.failed, rewards.left) == (12, 12, 0)
    assert [reason.text for reason in rewards.reasons] == ["longer than the model's context"]


def test_unjudged_verdicts_are_counted_by_why(tmp_path: Path) -> None:
    long = rf"\boxed{{{'x+' * 2_500}1}}"
    run = built(tmp_path, engine=Engine(lambda prompt, sample: long if "3 + 4" in prompt else None))
    verdicts = row(status(run), "verdicts")
    assert verdicts.verdicts == {"right": 11, "wrong": 11, "unjudged": 2}
    assert [(reason.text, reason.count) for reason in verdicts.reasons] == [("the answer is too long", 2)]


@pytest.mark.parametrize(
    ("stage", "rows", "done"),
    [
        ("collect", 0, (0, 0, 0)),
        ("sample", 0, (0, 0, 0)),
        ("sample", 9, (12, 0, 0)),
        ("verdicts", 0, (24, 0, 0)),
        ("verdicts of test/echo", 1, (24, 24, 0)),
        ("rewards of test/echo", 0, (24, 24, 0)),
        ("rewards of test/echo", 1, (24, 24, 16)),
        ("select", 0, (24, 24, 24)),
    ],
)
def test_a_run_that_was_stopped_shows_what_it_had_done(
    tmp_path: Path, stage: str, rows: int, done: tuple[int, int, int]
) -> None:
    found = status(built(tmp_path, stop=Stopper(stage, rows)))
    assert tuple(row(found, table).done for table in TABLES) == done
    assert found.dataset is None


def test_before_the_prompts_are_collected_nothing_is_known_to_be_left(tmp_path: Path) -> None:
    found = status(built(tmp_path, stop=Stopper("collect")))
    assert (found.prompts, found.left, found.flows) == (None, None, ())
    assert {one.left for one in found.progress} == {None}


def test_what_is_yet_to_be_sampled_is_yet_to_be_judged_and_scored(tmp_path: Path) -> None:
    found = status(built(tmp_path, stop=Stopper("sample", 9)))
    assert [row(found, table).left for table in TABLES] == [12, 24, 24]
    assert found.left == 12 + 25 + 25


def test_answers_that_a_target_is_no_longer_asked_for_hide_none_that_are_missing(tmp_path: Path) -> None:
    half = {"test": 0.2, "order": "random", "sft": 0.5}
    window = {"reward_gap": [-1.0, 1.0], "reward_gap_model": "fusedata/hash-reward"}
    wrpo = {"split": half, "dpo": {**window, "method": "wrpo", "target": "test/target"}}
    built(tmp_path, source_models=drawn(2), split=half, dpo=window)
    run = built(tmp_path, source_models=drawn(4), stop=Stopper("sample test/target"), **wrpo)
    stopped = row(status(run), "responses", "test/target")
    assert (stopped.wanted, stopped.done, stopped.left) == (SUMS // 2 * 4, SUMS // 2 * 2, SUMS // 2 * 2)
    found = status(built(tmp_path, source_models=drawn(4), **wrpo))
    counts = [(row(found, t, "test/target").wanted, row(found, t, "test/target").done) for t in TABLES]
    assert counts == [(SUMS // 2 * 4, SUMS // 2 * 4)] * 3
    assert (found.left, found.dataset.stale) == (0, ())


def drawn(samples: int) -> list[dict[str, object]]:
    """A model, and one that may be a target, of which so many samples are drawn."""
    return [{"id": f"test/{name}", "samples": n, "max_tokens": 8} for name, n in (("source", 2), ("target", samples))]


def test_rows_read_are_prompts_and_rows_left_out(whole: Path) -> None:
    sums, _ = status(whole).flows
    assert sums.left_out == {
        "empty prompt (rows)": 1,
        "merged into a row with the same problem (rows)": 1,
        "no gold answer": 1,
    }
    assert sums.rows_read == sums.prompts + 3 == SUMS + 3


@pytest.mark.parametrize("split", [{"order": "pairs_first"}, {"order": "shared"}, {"order": "ratio", "sft": 0.5}])
def test_prompts_are_sft_and_dpo_and_dropped_under_every_order(tmp_path: Path, split: dict[str, object]) -> None:
    run = built(tmp_path, engine=fails("7 + 8"), split=split)
    for flow in status(run).flows:
        assert flow.holds
        assert flow.prompts == (flow.sft or 0) + (flow.dpo or 0) - (flow.both or 0) + sum((flow.dropped or {}).values())


def test_dropped_prompts_are_counted_by_reason(failed: Path) -> None:
    sums, carried = status(failed).flows
    assert (sums.corpus, sums.dropped, carried.dropped) == (CORPUS, {"no response": 1}, {})


def test_prompts_without_a_pair_are_counted_by_reason(whole: Path) -> None:
    assert status(whole).flows[1].no_pair == {"no incorrect response": 1}


def test_a_sum_that_does_not_hold_is_told(tmp_path: Path) -> None:
    run = built(tmp_path)
    (dropped,) = (run / "dropped").glob("*/part-all.parquet")
    pl.read_parquet(dropped).clear().write_parquet(dropped)
    assert [flow.holds for flow in status(run).flows] == [False, True]
    assert f"does NOT hold for {CORPUS}" in invoke("status", run)


def test_a_dataset_of_these_tables_is_up_to_date(whole: Path) -> None:
    dataset = status(whole).dataset
    assert dataset is not None
    assert (dataset.sft, sum(dataset.dpo.values()), dataset.stale) == ({"train": 1}, SUMS, ())


def test_a_run_that_gives_no_row_has_an_empty_dataset_that_is_up_to_date(tmp_path: Path) -> None:
    corpora = [{"id": CORPUS, "path": str(tmp_path / "sums.jsonl"), "prompt": "q", "answer": "a"}]
    dataset = status(built(tmp_path, engine=fails("What"), corpora=corpora)).dataset
    assert dataset is not None
    assert (dataset.sft, dataset.dpo, dataset.stale) == ({}, {}, ())


def test_a_dataset_of_another_recipe_is_out_of_date(tmp_path: Path) -> None:
    built(tmp_path)
    run = built(
        tmp_path, stop=Stopper("select"), dpo={"reward_gap": [-0.9, 0.9], "reward_gap_model": "fusedata/hash-reward"}
    )
    dataset = status(run).dataset
    assert dataset is not None
    assert dataset.stale == ("the recipe changed",)


def test_a_dataset_that_lacks_rows_of_the_tables_is_out_of_date(tmp_path: Path) -> None:
    built(tmp_path)
    run = built(tmp_path, stop=Stopper("select"), scorer=Other(), force=["rewards"])
    dataset = status(run).dataset
    assert dataset is not None
    assert dataset.stale == ("the tables give other rows",)


def test_a_dataset_is_out_of_date_while_rows_are_left(tmp_path: Path) -> None:
    built(tmp_path)
    run = built(tmp_path, stop=Stopper("sample"), source_models=[{"id": MODEL, "samples": 3, "max_tokens": 8}])
    dataset = status(run).dataset
    assert dataset is not None
    assert dataset.stale[:2] == ("36 rows are left to do", "the recipe changed")


def test_a_dataset_is_out_of_date_while_prompts_are_collected_anew(tmp_path: Path) -> None:
    built(tmp_path)
    run = built(tmp_path, stop=Stopper("collect"), force=["prompts"])
    dataset = status(run).dataset
    assert dataset is not None
    assert dataset.stale[0] == "its prompts are to be collected anew"


def test_no_place_of_a_prompt_is_told_where_the_dataset_is_out_of_date(tmp_path: Path) -> None:
    built(tmp_path)
    run = built(
        tmp_path, stop=Stopper("select"), dpo={"reward_gap": [-0.9, 0.9], "reward_gap_model": "fusedata/hash-reward"}
    )
    assert {(flow.sft, flow.dropped) for flow in status(run).flows} == {(None, None)}


def test_a_finished_run_is_to_be_inspected(whole: Path) -> None:
    assert status(whole).next == (f"fusedata inspect {whole}",)


def test_failed_rows_are_to_be_tried_again(failed: Path) -> None:
    assert status(failed).next[0].startswith("fusedata build ")


def test_an_unfinished_run_of_a_shipped_recipe_tells_the_command_that_goes_on(tmp_path: Path) -> None:
    found = status(_math(tmp_path / "a run", Stopper("sample")))
    assert found.next == (f"fusedata build math --profile local --limit 9 --out '{tmp_path}/a run'",)


def test_stand_ins_are_told(tmp_path: Path) -> None:
    run = _math(tmp_path / "run", Stopper("sample"))
    assert "reward.model" in {key for key, _, _ in status(run).stand_ins}
    printed = invoke("status", run, columns=120)
    assert "reward.model  RLHFlow/ArmoRM-Llama3-8B-v0.1 → fusedata/preference-head-smollm2-135m" in printed
    assert "source_models[Qwen/Qwen2.5-Math-72B-Instruct]  left out" in printed


def _math(out: Path, stop: Stopper) -> Path:
    build = Build(
        load_recipe(find_recipe("math")),
        load_profile(find_profile("local")),
        make_engine=lambda *_: EchoEngine(),
        make_reward=lambda *_: HashReward(),
        reporter=stop,
    )
    with pytest.raises(Stopped):
        build.run(out, limit=9)
    return out


def test_a_folder_without_a_run_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run folder"):
        status(tmp_path)


def test_a_part_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    run = built(tmp_path)
    part = next((run / "rewards").glob("*/part-*.parquet"))
    part.write_bytes(part.read_bytes()[:50])
    with pytest.raises(RunError, match=f"{part.name}: this part cannot be read"):
        status(run)


def test_a_dataset_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    run = built(tmp_path)
    file = run / "dataset" / "dpo" / "data" / "train-00000-of-00001.parquet"
    file.write_bytes(b"PAR1 and no more")
    with pytest.raises(RunError, match=f"{file.name}: cannot be read"):
        status(run)


def test_a_run_of_a_recipe_that_is_no_longer_known_is_one_sentence(tmp_path: Path) -> None:
    run = built(tmp_path, stop=Stopper("collect"))
    state = json.loads((run / "run.json").read_text())
    state["recipe"]["surprise"] = 1
    (run / "run.json").write_text(json.dumps(state))
    with pytest.raises(RunError, match="holds no recipe of this fusedata"):
        status(run)


def test_a_damaged_funnel_is_named(tmp_path: Path) -> None:
    run = built(tmp_path)
    (funnel,) = run.glob("prompts/*/funnel.json")
    funnel.write_text("[[")
    with pytest.raises(RunError, match=r"funnel\.json: cannot be read"):
        status(run)


def test_a_read_that_loses_a_file_to_a_writer_is_done_again() -> None:
    gone = [RunError("gone"), RunError("gone")]

    def read() -> str:
        if gone:
            raise gone.pop()
        return "whole"

    assert settled(read) == "whole"


def test_status_reads_a_run_that_is_being_written(tmp_path: Path) -> None:
    built(tmp_path, engine=fails("7 + 8"))
    done: list[int] = []
    writer = threading.Thread(target=built, args=(tmp_path,), kwargs={"engine": fails("1"), "force": ["responses"]})
    writer.start()
    while writer.is_alive():
        done.append(row(status(tmp_path / "run"), "responses").done)
    writer.join()
    assert done


def test_reading_takes_no_lock_and_writes_nothing(tmp_path: Path) -> None:
    run = built(tmp_path)
    shutil.rmtree(run / "dataset")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    status(run)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_the_command_shows_the_sums(failed: Path) -> None:
    assert "13 prompts = 1 SFT + 11 DPO + 1 dropped ✓" in invoke("status", failed)


def test_the_command_shows_why_rows_failed(failed: Path) -> None:
    assert re.search(
        r"Failed .*\n.*responses of test/echo-model\n +2  the prompt has N tokens", invoke("status", failed)
    )


def test_the_command_shows_brackets_as_they_are(whole: Path) -> None:
    assert "Sums [and] more." in invoke("status", whole)


def test_the_command_shows_a_question_mark_for_what_is_not_known(tmp_path: Path) -> None:
    run = built(tmp_path, stop=Stopper("collect"))
    printed = invoke("status", run)
    assert re.search(rf"{MODEL} +\? +0 +\?", printed)
    assert "No dataset yet." in printed


def test_the_command_escapes_control_characters_of_an_error(tmp_path: Path) -> None:
    run = built(tmp_path, engine=fails("7 + 8"))
    for part in run.glob("responses/*/failed-*.parquet"):
        pl.read_parquet(part).with_columns(error=pl.lit(NASTY)).write_parquet(part)
    printed = invoke("status", run) + invoke("status", run, "--json")
    assert not set(printed) & {"\x1b", "\x9b", "\u202e"}


def test_json_says_what_the_api_says(whole: Path) -> None:
    printed = json.loads(invoke("status", whole, "--json"))
    found = status(whole)
    assert printed["progress"] == [{**asdict(one), "reasons": list(one.reasons)} for one in found.progress]
    assert printed["next"] == list(found.next)


def test_the_real_command_prints_plain_lines_into_a_pipe(whole: Path) -> None:
    command = [sys.executable, "-m", "fusedata", "status", str(whole)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "\x1b" not in result.stdout
    assert all(line == line.rstrip() for line in result.stdout.splitlines())
    assert "Up to date with the tables." in " ".join(result.stdout.split())


def test_the_real_command_exits_with_2_and_one_line_where_there_is_no_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fusedata", "status", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("without", "tables"),
    [
        (("reward", "dpo"), {"responses", "verdicts"}),
        (("correctness",), {"responses", "rewards"}),
        (("reward", "dpo", "correctness"), {"responses"}),
    ],
)
def test_recipes_without_reward_or_check_have_a_status(
    tmp_path: Path, without: tuple[str, ...], tables: set[str]
) -> None:
    recipe = recipe_over(write_corpus(tmp_path / "modulo.jsonl", questions(8)))
    twin_build(recipe.model_copy(update=dict.fromkeys(without))).run(tmp_path / "run")
    assert {progress.table for progress in status(tmp_path / "run").progress} == tables


def test_the_command_to_go_on_with_names_recipe_and_profile_as_they_were_typed(tmp_path: Path) -> None:
    recipe = recipe_over(write_corpus(tmp_path / "modulo.jsonl", questions(8)))
    run = tmp_path / "run"
    twin_build(recipe, typed=("/my/own.toml", "/my/profile.toml")).run(run)
    shutil.rmtree(run / "dataset")
    assert status(run).next[0] == f"fusedata build /my/own.toml --profile /my/profile.toml --out {run}"


def test_pairs_within_the_rewards_noise_of_the_window_are_counted(tmp_path: Path) -> None:
    class Noisy(HashReward):
        tolerance = 0.01

    window = {"reward_gap": [0.03, 0.5], "reward_gap_model": "fusedata/hash-reward"}
    run = built(tmp_path, scorer=Noisy(), dpo=window)
    gaps = pl.scan_parquet(run / "dataset" / "dpo" / "data" / "*.parquet").select(
        gap=pl.col("chosen_reward") - pl.col("rejected_reward")
    )
    near = gaps.filter((pl.col("gap") - 0.03).abs() <= 0.02).collect().height
    assert near > 0
    assert status(run).dataset.near_limits == near
    assert status(built(tmp_path, out="exact", dpo=window)).dataset.near_limits == 0
