"""An audit of runs: what their builds held prompts against is held against them again; mixtures; answers judged again."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import test_code_build as code
from click.testing import CliRunner
from conftest import questions, recipe_over, twin_build, write_corpus
from hub_server import HubServer
from test_mixture import mixture

from fusedata.audit import Finding, Report, audit
from fusedata.build import Build
from fusedata.cli import cli
from fusedata.profile import Profile, RewardHost
from fusedata.push_checks import audited
from fusedata.recipe import Recipe
from fusedata.sample.protocol import Completion, Request
from fusedata.testing import EchoEngine, HashReward

SECRET = "A robe takes 2 bolts of blue fiber and half that much white fiber. How many bolts in total does it take, Jo?"
LATER = "Seven ducks cross the road every morning before nine; how many of them cross it in a whole week of mornings?"
QUICK = {"skip": ("language", "near duplicates", "secrets", "personal data")}


def of(report: Report, check: str) -> dict[str, Finding]:
    """The findings of a check by dataset; notes beside it aside."""
    found = [f for f in report.findings if f.check == check]
    return {f.dataset: f for f in found if f.dataset or len(found) == 1}


def notes(report: Report, check: str) -> list[str]:
    return [f.message for f in report.of("note") if f.check == check]


def benchmark(folder: Path, *texts: str) -> Path:
    folder.mkdir(exist_ok=True)
    rows = [json.dumps({"question": text, "answer": "#### 3"}) for text in texts]
    (folder / "gsm8k-test.jsonl").write_text("\n".join(rows))
    return folder


def recipe(folder: Path, **changes: Any) -> Recipe:
    rows = [*questions(20), {"question": SECRET, "answer": "3"}, {"question": LATER, "answer": "1"}]
    return recipe_over(write_corpus(folder / "corpus.jsonl", rows), **changes)


def built(folder: Path, engine: EchoEngine | None = None, benchmarks: str | None = None, **changes: Any) -> Path:
    profile = Profile(name="test", reward=RewardHost(batch_size=16), benchmarks=benchmarks)
    said = engine or EchoEngine(answers=4)
    Build(recipe(folder, **changes), profile, lambda *_: said, lambda *_: HashReward()).run(folder / "run")
    return folder / "run"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose prompts were held against one benchmark of one item."""
    return built(tmp_path, benchmarks=str(benchmark(tmp_path / "benchmarks", SECRET)))


# --- contamination --------------------------------------------------------------------------------------------------


def test_a_run_is_held_against_what_its_build_held_its_prompts_against(run: Path) -> None:
    report = audit(run, **QUICK)
    assert {f.severity for f in of(report, "contamination").values()} == {"ok"}
    assert set(of(report, "contamination")) == {"sft", "dpo"}
    (told,) = notes(report, "decontamination")
    assert told.startswith(
        "At the build: Prompts dropped for text that they share with a benchmark: gsm8k 1. Not checked:"
    )
    assert audited(run) == []


def test_a_prompt_of_a_benchmark_that_came_since_is_an_error_and_stops_a_push(run: Path) -> None:
    benchmark(run.parent / "benchmarks", SECRET, LATER)
    report = audit(run, **QUICK)
    found = [f for f in of(report, "contamination").values() if f.severity == "error"]
    assert [f.count for f in found] == [1]
    assert LATER[:9].lower() in str(found[0].examples[0].detail).lower()
    assert "another state than at the build: gsm8k" in notes(report, "contamination")
    (reason,) = audited(run)
    assert "contamination: a prompt shares a run of words with a benchmark" in reason


def test_benchmarks_that_are_gone_are_told_and_nothing_is_claimed(run: Path) -> None:
    shutil.rmtree(run.parent / "benchmarks")
    report = audit(run, **QUICK)
    assert {(f.severity, f.message) for f in of(report, "contamination").values()} == {
        ("skipped", "not checked: none of the benchmarks is at hand")
    }
    assert "not at hand: gsm8k" in notes(report, "contamination")


def test_the_length_of_a_match_is_the_recipes(tmp_path: Path) -> None:
    folder = benchmark(tmp_path / "benchmarks", f"{SECRET} {LATER}")
    run = built(tmp_path, decontamination={"words": 60})
    for source in (run, run / "dataset"):
        assert {f.count for f in of(audit(source, benchmarks=folder, **QUICK), "contamination").values()} == {0}
    for recipe in (run / "dataset").rglob("recipe.toml"):
        recipe.unlink()
    found = of(audit(run / "dataset", benchmarks=folder, **QUICK), "contamination")
    assert sum(f.count for f in found.values()) == 2


class Parrot(EchoEngine):
    """Ends its answers with a text of the benchmark."""

    def _answer(self, request: Request) -> Completion:
        said = super()._answer(request)
        return said._replace(text=f"{SECRET} {said.text}")


def test_an_answer_that_knows_a_benchmark_by_heart_is_a_warning(tmp_path: Path) -> None:
    run = built(tmp_path, Parrot(answers=4), str(benchmark(tmp_path / "benchmarks", SECRET)))
    report = audit(run, **QUICK)
    found = of(report, "contaminated answers")["dpo"]
    assert (found.severity, found.count) == ("warning", found.of)
    assert of(report, "contamination")["dpo"].severity == "ok"
    assert audited(run) == []


def test_a_run_that_could_check_nothing_warns_and_one_that_was_not_to_check_does_not(tmp_path: Path) -> None:
    report = audit(built(tmp_path), **QUICK)
    assert of(report, "decontamination")[""].severity == "warning"
    assert of(report, "contamination")["dpo"].message.startswith("not checked: no benchmark is at hand")
    shutil.rmtree(tmp_path / "run")
    report = audit(built(tmp_path, decontamination={"enabled": False}), **QUICK)
    assert of(report, "decontamination")[""].severity == "note"
    assert "switched off" in of(report, "decontamination")[""].message


def test_without_a_run_the_users_own_profile_says_where_benchmarks_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = built(tmp_path) / "dataset"
    benchmark(tmp_path / "benchmarks", LATER)
    assert audited(folder) == []
    home = tmp_path / "home" / "fusedata"
    home.mkdir(parents=True)
    (home / "config.toml").write_text('profile = "mine.toml"')
    (home / "mine.toml").write_text(f'benchmarks = "{tmp_path / "benchmarks"}"')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    (reason,) = audited(folder)
    assert "contamination: a prompt shares" in reason
    assert CliRunner().invoke(cli, ["audit", str(folder)]).exit_code == 1


# --- mixtures -------------------------------------------------------------------------------------------------------


@pytest.fixture
def both(tmp_path: Path) -> Path:
    mixture(tmp_path).run(tmp_path / "run")
    return tmp_path / "run"


def test_a_mixture_is_sound_and_the_funnel_of_each_recipe_adds_up(both: Path) -> None:
    report = audit(both, recheck=True, **QUICK)
    assert report.errors == ()
    assert set(of(report, "funnel")) == {"first", "second"}
    assert {"first/sft", "second/dpo"} < set(of(report, "lineage"))
    gaps = of(report, "reward gap")
    assert {name: f.severity for name, f in gaps.items()} == {"dpo: first": "ok", "dpo: second": "ok"}
    assert sum(f.of for f in gaps.values()) == rows(both, "dpo").height
    again = of(report, "verdicts again")
    assert set(again) == {f"{kind}: {name}" for kind in ("sft", "dpo") for name in ("first", "second")}
    assert sum(f.of for name, f in again.items() if name.startswith("sft")) == rows(both, "sft").height


def rows(run: Path, kind: str) -> pl.DataFrame:
    return pl.read_parquet(run / "dataset" / kind / "data" / "*.parquet")


def changed(run: Path, kind: str, *changes: pl.Expr) -> None:
    """Change the training rows of a dataset."""
    file = next((run / "dataset" / kind / "data").glob("train-*.parquet"))
    pl.read_parquet(file).with_columns(*changes).write_parquet(file)


def test_a_row_that_a_recipe_lost_is_an_error_of_its_funnel(both: Path) -> None:
    file = next((both / "second" / "dataset" / "dpo" / "data").glob("train-*.parquet"))
    pl.read_parquet(file)[1:].write_parquet(file)
    report = audit(both, **QUICK)
    assert of(report, "funnel")["second"].severity == "error"
    assert of(report, "funnel")["first"].severity == "ok"


def test_a_whole_that_is_not_what_its_recipes_add_up_to_is_an_error(both: Path) -> None:
    file = next((both / "dataset" / "sft" / "data").glob("train-*.parquet"))
    pl.read_parquet(file)[1:].write_parquet(file)
    (found,) = (f for f in audit(both, **QUICK).errors if f.check == "lineage")
    assert "the recipes give other rows" in found.message


def test_a_row_of_a_mixture_is_held_to_the_recipe_that_made_it(both: Path) -> None:
    of_second = pl.when(pl.col("recipe") == "second").then(0.9).otherwise("chosen_reward")
    changed(both, "dpo", of_second.alias("chosen_reward"))
    for source in (both, both / "dataset"):
        gaps = of(audit(source, **QUICK), "reward gap")
        assert {name: f.severity for name, f in gaps.items()} == {"dpo: first": "ok", "dpo: second": "error"}


def test_answers_of_a_mixture_are_judged_again_by_the_recipe_that_made_them(both: Path) -> None:
    swapped = [
        pl.when(pl.col("recipe") == "first").then(other).otherwise(one).alias(one)
        for one, other in (("chosen", "rejected"), ("rejected", "chosen"))
    ]
    changed(both, "dpo", *swapped)
    again = of(audit(both, recheck=True, **QUICK), "verdicts again")
    assert (again["dpo: first"].severity, again["dpo: second"].severity) == ("error", "ok")


def test_of_two_sources_each_is_held_to_its_own_recipe(tmp_path: Path) -> None:
    for name, window in (("a", [0.01, 0.1]), ("b", [0.02, 0.09])):
        (tmp_path / name).mkdir()
        corpus = write_corpus(tmp_path / name / "corpus.jsonl", questions(40))
        dpo = {"reward_gap": window, "reward_gap_model": "fusedata/hash-reward"}
        twin_build(recipe_over(corpus, dpo=dpo)).run(tmp_path / name / "run")
    report = audit(tmp_path / "a" / "run" / "dataset" / "dpo", tmp_path / "b" / "run" / "dataset" / "dpo", **QUICK)
    assert [f.severity for f in report.findings if f.check == "reward gap"] == ["ok", "ok"]


# --- judged again ---------------------------------------------------------------------------------------------------


@pytest.fixture
def engine_here() -> None:
    from fusedata.errors import VerifierError
    from fusedata.verify.sandbox.engine import connect

    try:
        connect().close()
    except VerifierError as error:
        pytest.skip(str(error))


@pytest.mark.docker
@pytest.mark.usefixtures("engine_here")
def test_programs_are_judged_again_in_the_sandbox(tmp_path: Path) -> None:
    run = code.built(tmp_path, code.recipe(tmp_path, code.ROWS), open_check=code.Plainly().check)
    sound = of(audit(run, recheck=True, **QUICK), "verdicts again")
    assert {name: (f.severity, f.of) for name, f in sound.items()} == {
        "sft": ("ok", rows(run, "sft").height),
        "dpo": ("ok", 2 * rows(run, "dpo").height),
    }
    changed(run, "dpo", pl.col("rejected").alias("chosen"), pl.col("chosen").alias("rejected"))
    found = of(audit(run, recheck=True, **QUICK), "verdicts again")
    assert found["sft"].severity == "ok"
    assert (found["dpo"].severity, found["dpo"].count) == ("error", 2 * rows(run, "dpo").height)
    assert {str(e.detail) for e in found["dpo"].examples} <= {
        "chosen: failed",
        "chosen: static_error",
        "rejected: passed",
    }


# --- hubs -----------------------------------------------------------------------------------------------------------


def test_a_dataset_on_modelscope_is_audited_by_its_id(tmp_path: Path, run: Path) -> None:
    folder = run / "dataset" / "dpo"
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    command = [sys.executable, "-m", "fusedata", "audit", "--quick", "--json", "--gap", "0.01", "0.02"]
    with HubServer() as server:
        server.add("org/sums", files)
        environment = {
            **os.environ,
            "MODELSCOPE_ENDPOINT": server.url,
            "MODELSCOPE_CACHE": str(tmp_path / "cache"),
            "XDG_CONFIG_HOME": str(tmp_path),
        }
        for words in (["ms:org/sums"], ["org/sums", "--hub", "modelscope"]):
            done = subprocess.run(
                [*command, *words], env=environment, capture_output=True, text=True, check=False, timeout=120
            )
            assert (done.returncode, done.stderr) == (1, "")
            report = json.loads(done.stdout)
            assert [(size["kind"], size["shape"]) for size in report["datasets"]] == [("dpo", "fusedata")]
            assert sum(report["datasets"][0]["splits"].values()) == rows(run, "dpo").height
            assert [f["check"] for f in report["findings"] if f["severity"] == "error"] == ["reward gap"]
            assert "the card names" in str(report["findings"]) or "card licence" in str(report["findings"])
        assert not server.asked("GET /api/datasets/")
        assert server.asked(r"GET /api/v1/datasets/org/sums/repo\?.*README")


def test_an_id_that_modelscope_does_not_have_is_one_sentence(tmp_path: Path) -> None:
    with HubServer() as server:
        environment = {**os.environ, "MODELSCOPE_ENDPOINT": server.url, "MODELSCOPE_CACHE": str(tmp_path)}
        command = [sys.executable, "-m", "fusedata", "audit", "ms:org/none"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("fusedata: ModelScope has no dataset org/none")
    assert len(done.stderr.splitlines()) == 1
