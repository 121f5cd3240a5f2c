"""Benchmarks in a folder and on hubs, and what a build makes of them: prompts dropped, a report, a fingerprint."""

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from click.testing import CliRunner
from conftest import questions, recipe_over, twin_build, write_corpus
from hub_server import HubServer

from fusedata.build import Build
from fusedata.cli import cli
from fusedata.collect.decontamination import benchmarks
from fusedata.contamination.benchmarks import BENCHMARKS, NAMES
from fusedata.contamination.overlap import Item
from fusedata.contamination.report import Report, lines, read_report
from fusedata.contamination.sources import Places, commits, find_benchmarks, read_items
from fusedata.curation import Decontamination
from fusedata.errors import ConfigError
from fusedata.profile import Profile, find_profile, load_profile
from fusedata.recipe import Recipe
from fusedata.schema import DROPPED
from fusedata.store import read_run

DUCKS = "Janet’s ducks lay 16 eggs per day. She eats three for breakfast every morning and bakes muffins for friends."
ROBE = "A robe takes 2 bolts of blue fiber and half that much white fiber. How many bolts in total does it take, Jo?"
TABLES = {
    "openai__gsm8k/main/test-00000-of-00001.parquet": [{"question": DUCKS, "answer": "1"}],
    "lmarena-ai__arena-hard-auto-v0.1/data/train-0.parquet": [{"question_id": "q", "turns": [{"content": ROBE}]}],
    "HuggingFaceH4__mt_bench_prompts/data/train-0.parquet": [{"prompt": ["First turn.", "Second turn."]}],
    "TIGER-Lab__MMLU-Pro/data/test-0.parquet": [{"question_id": 7, "question": "Which?", "options": ["one", "two"]}],
    "google-research-datasets__mbpp/full/test-0.parquet": [
        {"task_id": 10, "text": "Ten.", "test_list": ["assert f(10)", "assert f(1)"]},
        {"task_id": 11, "text": "Eleven.", "test_list": ["assert f(11)", "assert f(1)"]},
    ],
    "google-research-datasets__mbpp/sanitized/test-0.parquet": [
        {"task_id": 11, "prompt": "Write eleven.", "test_list": ["assert f(11)"]}
    ],
}


def fill(folder: Path, tables: dict[str, list[dict[str, object]]]) -> Path:
    for name, rows in tables.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame(rows).write_parquet(folder / name)
    return folder


def items_of(name: str, folder: Path) -> list[tuple[str, str]]:
    items, shelf = read_items(find_benchmarks([name], Places(folder)))
    assert shelf.unchecked == {}
    return [(item.item, item.text) for item in items]


def test_every_benchmark_of_the_method_is_known() -> None:
    assert NAMES == (
        "alpaca-eval-2", "arena-hard", "mt-bench", "alignbench-1.1", "livebench-0831", "mmlu-pro", "mmlu-redux",
        "gpqa-diamond", "gsm8k", "math", "math-500", "amc23", "humaneval", "mbpp", "livecodebench-2408-2411",
    )  # fmt: skip
    assert [benchmark.name for benchmark in BENCHMARKS if benchmark.gated] == ["gpqa-diamond"]


@pytest.mark.parametrize(
    ("name", "items"),
    [
        ("gsm8k", [("row 0", DUCKS)]),
        ("arena-hard", [("q", ROBE)]),
        ("mt-bench", [("row 0", "First turn."), ("row 0", "Second turn.")]),
        ("mmlu-pro", [("7", "Which?"), ("7", "Which?\none\ntwo")]),
        (
            "mbpp",
            [("11", "Eleven."), ("11", "assert f(11)\nassert f(1)"), ("11", "Write eleven."), ("11", "assert f(11)")],
        ),
    ],
)
def test_a_benchmark_in_the_hubs_layout_gives_its_texts(name: str, items: object, tmp_path: Path) -> None:
    assert items_of(name, fill(tmp_path, TABLES)) == items


def test_a_benchmark_of_several_datasets_keeps_the_rows_of_its_release(tmp_path: Path) -> None:
    days = pl.Series(["2024-08-31", "2024-11-25"]).str.to_datetime("%Y-%m-%d")
    for part in ("coding", "data_analysis", "instruction_following", "language", "math", "reasoning"):
        rows = pl.DataFrame({"question_id": ["a", "b"], "turns": [[part], ["later"]], "livebench_release_date": days})
        (tmp_path / f"livebench__{part}/data").mkdir(parents=True)
        rows.write_parquet(tmp_path / f"livebench__{part}/data/test-0.parquet")
    texts = [text for _, text in items_of("livebench-0831", tmp_path)]
    assert texts == ["coding", "data_analysis", "instruction_following", "language", "math", "reasoning"]


def test_a_benchmark_in_plain_json_keeps_the_rows_of_its_months(tmp_path: Path) -> None:
    dates = ("2024-07-31", "2024-08-01", "2024-11-30", "2024-12-01")
    rows = [{"question_id": d, "question_content": d, "contest_date": f"{d}T00:00:00"} for d in dates]
    write_corpus(tmp_path / "livecodebench.jsonl", rows)
    assert [item for item, _ in items_of("livecodebench-2408-2411", tmp_path)] == ["2024-08-01", "2024-11-30"]


def test_benchmarks_in_csv_and_arrow_are_read(tmp_path: Path) -> None:
    columns = ("Record ID", "Question", "Correct Answer", *(f"Incorrect Answer {n}" for n in (1, 2, 3)))
    row = ("rec", "Why?", "because", "x", "y, z", "007")
    pl.DataFrame({column: [value] for column, value in zip(columns, row, strict=True)}).write_csv(
        tmp_path / "gpqa_diamond.csv"
    )
    assert items_of("gpqa-diamond", tmp_path) == [("rec", "Why?"), ("rec", "Why?\nbecause\nx\ny, z\n007")]
    table = pa.table({"question": ["What?"], "choices": [["a", "b"]]})
    for subject in ("anatomy", "law"):
        path = tmp_path / "edinburgh-dawg__mmlu-redux" / subject / "data-00000-of-00001.arrow"
        path.parent.mkdir(parents=True)
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
    assert [item for item, _ in items_of("mmlu-redux", tmp_path)] == ["row 0", "row 0", "row 1", "row 1"]


def test_what_cannot_be_had_or_read_is_named_with_its_reason(tmp_path: Path) -> None:
    fill(tmp_path, {"openai__gsm8k/main/test-0.parquet": [{"text": DUCKS}], "EleutherAI__hendrycks_math/x.parquet": []})
    (tmp_path / "amc23.jsonl").write_text('{"problem": "half')
    (tmp_path / "gpqa_diamond.csv").write_bytes(b'"a\xff')
    write_corpus(tmp_path / "livecodebench.jsonl", [{"question_content": "old", "contest_date": "2023-01-01"}])
    items, shelf = read_items(find_benchmarks([*NAMES, "gsm-8k"], Places(tmp_path)))
    assert (items, shelf.held) == ([], ())
    assert set(shelf.unchecked) == {*NAMES, "gsm-8k"}
    reasons = {
        "gsm8k": "none of the columns", "math": "has no file */test-*.parquet", "amc23": "cut off",
        "gpqa-diamond": "none of the columns", "livecodebench-2408-2411": "no text of it",
        "mmlu-pro": "not in the folder of benchmarks", "gsm-8k": "no benchmark of this name",
    }  # fmt: skip
    for name, reason in reasons.items():
        assert reason in shelf.unchecked[name]


# --- hubs -----------------------------------------------------------------------------------------------------

NEWEST = {source.hub: "main" for benchmark in BENCHMARKS for source in benchmark.sources if source.hub}
"""In place of the pins: the server has commits of its own."""
RUN = """
import json, sys
from pathlib import Path
from fusedata.contamination.sources import Places, find_benchmarks, read_items
places = Places(hub=sys.argv[2], revisions=json.loads(sys.argv[3]))
items, shelf = read_items(find_benchmarks(json.loads(sys.argv[1]), places))
print(json.dumps([items, shelf.unchecked, shelf.revisions()]))
"""


@pytest.fixture
def server() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


def on_hub(
    home: Path, url: str, *names: str, hub: str = "huggingface", pinned: dict[str, str] | None = None
) -> tuple[list[Item], dict[str, str], dict[str, str]]:
    """What a fresh process with a cache of its own finds."""
    environment = {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "NO_PROXY": "127.0.0.1,localhost",
        "HF_ENDPOINT": url,
        "HF_HUB_DISABLE_XET": "1",
        "MODELSCOPE_ENDPOINT": url,
        "MODELSCOPE_REPO_TREE_PAGE_MAX_ATTEMPTS": "1",
        "MODELSCOPE_DOWNLOAD_MAX_RETRIES": "1",
    }
    command = [sys.executable, "-W", "error", "-c", RUN, json.dumps(names), hub, json.dumps(pinned or NEWEST)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""
    items, unchecked, revisions = json.loads(done.stdout)
    return [Item(*item) for item in items], unchecked, revisions


def parquet(rows: list[dict[str, object]]) -> bytes:
    file = io.BytesIO()
    pl.DataFrame(rows).write_parquet(file)
    return file.getvalue()


def test_a_benchmark_comes_from_the_hub_with_the_commit_that_was_read(server: HubServer, tmp_path: Path) -> None:
    commit = server.add("openai/gsm8k", {"main/test-00000-of-00001.parquet": parquet([{"question": DUCKS}])})
    items, unchecked, revisions = on_hub(tmp_path, server.url, "gsm8k")
    assert items == [Item("gsm8k", "row 0", DUCKS)]
    assert (unchecked, revisions) == ({}, {"gsm8k": commit})


def test_a_recipe_pins_the_commit_of_a_benchmark(server: HubServer, tmp_path: Path) -> None:
    file = "main/test-00000-of-00001.parquet"
    then = server.add("openai/gsm8k", {file: parquet([{"question": DUCKS}])})
    server.add("openai/gsm8k", {file: parquet([{"question": ROBE}])})
    items, _, revisions = on_hub(tmp_path, server.url, "gsm8k", pinned={"openai/gsm8k": then})
    assert (items, revisions) == ([Item("gsm8k", "row 0", DUCKS)], {"gsm8k": then})


def test_without_a_pin_of_the_recipes_the_own_ones_are_asked_for(server: HubServer, tmp_path: Path) -> None:
    server.add("openai/gsm8k", {"main/test-00000-of-00001.parquet": parquet([{"question": DUCKS}])})
    _, unchecked, _ = on_hub(tmp_path, server.url, "gsm8k", pinned={"openai/gsm8k-nothing": "x"})
    (pinned,) = (benchmark.sources[0].revision for benchmark in BENCHMARKS if benchmark.name == "gsm8k")
    assert pinned in "".join(server.asked("gsm8k"))
    assert "gsm8k" in unchecked


def test_all_that_is_on_a_hub_is_pinned_but_mmlu_redux() -> None:
    sources = [source for benchmark in BENCHMARKS for source in benchmark.sources if source.hub]
    assert [source.hub for source in sources if source.revision is None] == ["edinburgh-dawg/mmlu-redux"]
    assert all(re.fullmatch("[0-9a-f]{40}", source.revision or "0" * 40) for source in sources)


def test_a_builds_benchmarks_are_asked_for_at_the_recipes_pins(recipe: Recipe, folder: Path) -> None:
    pins = {"openai/gsm8k": "0" * 40}
    pinned = recipe.model_copy(update={"decontamination": Decontamination(revisions=pins)})
    shelf = benchmarks(pinned, Profile(name="p", benchmarks=str(folder)), fetched=True)
    assert shelf is not None
    assert shelf.places.revisions == pins


def test_the_commits_that_a_build_read_can_be_asked_for_again() -> None:
    coding, language = "a" * 40, "b" * 40
    states = {"livebench-0831": f"{coding} sha256:1 sha256:2 {language} sha256:3 sha256:4", "gsm8k": "master@sha256:5"}
    assert commits(states) == {"livebench/coding": coding, "livebench/language": language}


def test_a_pin_of_no_benchmark_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"decontamination\.revisions: openai/gsm-8k holds no benchmark; there are"):
        recipe_over(tmp_path / "x.jsonl", decontamination={"revisions": {"openai/gsm-8k": "abc"}})


def test_a_gated_and_a_missing_benchmark_are_named(server: HubServer, tmp_path: Path) -> None:
    server.add("Idavidrein/gpqa", {"gpqa_diamond.csv": b"Question\nWhy?\n"}, token="secret")
    items, unchecked, _ = on_hub(tmp_path, server.url, "gpqa-diamond", "math-500", "alignbench-1.1")
    assert items == []
    assert unchecked["gpqa-diamond"].startswith("it is gated: accept its terms")
    assert "HuggingFaceH4/MATH-500" in unchecked["math-500"]
    assert "github.com/THUDM/AlignBench" in unchecked["alignbench-1.1"]


def test_a_hub_that_cannot_be_reached_is_asked_once(tmp_path: Path) -> None:
    items, unchecked, _ = on_hub(tmp_path, "http://127.0.0.1:9", "gsm8k", "math-500", "mbpp")
    assert items == []
    assert "could not be reached for openai/gsm8k" in unchecked["gsm8k"]
    assert unchecked["math-500"] == unchecked["mbpp"] == "not asked: the hub could not be reached"


def test_modelscope_gives_the_benchmarks_whose_ids_there_are_known(server: HubServer, tmp_path: Path) -> None:
    server.add("AI-ModelScope/MATH-500", {"test.jsonl": json.dumps({"problem": ROBE}).encode() + b"\n"})
    items, unchecked, revisions = on_hub(tmp_path, server.url, "math-500", "mbpp", hub="modelscope")
    assert items == [Item("math-500", "row 0", ROBE)]
    assert revisions["math-500"].startswith("master@sha256:")
    assert unchecked == {"mbpp": "no copy of google-research-datasets/mbpp on ModelScope is known"}


# --- a build --------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path / "benchmarks", {name: TABLES[name] for name in list(TABLES)[:1]})


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    planted = f"Solve: {DUCKS.upper()}"
    return recipe_over(write_corpus(tmp_path / "rows.jsonl", [*questions(12), {"question": planted, "answer": "1"}]))


def held_against(recipe: Recipe, place: Path | str | None, **changes: object) -> Build:
    changed = recipe.model_copy(update={"decontamination": recipe.decontamination.model_copy(update=changes)})
    build = twin_build(changed)
    return replace(build, profile=build.profile.model_copy(update={"benchmarks": place and str(place)}))


def dropped(root: Path) -> list[tuple[str, str]]:
    rows = read_run(root).parts("dropped", "", DROPPED).scan().filter(pl.col("reason").str.starts_with("in benchmark"))
    return rows.select("reason", "detail").collect().rows()


def report_of(root: Path) -> Report:
    report = read_report(read_run(root))
    assert report is not None
    return report


def test_a_planted_prompt_is_dropped_with_benchmark_item_and_text(recipe: Recipe, folder: Path, tmp_path: Path) -> None:
    held_against(recipe, folder).run(tmp_path / "run")
    text = "janets ducks lay 16 eggs per day she eats three for breakfast every morning and bakes muffins for friends"
    assert dropped(tmp_path / "run") == [("in benchmark gsm8k", f"row 0: {text}")]


def test_a_benchmark_in_another_turn_or_the_system_prompt_is_found(folder: Path, tmp_path: Path) -> None:
    ask = {"role": "user", "content": "Now a sum with the same numbers, please."}
    turns: list[list[dict[str, str]]] = [
        [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": f"Try this: {DUCKS}"}, ask],
        [{"role": "system", "content": DUCKS}, ask],
        [{"role": "system", "content": "You are kind."}, ask],
    ]
    rows = [{"turns": turn, "answer": str(n)} for n, turn in enumerate(turns)]
    path = write_corpus(tmp_path / "rows.jsonl", rows)
    corpus = {"id": "test/turns", "path": str(path), "prompt": "turns", "answer": "answer", "license": "mit"}
    recipe = recipe_over(path, corpora=[corpus])
    held_against(recipe, folder).run(tmp_path / "run")
    assert len(dropped(tmp_path / "run")) == 2


def test_the_report_tells_counts_revisions_and_what_was_not_checked(
    recipe: Recipe, folder: Path, tmp_path: Path
) -> None:
    held_against(recipe, folder, benchmarks=("gsm8k", "math")).run(tmp_path / "run")
    report = report_of(tmp_path / "run")
    assert report.checked == {"gsm8k": 1}
    assert report.unchecked == {"math": "not in the folder of benchmarks"}
    assert report.revisions["gsm8k"].startswith("sha256:")
    assert lines(report) == [
        "Prompts dropped for text that they share with a benchmark: gsm8k 1.",
        "Not checked: math (not in the folder of benchmarks).",
    ]


def test_status_shows_counts_and_what_was_not_checked(recipe: Recipe, folder: Path, tmp_path: Path) -> None:
    held_against(recipe, folder, benchmarks=("gsm8k", "math")).run(tmp_path / "run")
    told = " ".join(CliRunner().invoke(cli, ["status", str(tmp_path / "run")]).output.split())
    assert "share with a benchmark: gsm8k 1. Not checked: math (not in the folder of benchmarks)." in told
    found = json.loads(CliRunner().invoke(cli, ["status", str(tmp_path / "run"), "--json"]).output)
    assert found["contamination"]["checked"] == {"gsm8k": 1}


def test_switched_off_nothing_is_dropped_and_nothing_reported(recipe: Recipe, folder: Path, tmp_path: Path) -> None:
    held_against(recipe, folder, enabled=False).run(tmp_path / "run")
    assert dropped(tmp_path / "run") == []
    assert read_report(read_run(tmp_path / "run")) is None
    assert lines(None) == ["Prompts were not held against benchmarks: decontamination is switched off."]


@pytest.mark.parametrize("place", [None, "none"])
def test_without_a_place_of_benchmarks_all_are_named_as_unchecked(
    recipe: Recipe, tmp_path: Path, place: str | None
) -> None:
    held_against(recipe, place).run(tmp_path / "run")
    report = report_of(tmp_path / "run")
    assert (report.checked, tuple(report.unchecked)) == ({}, NAMES)


def test_a_benchmark_that_can_be_had_later_makes_the_prompts_anew(recipe: Recipe, folder: Path, tmp_path: Path) -> None:
    held_against(recipe, None).run(tmp_path / "run")
    before = read_run(tmp_path / "run").parts("prompts", "", DROPPED).folder
    assert dropped(tmp_path / "run") == []
    held_against(recipe, folder).run(tmp_path / "run")
    assert len(dropped(tmp_path / "run")) == 1
    held_against(recipe, None).run(tmp_path / "run")
    assert read_run(tmp_path / "run").parts("prompts", "", DROPPED).folder == before


def test_the_shipped_local_profile_asks_no_hub_for_benchmarks() -> None:
    assert load_profile(find_profile("local")).benchmarks == "none"


def test_a_profiles_folder_of_benchmarks_is_relative_to_its_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('benchmarks = "held-out"\n')
    assert load_profile(tmp_path / "mine.toml").benchmarks == os.path.realpath(tmp_path / "held-out")
    (tmp_path / "hub.toml").write_text('benchmarks = "hub"\n')
    assert load_profile(tmp_path / "hub.toml").benchmarks == "hub"
