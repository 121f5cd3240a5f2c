"""An audit of pairs and SFT rows in anyone's shape: each check finds what it is for, and nothing in sound rows."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner
from hub_server import HubServer
from hypothesis import given
from hypothesis import strategies as st
from runs import SUMS, Stopper, built, fails, invoke

from fusedata.audit import READ_ALL, Finding, Report, audit
from fusedata.audit.expected import Expected
from fusedata.audit.private import personal, secrets
from fusedata.audit.recheck import recheck_findings
from fusedata.audit.run import run_findings
from fusedata.audit.scans import scan_findings
from fusedata.cli import cli
from fusedata.dataset import DPO
from fusedata.errors import CorpusError, RunError
from fusedata.shares import interval
from fusedata.sources import open_datasets
from fusedata.store import Parts, Run, read_run

Row = dict[str, Any]
NOT_READ = {"skip": READ_ALL}


def said(role: str, text: str | None) -> list[Row]:
    return [{"role": role, "content": text}]


def pair(number: int, **changes: Any) -> Row:
    """A sound pair, as fusedata writes it."""
    row: Row = dict.fromkeys(DPO.names())
    row |= {
        "prompt_id": f"{number:024x}",
        "corpus": "org/corpus",
        "license": "mit",
        "source_model": "org/model",
        "rejected_source_model": "org/model",
        "prompt": said("user", f"What is {number} and {number}?"),
        "chosen": said("assistant", f"It is {2 * number}, for certain."),
        "rejected": said("assistant", f"It is {2 * number + 1}, for certain."),
    }
    sides = {"chosen": ("right", 0.2), "rejected": ("wrong", 0.15)}
    for side, (verdict, reward) in sides.items():
        row |= {f"{side}_verdict": verdict, f"{side}_reward": reward, f"{side}_tokens": 40}
        row |= {f"{side}_finish_reason": "stop", f"{side}_sample": 0}
    return row | changes


def pairs(folder: Path, *changed: Row, count: int = 20, split: str = "train", first: int = 0) -> Path:
    """Write sound pairs and the changed ones."""
    rows = [pair(first + number) for number in range(count)] + [pair(900 + i, **row) for i, row in enumerate(changed)]
    (folder / "data").mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows, schema=DPO).write_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


def of(report: Report, check: str, dataset: str | None = None) -> Finding:
    (found,) = (f for f in report.findings if f.check == check and dataset in (None, f.dataset))
    return found


def test_sound_pairs_have_no_error_and_no_warning_but_the_missing_card(tmp_path: Path) -> None:
    report = audit(pairs(tmp_path), gap=(0.01, 0.1))
    assert [f.check for f in report.of("error", "warning")] == ["card licence"]
    assert {f.check for f in report.of("ok")} > {"schema", "reward gap", "verdicts", "one source model", "secrets"}


WRONG: dict[str, tuple[Row, str]] = {
    "schema": ({"chosen": None}, "error"),
    "empty text": ({"rejected": said("assistant", " \n")}, "error"),
    "role order": ({"prompt": said("assistant", "Hello?")}, "error"),
    "identical answers": ({"chosen": said("assistant", "Same."), "rejected": said("assistant", "Same. ")}, "error"),
    "reward gap": ({"chosen_reward": 0.9}, "error"),
    "verdicts": ({"chosen_verdict": "wrong"}, "error"),
    "too long": ({"chosen_tokens": 2_049}, "warning"),
    "truncated": ({"chosen_finish_reason": "length"}, "warning"),
    "special tokens": ({"rejected": said("assistant", "No.<|im_end|>")}, "warning"),
    "licence": ({"license": "unknown"}, "warning"),
    "secrets": ({"prompt": said("user", "use AKIAQYLPMN5HHHFPZAM2 to log in")}, "warning"),
    "personal data": ({"chosen": said("assistant", "Write to jane.roe@stanford.edu.")}, "warning"),
}


@pytest.mark.parametrize("check", WRONG)
def test_a_check_finds_the_one_row_that_it_is_for(tmp_path: Path, check: str) -> None:
    change, severity = WRONG[check]
    report = audit(pairs(tmp_path, change), gap=(0.01, 0.1))
    found = of(report, check)
    assert (found.severity, found.count, found.splits) == (severity, 1, {"train": 1})
    assert [(e.split, e.row, e.prompt_id) for e in found.examples] == [("train", 20, f"{900:024x}")]
    others = {f.check for f in report.of("error")} - {check}
    assert not others


@pytest.mark.parametrize("gap", [(0.05, 0.1), (0.01, 0.05)])
def test_the_ends_of_the_window_belong_to_it(tmp_path: Path, gap: tuple[float, float]) -> None:
    assert of(audit(pairs(tmp_path), gap=gap, **NOT_READ), "reward gap").severity == "ok"


@pytest.mark.parametrize("verdict", ["right", "unjudged", "unavailable", None])
def test_a_rejected_answer_must_have_been_found_wrong(tmp_path: Path, verdict: str | None) -> None:
    report = audit(pairs(tmp_path, {"rejected_verdict": verdict}), **NOT_READ)
    assert of(report, "verdicts").count == 1


def test_two_models_in_a_pair_are_an_error_only_where_the_recipe_forbids_them(tmp_path: Path) -> None:
    other = {"rejected_source_model": "org/other"}
    assert of(audit(pairs(tmp_path / "a", other), **NOT_READ), "one source model").severity == "note"
    run = built(tmp_path)
    file = next((run / "dataset" / "dpo" / "data").glob("train-*.parquet"))
    rows = pl.read_parquet(file)
    rows.with_columns(rejected_source_model=pl.lit("org/other")).write_parquet(file)
    found = of(audit(run, **NOT_READ), "one source model")
    assert (found.severity, found.count) == ("error", rows.height)


def test_rows_that_stand_twice_are_found_and_prompts_that_do(tmp_path: Path) -> None:
    again = pair(3, rejected=said("assistant", "Something else."))
    report = audit(pairs(tmp_path, pair(2), again), **NOT_READ)
    assert (of(report, "duplicate rows").count, of(report, "repeated prompts").count) == (1, 2)
    assert [example.row for example in of(report, "repeated prompts").examples] == [20, 21]


def test_with_weights_a_prompt_may_have_a_row_a_source_model(tmp_path: Path) -> None:
    rows = [
        {"messages": said("user", "Why?") + said("assistant", f"{word}."), "source_model": model, "weight": 0.5}
        for word, model in (("Yes", "a"), ("No", "b"), ("Maybe", "b"))
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    report = audit(tmp_path, **NOT_READ)
    assert (of(report, "duplicate rows").count, of(report, "repeated prompts").count) == (0, 1)


def test_a_held_out_prompt_in_the_training_split_is_an_error(tmp_path: Path) -> None:
    pairs(pairs(tmp_path), split="test", count=3, first=18)
    found = of(audit(tmp_path, **NOT_READ), "train and test overlap")
    assert (found.severity, found.count, found.splits) == ("error", 2, {"test": 2})
    assert [example.row for example in found.examples] == [0, 1]


def test_a_prompt_held_out_of_one_dataset_and_trained_on_in_another_is_an_error(tmp_path: Path) -> None:
    pairs(pairs(tmp_path / "dpo"), split="test", count=3, first=49)
    rows = [{"messages": pair(n)["prompt"] + said("assistant", "So.")} for n in (51, 3, 77)]
    (tmp_path / "sft.jsonl").write_text("\n".join(map(json.dumps, rows)))
    report = audit(tmp_path / "dpo", tmp_path / "sft.jsonl", **NOT_READ)
    assert (of(report, "held-out prompts leak").severity, of(report, "held-out prompts leak").count) == ("error", 1)
    assert (of(report, "shared prompts").severity, of(report, "shared prompts").count) == ("note", 1)


def test_length_bias_is_told_with_its_interval(tmp_path: Path) -> None:
    long = [{"chosen": said("assistant", f"Long, long, very long: {n}.")} for n in range(40)]
    found = of(audit(pairs(tmp_path, *long, count=0), **NOT_READ), "length bias")
    assert (found.severity, found.count, found.of) == ("warning", 40, 40)
    assert "100.0% of the pairs" in found.message


@given(st.integers(1, 10_000), st.data())
def test_the_interval_of_a_share_holds_it(of_: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, of_))
    low, high = interval(hits, of_)
    assert 0 <= low <= hits / of_ + 1e-9
    assert hits / of_ - 1e-9 <= high <= 1


def test_a_prompt_that_resembles_an_earlier_one_is_told(tmp_path: Path) -> None:
    words = "a train leaves the station at noon and travels sixty miles an hour to the next town where it stops"
    near = [{"prompt": said("user", f"{words} {end}")} for end in ("briefly", "at last", "at last")]
    found = of(audit(pairs(tmp_path, *near)), "near duplicates")
    assert [(e.row, (e.detail or "")[:14]) for e in found.examples] == [(21, "like train 20:")]


def test_a_text_of_a_benchmark_is_found(tmp_path: Path) -> None:
    question = (
        "A robe takes 2 bolts of blue fiber and half that much white fiber. How many bolts in total does it take?"
    )
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "gsm8k-test.jsonl").write_text(json.dumps({"question": question, "answer": "#### 3"}))
    folder = pairs(tmp_path / "dpo", {"prompt": said("user", f"Please help. {question}")})
    found = [f for f in audit(folder, benchmarks=tmp_path / "benchmarks").findings if f.check == "contamination"]
    assert [(f.severity, f.count) for f in found if f.dataset] == [("warning", 1)]
    assert "gsm8k" in str(next(f for f in found if f.dataset).examples[0].detail)
    assert of(audit(folder), "contamination").severity == "skipped"


@pytest.mark.parametrize(("languages", "count"), [((), 1), (("en",), 2), (("en", "de"), 1)])
def test_languages_that_are_not_expected_and_answers_in_another_are_told(
    tmp_path: Path, languages: tuple[str, ...], count: int
) -> None:
    english = "Please tell me how the weather will be tomorrow in the mountains."
    german = "Das Wetter wird morgen in den Bergen wahrscheinlich schön und trocken sein."
    rows = [
        {"prompt": said("user", english), "chosen": said("assistant", german)},
        {"prompt": said("user", german), "chosen": said("assistant", german), "rejected": said("assistant", "Ja.")},
    ]
    assert of(audit(pairs(tmp_path, *rows, count=0), languages=languages), "language").count == count


def test_tokens_are_counted_by_a_tokenizer(tmp_path: Path, tiny_model: Path) -> None:
    folder = pairs(tmp_path, {"chosen": said("assistant", "x" * 70)})
    found = of(audit(folder, tokenizer=str(tiny_model), max_tokens=80), "too long, counted")
    assert [(e.row, e.detail) for e in found.examples] == [(20, "90")]


def human(text: str) -> Row:
    return {"from": "human", "value": text}


def gpt(text: str) -> Row:
    return {"from": "gpt", "value": text}


ASKED, GOOD, BAD = said("user", "Why?"), said("assistant", "Because."), said("assistant", "No idea.")
SHAPES: dict[str, tuple[str, Row]] = {
    "TRL, explicit": ("dpo", {"prompt": ASKED, "chosen": GOOD, "rejected": BAD}),
    "TRL, implicit": ("dpo", {"chosen": ASKED + GOOD, "rejected": ASKED + BAD}),
    "TRL, texts": ("dpo", {"prompt": "Why?", "chosen": "Because.", "rejected": "No idea."}),
    "whole answers": ("dpo", {"prompt": "Why?", "chosen": ASKED + GOOD, "rejected": ASKED + BAD}),
    "FuseAI": ("dpo", {"dataset": "d", "source_model": "m", "prompt": ASKED, "chosen": GOOD, "rejected": BAD}),
    "LLaMA-Factory": (
        "dpo",
        {"conversations": [human("Why?")], "chosen": gpt("Because."), "rejected": gpt("No idea.")},
    ),
    "ms-swift": ("dpo", {"messages": ASKED + GOOD, "rejected_response": "No idea."}),
    "Alpaca pairs": ("dpo", {"instruction": "Why?", "input": "", "chosen": "Because.", "rejected": "No idea."}),
    "messages": ("sft", {"messages": ASKED + GOOD}),
    "FuseAI SFT": (
        "sft",
        {"dataset": "d", "source_model": "m", "conversations": [human("Why?"), gpt("Because.")]},
    ),
    "prompt and completion": ("sft", {"prompt": "Why?", "completion": "Because."}),
    "Alpaca": ("sft", {"instruction": "Why?", "input": "", "output": "Because."}),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("write", [lambda p, rows: p.write_text(json.dumps(rows)), None])
def test_a_shape_is_read_as_the_same_rows(
    tmp_path: Path, shape: str, write: Callable[[Path, list[Row]], int] | None
) -> None:
    from fusedata.shapes import PARTS
    from fusedata.sources import datasets_in, find_folder

    kind, row = SHAPES[shape]
    if write is None:
        pl.DataFrame([row, row]).write_parquet(tmp_path / "train.parquet")
    else:
        write(tmp_path / "train.json", [row, row])
    (found,) = datasets_in(*find_folder(tmp_path))
    rows = found.rows.select(PARTS[found.kind]).collect().rows()
    wanted = (ASKED, GOOD, BAD)[: len(PARTS[kind])]
    assert (found.kind, rows) == (kind, [wanted, wanted])
    assert not audit(tmp_path, **NOT_READ).errors


def test_turns_that_cannot_be_read_are_one_sentence(tmp_path: Path) -> None:
    pl.DataFrame({"messages": [[{"speaker": "x", "said": "y"}]]}).write_parquet(tmp_path / "train.parquet")
    with pytest.raises(CorpusError, match=r"The column 'messages' holds .*, which fusedata cannot read"):
        audit(tmp_path)


def test_what_is_no_dataset_is_one_sentence(tmp_path: Path) -> None:
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "train.parquet")
    with pytest.raises(RunError, match="is no SFT or DPO data"):
        audit(tmp_path)
    with pytest.raises(RunError, match="there is no such folder"):
        audit(tmp_path / "nowhere")


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(RunError, match=r"train\.parquet: cannot be read"):
        audit(tmp_path)


def test_fuseais_released_json_on_a_hub_is_audited(tmp_path: Path) -> None:
    row = SHAPES["FuseAI"][1]
    rows = [row | {"prompt": said("user", f"Why {n}?")} for n in range(9)] + [row | {"chosen": BAD}]
    command = [sys.executable, "-m", "fusedata", "audit", "FuseAI/FuseChat-3.0-DPO-Data", "--quick", "--json"]
    with HubServer() as server:
        server.add("FuseAI/FuseChat-3.0-DPO-Data", {"README.md": b"# none", "train.json": json.dumps(rows).encode()})
        environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (1, "")
    report = json.loads(result.stdout)
    assert [(size["shape"], size["splits"]) for size in report["datasets"]] == [("FuseAI", {"train": 10})]
    assert [(f["check"], f["count"]) for f in report["findings"] if f["severity"] == "error"] == [
        ("identical answers", 1)
    ]


def test_a_run_is_sound_and_its_funnel_adds_up(tmp_path: Path) -> None:
    report = audit(built(tmp_path))
    assert [found.check for found in report.of("error", "warning")] == ["decontamination"]
    assert of(report, "funnel").message.startswith(f"{SUMS + 1} prompts = {SUMS + 1} published + 0 dropped")
    assert of(report, "lineage", "dpo").severity == "ok"


@pytest.mark.parametrize(("split", "leaves"), [("train", "funnel"), ("test", "lineage")])
def test_a_row_that_was_lost_after_the_build_is_an_error(tmp_path: Path, split: str, leaves: str) -> None:
    run = built(tmp_path)
    file = next((run / "dataset" / "dpo" / "data").glob(f"{split}-*.parquet"))
    pl.read_parquet(file)[1:].write_parquet(file)
    assert {"funnel", "lineage"} <= {f.check for f in audit(run, **NOT_READ).errors}, leaves


def test_a_changed_reward_is_an_error_of_lineage(tmp_path: Path) -> None:
    run = built(tmp_path)
    file = next((run / "dataset" / "dpo" / "data").glob("train-*.parquet"))
    pl.read_parquet(file).with_columns(pl.col("chosen_reward") + 0.001).write_parquet(file)
    assert of(audit(run, **NOT_READ), "lineage", "dpo").severity == "error"


def test_answers_are_judged_again(tmp_path: Path) -> None:
    run = built(tmp_path)
    assert of(audit(run, recheck=True, **NOT_READ), "verdicts again", "dpo").severity == "ok"
    file = next((run / "dataset" / "dpo" / "data").glob("train-*.parquet"))
    rows = pl.read_parquet(file)
    rows.with_columns(chosen="rejected", rejected="chosen").write_parquet(file)
    found = of(audit(run, recheck=True, **NOT_READ), "verdicts again", "dpo")
    assert (found.severity, found.count) == ("error", 2 * rows.height)


def test_a_dataset_that_goes_away_while_it_is_read_is_one_sentence(tmp_path: Path) -> None:
    run = built(tmp_path)
    datasets, _ = open_datasets(run)
    shutil.rmtree(run / "dataset")
    for dataset in datasets:
        with pytest.raises(RunError, match=r"^The dataset cannot be read: No such file .*\.$"):
            scan_findings(dataset.name, dataset.kind, dataset.rows, Expected(), ())
        with pytest.raises(RunError, match=r"^The dataset cannot be read: No such file .*\.$"):
            list(recheck_findings(read_run(run), {dataset.name: (dataset.kind, dataset.rows)}))


class Losing(Run):
    """A run whose writer takes up what failed just after a reader has listed it."""

    def parts(self, stage: str, label: str, schema: pl.Schema) -> Parts:
        class Listed(Parts):
            def scan_paths(self, paths: Sequence[Path], *, first: int | None = None) -> pl.LazyFrame:
                self.forget_failed()
                return super().scan_paths(paths, first=first)

        parts = super().parts(stage, label, schema)
        return Listed(**vars(parts)) if stage == "responses" else parts


def test_a_run_that_loses_a_part_to_a_writer_is_checked_again(tmp_path: Path) -> None:
    run = built(tmp_path, engine=fails("7 + 8"))
    found = list(run_findings(Losing(run, read_run(run).state)))
    assert not list(run.glob("responses/*/failed-*.parquet"))
    assert {f.check for f in found} == {"funnel", "lineage", "stand-ins"}
    assert [f.check for f in found if f.severity == "error"] == []


def test_a_run_without_a_dataset_cannot_be_audited(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="has no dataset yet"):
        audit(built(tmp_path, stop=Stopper("sample", 9)))


def test_a_report_never_repeats_a_secret() -> None:
    text = "AKIAQYLPMN5HHHFPZAM2, https://joe:hunter2hunter@example.org, +1 415 555 2671, DE89 3704 0044 0532 0130 00"
    found = [*secrets(text), *personal(text)]
    assert {kind for kind, _ in found} == {"AWS Access Key", "Basic Auth Credentials", "telephone number", "IBAN"}
    assert all(len(beginning) == 5 and beginning.endswith("…") for _, beginning in found)


@pytest.mark.parametrize("text", ["user@example.com", "123456789 is odd", "4111 1111 1111 1112", "1 + 2 = 3", "@home"])
def test_made_up_or_ordinary_things_are_not_personal(text: str) -> None:
    assert not list(personal(text))


def exit_code(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["audit", *map(str, arguments)])
    return result.exit_code, result.output


def test_the_command_exits_with_1_on_errors_and_prints_examples(tmp_path: Path) -> None:
    sound, broken = pairs(tmp_path / "sound"), pairs(tmp_path / "broken", WRONG["identical answers"][0])
    code, printed = exit_code(sound)
    assert (code, "0 errors, 1 warnings" in printed) == (0, True)
    code, printed = exit_code(broken, "--quick")
    assert (code, f"train 20  {900:024x}" in printed) == (1, True)


def test_json_of_the_command_has_every_finding(tmp_path: Path) -> None:
    printed = json.loads(invoke("audit", pairs(tmp_path), "--json"))
    assert printed["errors"] == 0
    assert {f["check"] for f in printed["findings"]} >= {"schema", "secrets", "length bias"}
    assert all(f["rate"] > 0 for f in printed["findings"] if f["check"] in READ_ALL and f["severity"] != "skipped")
