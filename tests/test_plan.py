"""What is left to do: which responses, in which windows, whatever was done before."""

import tempfile
from pathlib import Path

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from fusedata.plan import wanted_keys, windows
from fusedata.schema import KEY, RESPONSES, REWARDS
from fusedata.store import Parts

PROMPTS = pl.DataFrame({"prompt_id": list("abc"), "answer": list("xyz")})
ALL = [(prompt, "m", sample) for prompt in "abcd" for sample in range(3)]


def responses(folder: Path, keys: list[tuple[str, str, int]], silent: set[tuple[str, str, int]] = frozenset()) -> Parts:
    """Responses under `keys`, a part each; those in `silent` have no text."""
    parts = Parts(folder / "responses", RESPONSES)
    for prompt, model, sample in keys:
        text = None if (prompt, model, sample) in silent else f"{prompt}{sample}"
        row = {"prompt_id": prompt, "source_model": model, "sample": sample, "text": text}
        frame = pl.DataFrame([{**dict.fromkeys(RESPONSES.names()), **row}], schema=RESPONSES)
        parts.write(f"{prompt}{sample}", frame)
    return parts


def done(folder: Path, keys: list[tuple[str, str, int]]) -> Parts:
    parts = Parts(folder / "rewards", REWARDS)
    if keys:
        empty = dict.fromkeys(REWARDS.names())
        frame = pl.DataFrame([{**empty, **dict(zip(KEY, key, strict=True))} for key in keys], schema=REWARDS)
        parts.write("done", frame)
    return parts


def test_a_response_is_wanted_where_it_has_a_text_and_its_prompt_is_there(tmp_path):
    found = wanted_keys(PROMPTS, responses(tmp_path, ALL, {("a", "m", 1)}))
    assert found.columns == list(KEY)
    assert found.rows() == [key for key in ALL if key[0] != "d" and key != ("a", "m", 1)]


def test_failed_responses_are_not_wanted(tmp_path):
    parts = responses(tmp_path, ALL[:1])
    parts.write("x", parts.scan().with_columns(sample=pl.lit(7)).collect(), failed=True)
    assert wanted_keys(PROMPTS, parts).rows() == ALL[:1]


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


@settings(max_examples=30, deadline=None)
@given(finished=st.sets(st.sampled_from(ALL)), order=st.permutations(ALL), size=st.integers(1, 10))
def test_windows_are_cut_alike_whatever_is_done_and_in_whatever_order_it_came(finished, order, size):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts, answered = responses(folder, order), [key for key in ALL if key[0] != "d"]
        cut = [answered[start : start + size] for start in range(0, len(answered), size)]
        found = list(windows(PROMPTS, parts, done(folder, sorted(finished)), size))
        assert [w.select(KEY).rows() for w in found] == [window for window in cut if set(window) - finished]
        todo = [key for window in found for key in window.filter("todo").select(KEY).rows()]
        assert todo == [key for key in answered if key not in finished]
