"""What is left to do: which responses, in which windows, whatever was done before."""

import tempfile
from pathlib import Path

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from fusedata.plan import left, unfinished, wanted, windows
from fusedata.sample.plan import planned
from fusedata.schema import KEY, RESPONSES, REWARDS, VERDICTS
from fusedata.store import Parts

PROMPTS = pl.DataFrame({"prompt_id": list("abc"), "answer": list("xyz")})
ALL = [(prompt, "m", sample) for prompt in "abcd" for sample in range(3)]


def responses(folder: Path, keys: list[tuple[str, str, int]], silent: set[tuple[str, str, int]] = frozenset()) -> Parts:
    """Responses under `keys`, a part each; those in `silent` have no text."""
    parts = Parts(folder / "responses", RESPONSES)
    for prompt, model, sample in keys:
        text = None if (prompt, model, sample) in silent else f"{prompt}{sample}"
        row = {"prompt_id": prompt, "source_model": model, "sample": sample, "text": text, "text_id": text}
        frame = pl.DataFrame([{**dict.fromkeys(RESPONSES.names()), **row}], schema=RESPONSES)
        parts.write(f"{prompt}{sample}", frame)
    return parts


def done(folder: Path, keys: list[tuple[str, str, int]]) -> Parts:
    parts = Parts(folder / "rewards", REWARDS)
    if keys:
        empty = dict.fromkeys(REWARDS.names())
        rows = [{**empty, **dict(zip(KEY, key, strict=True)), "text_id": f"{key[0]}{key[2]}"} for key in keys]
        frame = pl.DataFrame(rows, schema=REWARDS)
        parts.write("done", frame)
    return parts


def test_a_response_is_wanted_where_it_has_a_text_and_its_prompt_is_there(tmp_path):
    found = wanted(PROMPTS, responses(tmp_path, ALL, {("a", "m", 1)}))
    assert found.columns == [*KEY, "text_id", "answer"]
    assert found.select(KEY).rows() == [key for key in ALL if key[0] != "d" and key != ("a", "m", 1)]


def test_failed_responses_are_not_wanted(tmp_path):
    parts = responses(tmp_path, ALL[:1])
    parts.write("x", parts.scan().with_columns(sample=pl.lit(7)).collect(), failed=True)
    assert wanted(PROMPTS, parts).select(KEY).rows() == ALL[:1]


def test_a_window_has_texts_prompts_and_what_is_to_do(tmp_path):
    (window,) = windows(PROMPTS, responses(tmp_path, ALL), done(tmp_path, ALL[1:3]))
    assert set(window.columns) == {*RESPONSES.names(), "answer", "todo"}
    assert window.select("text", "answer", "todo").rows()[:4] == [
        ("a0", "x", True),
        ("a1", "x", False),
        ("a2", "x", False),
        ("b0", "y", True),
    ]


def test_nothing_to_do_gives_no_window(tmp_path):
    assert list(windows(PROMPTS, responses(tmp_path, ALL), done(tmp_path, ALL))) == []
    assert list(windows(PROMPTS, Parts(tmp_path / "none", RESPONSES), done(tmp_path, []))) == []


def test_responses_of_prompts_that_a_model_is_not_asked_do_not_count(tmp_path):
    prompts = PROMPTS.with_columns(sampled=pl.Series([True, False, True]), corpus=pl.Series(["one", "one", "two"]))
    parts = responses(tmp_path, ALL)
    asked = Parts(parts.folder, RESPONSES, samples=2)
    assert wanted(prompts, asked)["prompt_id"].unique(maintain_order=True).to_list() == ["a", "c"]
    carried = Parts(parts.folder, RESPONSES, corpus="two")
    assert wanted(prompts, carried)["prompt_id"].unique().to_list() == ["c"]


def test_a_reward_of_another_text_leaves_the_response_to_do(tmp_path):
    finished = done(tmp_path, ALL)
    finished.write("done", finished.scan().with_columns(text_id=pl.lit("other")).collect())
    assert unfinished(PROMPTS, responses(tmp_path, ALL), finished) == 9


def test_a_verdict_by_another_gold_answer_leaves_the_response_to_do(tmp_path):
    parts = responses(tmp_path, ALL[:2])
    row = dict.fromkeys(VERDICTS.names()) | {"prompt_id": "a", "source_model": "m"}
    rows = [{**row, "sample": n, "text_id": f"a{n}", "answer": gold} for n, gold in ((0, "x"), (1, "was y"))]
    verdicts = Parts(tmp_path / "verdicts", VERDICTS)
    verdicts.write("all", pl.DataFrame(rows, schema=VERDICTS))
    ((_, rows),) = left(PROMPTS, parts, verdicts)
    assert rows.select(KEY).rows() == [("a", "m", 1)]


def test_counting_what_is_left_reads_prompts_that_lie_in_a_file_as_those_held_in_memory(tmp_path):
    PROMPTS.write_parquet(tmp_path / "prompts.parquet")
    scanned = pl.scan_parquet(tmp_path / "prompts.parquet")
    assert unfinished(scanned, responses(tmp_path, ALL), done(tmp_path, ALL[:2])) == 7


@settings(max_examples=40, deadline=None)
@given(
    chars=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    sampled=st.lists(st.booleans(), min_size=4, max_size=4),
    finished=st.sets(st.sampled_from(ALL)),
    batch_size=st.integers(1, 5),
)
def test_samples_are_planned_in_order_of_length_in_batches_of_all_that_are_wanted(chars, sampled, finished, batch_size):
    prompts = pl.DataFrame({"prompt_id": list("dbca"), "sampled": sampled, "chars": chars})
    with tempfile.TemporaryDirectory() as name:
        parts = responses(Path(name), sorted(finished))
        plan = planned(prompts, "m", 3, batch_size, parts)
    order = sorted((row for row in range(4) if sampled[row]), key=lambda row: (chars[row], "dbca"[row]))
    every = [(row, sample) for row in order for sample in range(3)]
    wanted = [
        (row, sample, place // batch_size)
        for place, (row, sample) in enumerate(every)
        if ("dbca"[row], "m", sample) not in finished
    ]
    assert plan.missing == len(wanted)
    assert plan.batches.tolist() == sorted({batch for *_, batch in wanted})
    if wanted:
        assert list(zip(*(column.tolist() for column in plan.rows(plan.batches)), strict=True)) == wanted


def test_a_plan_takes_no_account_of_other_models_or_of_samples_that_are_not_wanted(tmp_path):
    prompts = PROMPTS.with_columns(sampled=pl.lit(value=True), chars=1)
    parts = responses(tmp_path, [("a", "m", 1), ("b", "other", 0), ("c", "m", 2), ("gone", "m", 0)])
    plan = planned(prompts, "m", 2, 4, parts)
    rows, samples, _ = plan.rows(plan.batches)
    assert list(zip(rows.tolist(), samples.tolist(), strict=True)) == [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1)]


@settings(max_examples=30, deadline=None)
@given(st.sets(st.sampled_from(ALL)), st.permutations(ALL), st.integers(1, 10), st.integers(1, 10))
def test_windows_are_cut_alike_whatever_is_done_in_whatever_order_and_however_many_keys_are_held(
    finished, order, parts_held, keys
):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = responses(folder, order)
        size = max(path.stat().st_size for path in parts.paths()) * parts_held
        cut = [w.select(KEY).rows() for w in windows(PROMPTS, parts, done(folder, []), size)]
        found = list(windows(PROMPTS, parts, done(folder, sorted(finished)), size, keys))
        assert [key for window in cut for key in window] == [key for key in ALL if key[0] != "d"]
        assert [w.select(KEY).rows() for w in found] == [window for window in cut if set(window) - finished]
        todo = [key for window in found for key in window.filter("todo").select(KEY).rows()]
        assert todo == [key for key in ALL if key[0] != "d" and key not in finished]
