import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from click import UsageError
from hub_server import HubServer
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from runs import CARRIED, CORPUS, MODEL, SUMS, Engine, Stopper, built, fails, invoke, nasty

import fusedata
from fusedata.compare import compare
from fusedata.errors import ConfigError, RunError
from fusedata.inspect_ import Opened, Overview, opened, overview
from fusedata.inspect_rows import filtered, head, known, query, samples
from fusedata.lineage import lineage
from fusedata.plots import bars, clean, distribution, json_text, number, one_line, summarise
from fusedata.readers import settled
from fusedata.store import read_run

CONTROLS = {"\x1b", "\x9b", "\u202e"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("run"), engine=nasty())


@pytest.fixture(scope="module")
def source(run: Path) -> Opened:
    return opened(run)


@pytest.fixture(scope="module")
def numbers(source: Opened) -> Overview:
    return overview(source)


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("unfinished"), stop=Stopper("sample", 9))


def column(run: Path, kind: str, name: str) -> list[object]:
    return pl.read_parquet(run / "dataset" / kind / "data" / "*.parquet").sort("prompt_id")[name].to_list()


def test_rows_are_counted_by_split_corpus_and_source_model(numbers: Overview) -> None:
    counts = {(c.dataset, c.corpus, c.source_model): 0 for c in numbers.counts}
    for c in numbers.counts:
        counts[c.dataset, c.corpus, c.source_model] += c.rows
    assert counts == {("sft", CARRIED, "human"): 1, ("dpo", CORPUS, MODEL): SUMS}
    assert {c.split for c in numbers.counts if c.dataset == "dpo"} == {"train", "test"}


def test_responses_are_counted_with_their_verdicts(numbers: Overview) -> None:
    model = numbers.responses[1]
    assert (model.source_model, model.responses, model.verdicts) == (MODEL, 24, {"right": 12, "wrong": 12})


def test_verdicts_by_an_older_gold_answer_count_no_response_twice(tmp_path: Path) -> None:
    path = tmp_path / "changing.jsonl"
    corpus = {"id": CORPUS, "path": str(path), "prompt": "q", "answer": "a", "license": "mit"}
    for answer in (7, 8):
        rows = [{"q": "What is 3 + 4?", "a": str(answer)}, {"q": "What is 4 + 5?", "a": "9"}]
        path.write_text("\n".join(map(json.dumps, rows)))
        found = overview(opened(built(tmp_path, corpora=[corpus])))
    (model,) = found.responses
    assert (model.responses, model.verdicts) == (4, {"right": 2, "wrong": 2})
    assert (model.reward.count, found.verdicts) == (4, model.verdicts)


def test_failed_responses_are_counted(tmp_path: Path) -> None:
    found = overview(opened(built(tmp_path, engine=fails("7 + 8"))))
    assert [(r.source_model, r.responses, r.failed) for r in found.responses] == [("human", 1, 0), (MODEL, 24, 2)]


def test_the_histogram_of_gaps_counts_every_pair(numbers: Overview, run: Path) -> None:
    gaps = numbers.distributions["reward gap of a pair"]
    pairs = zip(column(run, "dpo", "chosen_reward"), column(run, "dpo", "rejected_reward"), strict=True)
    wanted = [chosen - rejected for chosen, rejected in pairs]  # type: ignore[operator]
    assert sum(count for _, _, count in gaps.bins) == len(wanted) == SUMS
    assert (gaps.summary.min, gaps.summary.max) == pytest.approx((min(wanted), max(wanted)))


def test_the_histogram_of_rewards_counts_every_response(numbers: Overview) -> None:
    assert numbers.distributions["reward of a response"].summary.count == 25


def test_lengths_are_those_of_the_last_turn(numbers: Overview, run: Path) -> None:
    texts = [turns[-1]["content"] for turns in column(run, "dpo", "chosen")]  # type: ignore[index]
    (chosen,) = (x for x in numbers.lengths if (x.dataset, x.part, x.unit) == ("dpo", "chosen", "characters"))
    assert chosen.summary.total == sum(map(len, texts))


def test_pairs_are_counted_by_which_text_is_longer(tmp_path: Path) -> None:
    engine = Engine(
        lambda prompt, sample: "x" * 9 * sample + f" The answer is {int(prompt.split()[2]) * 2 + 1 + sample}."
    )
    found = overview(opened(built(tmp_path, engine=engine)))
    assert found.longer == {"longer": 0, "equal": 0, "shorter": SUMS}


def test_a_run_without_a_dataset_has_no_counts(unfinished: Path) -> None:
    found = overview(opened(unfinished))
    assert (found.counts, found.longer, found.lengths) == ((), {}, ())
    assert found.responses[1].responses == 12


@pytest.mark.parametrize("stage", ["collect", "verdicts", "rewards"])
def test_a_run_that_was_stopped_is_shown(tmp_path: Path, stage: str) -> None:
    assert "No dataset rows yet." in invoke("inspect", built(tmp_path, stop=Stopper(stage)))


def test_a_dataset_without_a_row_is_shown(tmp_path: Path) -> None:
    run = built(tmp_path, engine=fails("What"))
    assert not (run / "dataset" / "dpo").exists()
    assert "DPO" not in invoke("inspect", run)
    assert "dpo  0 rows" in invoke("inspect", run, "--table", "dpo")


def test_a_dataset_folder_is_opened_by_itself(run: Path) -> None:
    found = overview(opened(run / "dataset" / "dpo"))
    assert sum(c.rows for c in found.counts) == SUMS
    assert found.verdicts == {"chosen_verdict: right": SUMS, "rejected_verdict: wrong": SUMS}


def test_the_folder_of_both_datasets_is_opened(run: Path) -> None:
    assert set(opened(run / "dataset").tables) == {"sft", "dpo"}


def test_a_foreign_dataset_of_plain_texts_is_opened(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    rows = pl.DataFrame({"prompt": ["p", "q"], "chosen": ["long", "a"], "rejected": ["no", "b"]})
    rows.write_parquet(tmp_path / "data" / "train.parquet")
    found = opened(tmp_path)
    assert overview(found).longer == {"longer": 1, "equal": 1, "shorter": 0}
    assert {s.prompt for s in samples(found, "dpo", 2, 0)} == {"p", "q"}
    assert "train" in invoke("inspect", tmp_path)
    with pytest.raises(ConfigError, match="have no prompt ids"):
        known(found, "a")


def test_a_folder_that_is_nothing_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds neither run\.json nor data"):
        opened(tmp_path)


def test_parquet_of_something_else_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "data" / "train.parquet")
    with pytest.raises(RunError, match="is no SFT or DPO data"):
        opened(tmp_path)


def test_a_dataset_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(RunError, match=r"train\.parquet: cannot be read"):
        opened(tmp_path)


def test_a_part_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    run = built(tmp_path)
    part = next((run / "verdicts").glob("*/part-*.parquet"))
    part.write_bytes(part.read_bytes()[:50])
    with pytest.raises(RunError, match=f"{part.name}: this part cannot be read"):
        overview(opened(run))


def test_samples_are_the_same_for_the_same_seed(source: Opened) -> None:
    assert samples(source, "dpo", 3, 7) == samples(source, "dpo", 3, 7)


def test_another_seed_gives_other_samples(source: Opened) -> None:
    chosen = [[s.prompt_id for s in samples(source, "dpo", 3, seed)] for seed in range(4)]
    assert len({tuple(ids) for ids in chosen}) > 1


def test_a_sample_has_the_texts_of_its_row(source: Opened, run: Path) -> None:
    (sample,) = samples(source, "dpo", 1, 0)
    (row,) = pl.read_parquet(run / "dataset/dpo/data/*.parquet").filter(prompt_id=sample.prompt_id).rows(named=True)
    assert sample.prompt == row["prompt"][0]["content"]
    assert [a.text for a in sample.answers] == [row[side][-1]["content"] for side in ("chosen", "rejected")]
    assert [a.roles for a in sample.answers] == [("chosen",), ("rejected",)]


def test_more_samples_than_rows_give_every_row(source: Opened) -> None:
    assert len(samples(source, "sft", 50, 0)) == 1


def test_a_prompt_is_found_by_the_beginning_of_its_id(source: Opened, run: Path) -> None:
    (prompt_id, *_) = column(run, "dpo", "prompt_id")
    assert known(source, str(prompt_id)[:14]).prompt_id == prompt_id


def test_a_prompt_tells_its_responses_and_which_was_chosen(source: Opened, run: Path) -> None:
    found = known(source, str(column(run, "dpo", "prompt_id")[0]))
    assert [(a.sample, a.roles, a.verdict) for a in found.answers] == [
        (0, ("chosen",), "right"),
        (1, ("rejected",), "wrong"),
    ]
    assert found.rows in {(("dpo", "train"),), (("dpo", "test"),)}
    assert [a.reward for a in found.answers] == [column(run, "dpo", f"{s}_reward")[0] for s in ("chosen", "rejected")]


def test_a_prompt_tells_why_it_gave_no_pair(source: Opened, run: Path) -> None:
    found = known(source, str(column(run, "sft", "prompt_id")[0]))
    assert (found.sft_reason, found.pair_reason, found.answers[0].roles) == (
        None,
        "no incorrect response",
        ("response",),
    )


def test_a_prompt_that_gave_nothing_tells_why_and_the_errors(tmp_path: Path) -> None:
    run = built(tmp_path, engine=fails("7 + 8"))
    prompt_id = pl.read_parquet(run / "responses/*/failed-*.parquet")["prompt_id"][0]
    found = known(opened(run), prompt_id)
    assert (found.rows, found.sft_reason, found.pair_reason) == ((), "no response", "no response")
    assert [(a.text, a.error) for a in found.answers] == [
        (None, f"the prompt has {n} tokens, and the model's context is 4") for n in (14, 15)
    ]


def test_a_prompt_dropped_while_collecting_tells_why(source: Opened) -> None:
    (dropped,) = query(source, "select prompt_id from dropped")["prompt_id"]
    (row,) = known(source, dropped).dropped
    assert (row["stage"], row["reason"]) == ("collect", "no gold answer")


def test_a_prompt_of_a_dataset_folder_tells_what_its_row_tells(run: Path) -> None:
    prompt_id = str(column(run, "dpo", "prompt_id")[0])
    found = known(opened(run / "dataset" / "dpo"), prompt_id)
    assert [a.roles for a in found.answers] == [("chosen",), ("rejected",)]
    assert found.messages[0]["role"] == "user"


def test_an_unknown_prompt_is_one_sentence(source: Opened) -> None:
    with pytest.raises(ConfigError, match=r"--prompt zz: no prompt of .* has an id that begins so"):
        known(source, "zz")


def test_an_ambiguous_beginning_names_some_prompts(source: Opened) -> None:
    with pytest.raises(ConfigError, match=r"several prompts begin so \([0-9a-f]{24}, .*, …\); give more"):
        known(source, "")


def test_sql_joins_the_tables_by_their_names(source: Opened) -> None:
    sql = "select passed, count(*) as n from verdicts join rewards using (prompt_id, source_model, sample) group by passed"
    assert dict(query(source, f"{sql} order by passed").iter_rows()) == {False: 12, True: 13}


@pytest.mark.parametrize("name", ["prompts", "responses", "verdicts", "rewards", "dropped", "sft", "dpo"])
def test_every_table_can_be_queried_before_it_is_made(tmp_path: Path, name: str) -> None:
    source = opened(built(tmp_path, stop=Stopper("collect")))
    assert query(source, f"select * from {name}").height == 0


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("select nothing from prompts", 'unable to find column "nothing"'),
        ("select * from nowhere", "relation 'nowhere' was not found"),
        ("selec", "Expected: an SQL statement"),
        ("", "one \\(and only one\\) statement"),
        ("select 1; select 2", "one \\(and only one\\) statement"),
        ("select cast(text as int) from responses", "conversion from `str` to `i32` failed"),
        ("insert into prompts values (1)", "statement type is not supported"),
        ("select * from read_csv('/no/such/file')", "No such file"),
    ],
)
def test_a_wrong_query_is_one_sentence(source: Opened, sql: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^--sql: .*{message}") as caught:
        query(source, sql)
    assert "\n" not in str(caught.value)
    assert not set(str(caught.value)) & CONTROLS


def test_a_query_that_loses_a_file_to_a_writer_is_done_again(tmp_path: Path) -> None:
    run = built(tmp_path, engine=fails("7 + 8"))
    (failed,) = run.glob("responses/*/failed-*.parquet")

    def look() -> int:
        source = opened(run)
        failed.unlink(missing_ok=True)
        return query(source, "select count(*) from responses").item()

    assert settled(look) == 23


def test_a_limit_cuts_what_a_query_gives(source: Opened) -> None:
    assert query(source, "select * from responses", 3).height == 3


def test_responses_of_prompts_that_are_no_longer_wanted_are_left_aside(tmp_path: Path) -> None:
    built(tmp_path)
    source = opened(built(tmp_path, limit=5))
    left = query(source, "select count(distinct prompt_id) as n from responses").item()
    assert left == 5


def test_the_head_of_a_table_has_so_many_rows(source: Opened) -> None:
    assert head(source, "responses", 4).height == 4


def test_an_unknown_table_names_those_there_are(source: Opened) -> None:
    with pytest.raises(ConfigError, match=r"pairs: unknown table; .* has prompts, responses, verdicts"):
        head(source, "pairs", 1)


def test_a_dataset_that_is_not_there_yet_is_one_sentence(unfinished: Path) -> None:
    with pytest.raises(RunError, match="has no dataset yet"):
        head(opened(unfinished), "dpo", 1)


def test_two_views_at_once_are_refused(run: Path) -> None:
    with pytest.raises(UsageError, match="exclude one another"):
        invoke("inspect", run, "--table", "dpo", "--sql", "select 1")


VIEWS = [
    [],
    ["--samples", "20"],
    ["--table", "responses"],
    ["--table", "dpo"],
    ["--sql", "select text from responses"],
    ["--sql", "select messages, prompt_id from sft"],
    ["--prompt", "PROMPT"],
]


@pytest.mark.parametrize("extra", [[], ["--json"]])
@pytest.mark.parametrize("view", VIEWS)
def test_no_view_lets_control_characters_of_a_text_through(run: Path, view: list[str], extra: list[str]) -> None:
    prompt_id = str(column(run, "dpo", "prompt_id")[0])
    printed = invoke("inspect", run, *(word.replace("PROMPT", prompt_id) for word in view), *extra)
    assert "\\x1b[31m" in printed or "\\u001b[31m" in printed
    assert not set(printed) & CONTROLS


def test_markup_in_a_text_is_shown_as_it_is(run: Path) -> None:
    assert "[bold]markup[/bold]" in invoke("inspect", run)


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_no_line_of_samples_is_wider_than_the_terminal(tmp_path: Path, columns: int) -> None:
    wide = "世界" * 700 + " x" * 90 + "y" * 300
    run = built(tmp_path, engine=Engine(lambda p, s: f"{wide} The answer is {int(p.split()[2]) * 2 + 1 + s}."))
    printed = invoke("inspect", run, "--samples", "4", columns=columns)
    rows = printed[printed.index("\nDPO ") :].splitlines()
    assert max(map(cell_len, rows)) <= columns


def test_a_long_text_is_cut_with_a_mark_that_counts_the_rest(tmp_path: Path) -> None:
    run = built(tmp_path, engine=Engine(lambda p, s: "z" * 9_000 + f" The answer is {int(p.split()[2]) * 2 + 1 + s}."))
    printed = invoke("inspect", run, "--samples", "1", columns=100)
    (shown, *_) = re.findall(r"… ([\d,]+) more", printed)
    assert 9_000 - 12 * 50 < int(shown.replace(",", "")) < 9_000


def test_a_prompt_is_shown_in_full(tmp_path: Path) -> None:
    run = built(tmp_path, engine=Engine(lambda p, s: "z" * 9_000 + f" The answer is {int(p.split()[2]) * 2 + 1 + s}."))
    printed = invoke("inspect", run, "--prompt", str(column(run, "dpo", "prompt_id")[0]))
    assert printed.count("z") == 18_000


def test_chosen_and_rejected_stand_side_by_side(run: Path) -> None:
    assert re.search(r"^ +chosen  right, .* rejected  wrong, ", invoke("inspect", run, columns=100), re.MULTILINE)


def test_chosen_and_rejected_stand_below_each_other_where_it_is_narrow(run: Path) -> None:
    printed = invoke("inspect", run, columns=50)
    assert re.search(r"^ +chosen  right, .*\n(.*\n)+ +rejected  wrong", printed, re.MULTILINE)
    assert not re.search(r"chosen .*rejected ", printed)


def test_the_same_command_shows_the_same(run: Path) -> None:
    assert invoke("inspect", run, "--seed", "3") == invoke("inspect", run, "--seed", "3")


def test_json_of_the_default_view_has_counts_and_samples(run: Path) -> None:
    printed = json.loads(invoke("inspect", run, "--json", "--samples", "2"))
    assert sum(count["rows"] for count in printed["counts"]) == SUMS + 1
    assert [sample["dataset"] for sample in printed["samples"]] == ["dpo", "dpo", "sft"]


def test_json_of_a_table_is_a_line_a_row(run: Path) -> None:
    lines = invoke("inspect", run, "--table", "dropped", "--json").splitlines()
    assert [json.loads(line)["reason"] for line in lines] == ["no gold answer"]


def test_json_of_a_query_has_all_rows(run: Path) -> None:
    sql = "select a.sample from responses a cross join responses b"
    assert len(invoke("inspect", run, "--sql", sql, "--json").splitlines()) == 625


def test_a_long_result_is_cut_with_a_note(run: Path) -> None:
    printed = invoke("inspect", run, "--sql", "select a.sample from responses a cross join responses b")
    assert len(printed.splitlines()) == 102
    assert printed.endswith("The first 100 rows of more.\n")


def test_json_of_a_prompt_tells_the_roles(run: Path) -> None:
    prompt_id = str(column(run, "dpo", "prompt_id")[0])
    printed = json.loads(invoke("inspect", run, "--prompt", prompt_id, "--json"))
    assert [answer["roles"] for answer in printed["answers"]] == [["chosen"], ["rejected"]]


def _in_a_terminal(*words: str, columns: int) -> str:
    """What the real command writes to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "fusedata", *words]
    with subprocess.Popen(command, stdout=theirs, env=environment) as process:
        os.close(theirs)
        seen = b""
        try:
            while block := os.read(ours, 65536):
                seen += block
        except OSError:  # Linux's way to say that the other end is closed
            pass
    os.close(ours)
    assert process.returncode == 0
    return seen.decode()


def test_the_real_command_sends_a_terminal_no_control_but_its_own_colours(run: Path) -> None:
    seen = _in_a_terminal("inspect", str(run), columns=80)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", seen)
    assert "\x1b[31mred" not in seen
    assert not set(plain) & CONTROLS
    assert max(cell_len(line) for line in plain.splitlines()) <= 80


def test_a_table_too_wide_for_a_terminal_is_turned(run: Path) -> None:
    seen = _in_a_terminal("inspect", str(run), "--table", "dpo", columns=80)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", seen)
    assert re.search(r"^ *rejected_completion_tokens +7[45]", plain, re.MULTILINE)
    assert "The first 2 rows of 12" in plain


def test_the_real_command_exits_with_2_on_a_wrong_query(run: Path) -> None:
    command = [sys.executable, "-m", "fusedata", "inspect", str(run), "--sql", "select nothing from prompts"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("fusedata: --sql: unable to find column")
    assert "Traceback" not in result.stderr


@given(st.text())
def test_clean_text_has_nothing_that_a_terminal_obeys(text: str) -> None:
    assert all(c.isprintable() or c == "\n" or c.isspace() for c in clean(text))
    assert not any((ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 for c in clean(text))


def test_clean_text_keeps_what_can_be_printed() -> None:
    assert clean("Ünïcode 你好 🙂 [a]\n\tx\r\ny") == "Ünïcode 你好 🙂 [a]\n    x\ny"


@given(st.recursive(st.text() | st.integers(0, 9) | st.none(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_json_that_is_escaped_says_the_same(value: object) -> None:
    text = json_text(value)
    assert json.loads(text) == value
    assert all(c.isprintable() or c.isspace() for c in text)


@given(st.lists(st.floats() | st.none()), st.integers(1, 20))
def test_every_finite_number_is_in_one_bin(values: list[float | None], bins: int) -> None:
    found = distribution(pl.Series(values, dtype=pl.Float64), bins)
    finite = [v for v in values if v is not None and abs(v) != float("inf") and v == v]  # noqa: PLR0124 - not NaN
    assert sum(count for _, _, count in found.bins) == found.summary.count == len(finite)


@given(st.lists(st.integers(0, 10**9)), st.integers(1, 80))
def test_no_bar_is_wider_than_it_may_be_and_none_is_lost(counts: list[int], width: int) -> None:
    for count, bar in zip(counts, bars(counts, width), strict=True):
        assert len(bar) <= width
        assert bool(bar) == bool(count)


def test_no_numbers_have_an_empty_summary() -> None:
    assert summarise(pl.Series([None, float("nan")], dtype=pl.Float64)).count == 0
    assert number(None) == "-"


@pytest.mark.parametrize(
    ("value", "step", "written"),
    [(3.0, None, "3"), (12345.0, None, "12,345"), (0.12345, None, "0.1235"), (12.345, None, "12.35"),
     (1234.56, None, "1,234.6"), (0.5, 0.01, "0.500"), (120.4, 35.0, "120"), (2.0, 0.5, "2.00")],
)  # fmt: skip
def test_numbers_are_written_shortly(value: float, step: float | None, written: str) -> None:
    assert number(value, step) == written


@pytest.mark.parametrize(
    ("text", "limit", "line"), [("a\n b", None, "a b"), ("abc", 3, "abc"), ("abcd", 3, "ab…"), ("\x1b", 9, "\\x1b")]
)
def test_one_line_is_cut_with_a_mark(text: str, limit: int | None, line: str) -> None:
    assert one_line(text, limit) == line


def test_a_prompt_tells_what_each_source_offered_and_where_it_comes_from(run: Path) -> None:
    row = pl.read_parquet(run / "dataset/dpo/data/*.parquet").row(0, named=True)
    found = lineage(read_run(run), row["prompt_id"])
    assert found is not None
    (offer,) = found.offers
    assert (offer.source, offer.responses, offer.good, offer.bad) == (MODEL, 2, 1, 1)
    assert (offer.high, offer.low) == (row["chosen_reward"], row["rejected_reward"])
    assert offer.gap == pytest.approx(row["chosen_reward"] - row["rejected_reward"], abs=1e-8)
    assert (offer.sft_reason, offer.pair_reason) == (None, None)
    assert (found.corpus, found.corpus_row, found.license) == (CORPUS, row["corpus_row"], "mit")
    assert found.revisions[CORPUS].startswith("sha256:")


def test_an_offer_tells_why_its_source_gives_no_pair(tmp_path: Path) -> None:
    run = built(tmp_path, dpo={"reward_gap": [0.5, 1.0], "reward_gap_model": "fusedata/hash-reward"})
    prompt_id = pl.read_parquet(run / "prompts/*/*.parquet").filter(corpus=CORPUS)["prompt_id"][0]
    found = lineage(read_run(run), prompt_id)
    assert found is not None
    assert [offer.sft_reason for offer in found.offers] == [None]
    assert found.offers[0].pair_reason in {"gap too small", "reward prefers the wrong one"}


def test_a_dropped_prompt_has_no_lineage(run: Path, source: Opened) -> None:
    (dropped,) = query(source, "select prompt_id from dropped")["prompt_id"]
    assert lineage(read_run(run), dropped) is None
    assert "what each source offered" not in invoke("inspect", run, "--prompt", dropped)


def test_a_condition_keeps_rows_of_the_datasets_that_have_its_columns(source: Opened, run: Path) -> None:
    rewards = sorted(column(run, "dpo", "chosen_reward"))  # type: ignore[type-var]
    kept = filtered(source, f"chosen_reward > {rewards[4]}")
    assert sum(c.rows for c in overview(kept).counts if c.dataset == "dpo") == SUMS - 5
    assert set(kept.tables) == {"dpo"}
    assert '"rows":' in invoke("inspect", run, "--where", "corpus = 'test/sums'", "--json")


@pytest.mark.parametrize("condition", ["nothing > 1", "chosen_reward >", ""])
def test_a_wrong_condition_is_one_sentence(source: Opened, condition: str) -> None:
    with pytest.raises(ConfigError, match=r"^--where: .*\.$") as caught:
        filtered(source, condition)
    assert "\n" not in str(caught.value)


def test_a_condition_and_a_query_exclude_one_another(run: Path) -> None:
    with pytest.raises(UsageError, match="--where goes with"):
        invoke("inspect", run, "--where", "true", "--sql", "select 1")


def test_two_releases_are_compared_row_by_row(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "later")
    file = next((tmp_path / "later/dataset/dpo/data").glob("train-*.parquet"))
    rows = pl.read_parquet(file)
    moved = rows[0]["chosen_reward"] + 1
    other = rows[1].with_columns(prompt_id=pl.lit("f" * 24))
    pl.concat([rows[0].with_columns(chosen_reward=moved), other, rows[2:]]).write_parquet(file)
    found = {one.dataset: one for one in compare(opened(run), opened(tmp_path / "later")).datasets}
    dpo = found["dpo"]
    assert (dpo.before, dpo.after, dpo.added, dpo.removed, dpo.any_change) == (SUMS, SUMS, 1, 1, 1)
    assert dpo.changed == {"chosen_reward": 1}
    assert dpo.examples == {
        "added": ("f" * 24,),
        "removed": (rows["prompt_id"][1],),
        "changed": (rows["prompt_id"][0],),
    }
    before, after = dpo.numbers["reward gap"]
    assert after.summary.total == pytest.approx((before.summary.total or 0) + 1, abs=0.2)
    assert (found["sft"].added, found["sft"].removed, found["sft"].any_change) == (0, 0, 0)
    printed = invoke("inspect", run, "--compare", tmp_path / "later")
    assert "added 1, removed 1, changed 1, the same 10" in printed


def test_a_changed_text_is_a_changed_row(tmp_path: Path) -> None:
    for name, answer in (("a", "yes"), ("b", "no")):
        (tmp_path / name).mkdir()
        rows = [{"prompt": f"p{n}", "chosen": answer if n == 1 else "same", "rejected": "r"} for n in range(3)]
        (tmp_path / name / "train.json").write_text(json.dumps(rows))
    (found,) = compare(opened(tmp_path / "a"), opened(tmp_path / "b")).datasets
    assert (found.any_change, found.added, dict(found.changed)) == (1, 0, {"chosen": 1})


def test_a_release_without_rows_is_compared_with_one_that_has_some(run: Path, unfinished: Path) -> None:
    found = compare(opened(unfinished), opened(run)).datasets
    assert [(one.dataset, one.before, one.after, one.added) for one in found] == [
        ("sft", 0, 1, 1),
        ("dpo", 0, SUMS, SUMS),
    ]


def test_anyones_json_is_opened_as_messages(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}]
    (tmp_path / "train.json").write_text(json.dumps([{"dataset": "d", "source_model": "m", "conversations": turns}]))
    found = fusedata.open(tmp_path)
    row = found.sft.collect().row(0, named=True)
    assert row["messages"] == [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]
    assert (row["corpus"], row["source_model"], row["split"]) == ("d", "m", "train")
    assert [(c.corpus, c.source_model, c.rows) for c in overview(found).counts] == [("d", "m", 1)]
    with pytest.raises(AttributeError):
        _ = found.rewards


def test_a_runs_tables_are_lazy_frames(run: Path) -> None:
    found = fusedata.open(str(run))
    joined = found.responses.join(found.rewards, on=["prompt_id", "source_model", "sample"])
    assert joined.select(pl.len()).collect().item() == 25
    assert found.dpo.select("chosen_verdict").unique().collect().item() == "right"


def test_a_hubs_dataset_is_looked_into(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{n}", "chosen": "longer", "rejected": "no"} for n in range(4)]
    with HubServer() as server:
        server.add("org/pairs", {"data/train-00000-of-00001.jsonl": "\n".join(map(json.dumps, rows)).encode()})
        environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
        command = [sys.executable, "-m", "fusedata", "inspect", "org/pairs", "--json"]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["longer"] == {"longer": 4, "equal": 0, "shorter": 0}
