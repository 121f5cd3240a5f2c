"""What is left to do: which responses, in which windows, whatever was done before."""

import tempfile
from pathlib import Path

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from fusedata.plan import unfinished, wanted, windows
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
    assert unfinished(PROMPTS, responses(tmp_path, ALL), finished).height == 9


def test_a_verdict_by_another_gold_answer_leaves_the_response_to_do(tmp_path):
    parts = responses(tmp_path, ALL[:2])
    row = dict.fromkeys(VERDICTS.names()) | {"prompt_id": "a", "source_model": "m"}
    rows = [{**row, "sample": n, "text_id": f"a{n}", "answer": gold} for n, gold in ((0, "x"), (1, "was y"))]
    verdicts = Parts(tmp_path / "verdicts", VERDICTS)
    verdicts.write("all", pl.DataFrame(rows, schema=VERDICTS))
    assert unfinished(PROMPTS, parts, verdicts).select(KEY).rows() == [("a", "m", 1)]


@settings(max_examples=30, deadline=None)
@given(finished=st.sets(st.sampled_from(ALL)), order=st.permutations(ALL), parts_held=st.integers(1, 10))
def test_windows_are_cut_alike_whatever_is_done_and_in_whatever_order_it_came(finished, order, parts_held):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = responses(folder, order)
        size = max(path.stat().st_size for path in parts.paths()) * parts_held
        cut = [w.select(KEY).rows() for w in windows(PROMPTS, parts, done(folder, []), size)]
        found = list(windows(PROMPTS, parts, done(folder, sorted(finished)), size))
        assert [key for window in cut for key in window] == [key for key in ALL if key[0] != "d"]
        assert [w.select(KEY).rows() for w in found] == [window for window in cut if set(window) - finished]
        todo = [key for window in found for key in window.filter("todo").select(KEY).rows()]
        assert todo == [key for key in ALL if key[0] != "d" and key not in finished]
