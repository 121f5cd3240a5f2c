"""The report's numbers are those of the run, and nothing that a model wrote is markup."""

import json
import re
from html import unescape
from pathlib import Path

import polars as pl
import pytest
from runs import CORPUS, MODEL, SUMS, Engine, Stopper, built, invoke
from test_mixture import mixture

from fusedata.errors import RunError
from fusedata.inspect_ import opened
from fusedata.report.figures import BINS, bins, figures
from fusedata.report.page import write_report
from fusedata.report.pairs import shown
from fusedata.store import read_run
from fusedata.svg import histogram

HOSTILE = "</script><script>window.broken=1</script><img src=x onerror=window.broken=2>\u2028 & <!-- The answer is"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two corpora whose model writes markup around its answers."""

    def say(prompt: str, sample: int) -> str:
        return f"{HOSTILE} {int(prompt.split()[2]) * 2 + 1 + sample}."

    return built(tmp_path_factory.mktemp("report"), engine=Engine(say))


def page(run: Path, pairs: int | None = None) -> str:
    path = run.parent / f"report-{pairs}.html"
    assert write_report(run, path, pairs) == path.stat().st_size
    return path.read_text()


def data(html: str) -> dict:
    return json.loads(re.search('<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)[1])


def test_the_data_block_holds_no_character_that_could_end_it(run: Path) -> None:
    block = page(run).split('id="data">')[1].split("</script>")[0]
    assert not set("<>&\u2028\u2029") & set(block)
    assert json.loads(block)["total"] > 0


def test_a_hostile_text_arrives_as_it_was_written(run: Path) -> None:
    texts = data(page(run))["texts"]
    assert any(HOSTILE.partition("\u2028")[0] in turn["content"] for t in texts.values() for turn in t["chosen"])


def test_the_page_has_two_scripts_and_names_no_address(run: Path) -> None:
    html = page(run)
    assert html.count("<script") == 2
    told = re.sub('<script type="application/json".*?</script>', "", html, flags=re.DOTALL)
    assert set(re.findall(r"https?://[^\"' )]+", told)) <= {
        "http://www.w3.org/1998/Math/MathML",
        "http://www.w3.org/2000/svg",
    }
    assert "default-src 'none'" in unescape(html)


def test_a_hostile_name_is_escaped(tmp_path: Path) -> None:
    run = built(tmp_path, description="<img src=x onerror=alert(1)>")
    html = page(run)
    assert "<img" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html


def test_every_pair_has_its_numbers_and_a_sample_its_texts(run: Path) -> None:
    rows = pl.read_parquet(run / "dataset" / "dpo" / "data" / "*.parquet")
    found = data(page(run, 3))
    assert found["total"] == rows.height == len(found["columns"]["id"])
    assert set(found["columns"]["id"]) == set(rows["prompt_id"])
    assert len(found["texts"]) == 3
    by_id = {row["prompt_id"]: row for row in rows.iter_rows(named=True)}
    for place, text in found["texts"].items():
        row = by_id[found["columns"]["id"][int(place)]]
        assert text["chosen"] == row["chosen"]
        assert found["columns"]["chosen_reward"][int(place)] == pytest.approx(row["chosen_reward"], abs=1e-5)


def test_the_sample_is_the_same_each_time_and_grows_with_its_number(run: Path) -> None:
    folder = run / "dataset" / "dpo"
    assert set(shown(folder, 2).texts) < set(shown(folder, 4).texts)
    assert page(run, 2) == page(run, 2)
    assert set(shown(folder, 4).texts) != {0, 1, 2, 3}
    assert set(shown(folder, 4).texts) != set(shown(folder, 4, seed=1).texts)
    assert not shown(folder, 0).texts


def test_models_are_counted_by_their_responses_and_verdicts(run: Path) -> None:
    (model,) = (m for m in figures(read_run(run)).models if m.name == MODEL)
    source = opened(run)
    responses = source.collect(source.tables["responses"].filter(source_model=MODEL))
    verdicts = source.collect(source.tables["verdicts"].filter(source_model=MODEL))
    assert model.responses == responses.height
    assert (model.judged, model.passed) == (verdicts["passed"].count(), verdicts["passed"].sum())
    assert sum(n for *_, n in (*model.rewards, *model.wrong_rewards)) == model.scored


def test_answers_that_two_corpora_carry_are_counted_once(tmp_path: Path) -> None:
    rows = [{"q": f"What is {i} + 1?", "a": str(i + 1), "s": f"The answer is {i + 1}."} for i in range(SUMS)]
    said = {"prompt": "q", "answer": "a", "license": "mit", "sampled": False}
    said |= {"responses": {"column": "s", "source_model": "human"}}
    first, second = ({"id": f"test/{name}", "path": str(tmp_path / f"{name}.jsonl"), **said} for name in "ab")
    for corpus in (first, second):
        Path(corpus["path"]).write_text("\n".join(map(json.dumps, rows)))
    only: dict[str, object] = {"source_models": [], "dpo": None}
    built(tmp_path, corpora=[second], **only)
    (model,) = figures(read_run(built(tmp_path, corpora=[first, second], **only))).models
    assert (model.responses, model.passed, model.scored) == (SUMS, SUMS, SUMS)


def test_agreement_is_the_share_of_contrasts_that_the_reward_orders_as_the_check_does(run: Path) -> None:
    (model,) = (m for m in figures(read_run(run)).models if m.name == MODEL)
    source = opened(run)
    on = ["prompt_id", "source_model", "sample"]
    rows = source.collect(source.tables["rewards"].join(source.tables["verdicts"], on=on).filter(source_model=MODEL))
    ordered = contrasts = 0.0
    for right in rows.filter("passed").iter_rows(named=True):
        for wrong in rows.filter(~pl.col("passed"), prompt_id=right["prompt_id"]).iter_rows(named=True):
            contrasts += 1
            ordered += (right["reward"] > wrong["reward"]) + (right["reward"] == wrong["reward"]) / 2
    assert contrasts == model.contrasts > 0
    assert model.agreement == pytest.approx(ordered / contrasts)


def test_the_win_rates_of_two_models_add_up_to_one(tmp_path: Path) -> None:
    models = [{"id": "test/a", "samples": 2, "max_tokens": 8}, {"id": "test/b", "samples": 1, "max_tokens": 8}]
    words = Engine(lambda prompt, sample: None)
    run = built(tmp_path, engine=words, source_models=models)
    wins = {(w.model, w.against): w for w in figures(read_run(run)).wins}
    one, other = wins["test/a", "test/b"], wins["test/b", "test/a"]
    assert one.share + other.share == pytest.approx(1)
    assert one.prompts == other.prompts > 0


def test_the_funnel_adds_up_to_the_prompts(run: Path) -> None:
    found = figures(read_run(run))
    counts = {what: n for corpus, what, n in found.funnel if corpus == CORPUS}
    (row,) = (row for row in found.composition if row["corpus"] == CORPUS)
    assert counts["rows read"] >= row["prompts"] > 0


def test_a_run_without_a_dataset_says_so(tmp_path: Path) -> None:
    run = built(tmp_path, stop=Stopper("select"))
    with pytest.raises(RunError, match="has no dataset yet"):
        write_report(run, tmp_path / "report.html")


def test_a_dataset_folder_and_a_mixture_are_refused_with_what_to_do(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"dpo: is no run, and a report is drawn from .* `fusedata audit .*dpo`"):
        write_report(run / "dataset" / "dpo", tmp_path / "report.html")
    mixture(tmp_path).run(tmp_path / "both")
    with pytest.raises(RunError, match=r"each of its recipes has a report .*both/first --html`, .*both/second --html`"):
        write_report(tmp_path / "both", tmp_path / "report.html")
    assert write_report(tmp_path / "both" / "second", tmp_path / "report.html")


def test_the_command_writes_the_page_into_the_run(run: Path) -> None:
    assert "report.html" in invoke("report", run, "--html", "--pairs", 1)
    assert (run / "report.html").read_text().startswith("<!doctype html>")


# Histograms.


def test_bins_hold_every_finite_number_and_the_outliers_too() -> None:
    values = pl.Series([float("nan"), None, float("inf"), *(n / 1000 for n in range(3000)), 1e6])
    found = bins(values)
    assert len(found) == BINS
    assert sum(count for *_, count in found) == 3001
    assert bins(pl.Series([2.0, 2.0])) == ((2.0, 2.0, 2),)
    assert bins(pl.Series([], dtype=pl.Float64)) == ()


def test_a_bar_of_one_row_is_seen_and_none_is_not() -> None:
    drawn = histogram("x", [(0.0, 1.0, 100_000), (1.0, 2.0, 1), (2.0, 3.0, 0)])
    heights = [float(h) for h in re.findall(r'class="bar" [^>]* height="([\d.]+)"', drawn)]
    assert heights[1] >= 1
    assert heights[2] == 0


def test_what_a_histogram_is_called_is_text() -> None:
    assert "<b>" not in histogram('<b>"x', [(0.0, 1.0, 1)], unit="<b>", standalone=True)
