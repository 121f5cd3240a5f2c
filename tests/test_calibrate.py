"""Proposing a reward window: the gaps, the matching, where the scores come from, what is printed."""

import json
import math
import random
import re
from pathlib import Path

import click
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import built, invoke

from fusedata.calibrate import ARMORM_WINDOW, BARS, PUBLISHED, PUBLISHED_QUANTILES, Reference, calibrate, gaps
from fusedata.errors import ConfigError, RunError
from fusedata.recipe import ARMORM, Dpo, load_recipe
from fusedata.reward.protocol import Scored
from fusedata.scored import read_scores
from fusedata.select import select
from fusedata.testing import HashReward

SCHEMA = {
    "prompt_id": pl.String,
    "source_model": pl.String,
    "sample": pl.Int32,
    "text_id": pl.String,
    "passed": pl.Boolean,
    "reward": pl.Float64,
}


def candidates(*groups: tuple[float, ...], model: str = "m") -> pl.DataFrame:
    """One prompt a group, one response a reward."""
    rows = [
        (f"p{p}", model, s, f"{p}/{s}", None, reward)
        for p, group in enumerate(groups)
        for s, reward in enumerate(group)
    ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def spread(count: int, seed: int = 0, scale: float = 1.0) -> pl.DataFrame:
    """Responses of `count` prompts, five each; the gaps vary."""
    draw = random.Random(seed)
    return candidates(*(tuple(scale * draw.gauss(0, 0.02) for _ in range(5)) for _ in range(count)))


dyadic = st.integers(-512, 512).map(lambda k: k / 64)
groups = st.lists(st.lists(dyadic, min_size=2, max_size=5).filter(lambda g: len(set(g)) > 1), min_size=1, max_size=30)


@settings(deadline=None)
@given(groups, groups, st.integers(-3, 6), dyadic, st.booleans())
def test_rescaling_the_scores_scales_the_window_exactly(own, theirs, power, shift, referred):
    reference = Reference("theirs", rows=candidates(*theirs)) if referred and len(theirs) >= len(own) else PUBLISHED
    scale, before = 2.0**power, candidates(*own)
    after = before.with_columns(pl.col("reward") * scale + shift)
    assert exact(after, reference) == tuple(scale * end for end in exact(before, reference))


def exact(rows: pl.DataFrame, reference: Reference) -> tuple[float, float]:
    """The window before it is rounded."""
    from fusedata.calibrate import _window

    measured = gaps(rows, checked=False).with_columns(reference=pl.lit(None, pl.Float64))
    if reference.rows is not None:
        theirs = gaps(reference.rows, checked=False).rename({"gap": "reference"})
        measured = measured.drop("reference").join(theirs, on=["prompt_id", "source_model"], maintain_order="left")
    return _window(measured, reference)


@settings(deadline=None, max_examples=25)
@given(groups, st.floats(1e-4, 10))
def test_armorm_beside_itself_keeps_the_published_window(theirs, scale):
    rows = candidates(*(tuple(scale * reward for reward in group) for group in theirs))
    assert calibrate(rows, ARMORM, Reference("itself", rows=rows), checked=False).window == ARMORM_WINDOW


response = st.tuples(
    st.sampled_from("ab"),
    st.sampled_from(["x", "y", "z", None]),
    st.sampled_from([True, False, None]),
    st.sampled_from([None, float("nan"), 0.0, 0.01, 0.02, 0.11, 0.3]),
)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.lists(response, max_size=6), min_size=1, max_size=4),
    st.booleans(),
    st.booleans(),
    st.sampled_from([(0.01, 0.1), (0.01, 0.3), (0.05, 0.29), (0.001, 1.0)]),
)
def test_the_gaps_are_those_that_selection_compares_with_the_window(prompts, checked, same, window):
    rows = [
        (f"p{p}", model, s, text, passed, reward)
        for p, responses in enumerate(prompts)
        for s, (model, text, passed, reward) in enumerate(responses)
    ]
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    rule = Dpo(same_source_model=same, reward_gap=window, reward_gap_model="m")
    selected = select(frame, checked=checked, rewarded=True, dpo=rule).pairs["prompt_id"].to_list()
    found = gaps(frame, checked=checked, same_source_model=same).filter(pl.col("gap").is_between(*window))
    assert found["prompt_id"].unique().sort().to_list() == selected


def test_the_window_lies_at_the_quantiles_of_its_own_gaps():
    rows = candidates(*((0.0, float(n)) for n in range(1, 102)))
    found = calibrate(rows, "m", Reference("given", (0.25, 0.75)), checked=False)
    assert found.window == (26.0, 76.0)
    assert (found.gaps, found.pairs, found.prompts, found.quantiles) == (101, 51, 101, (0.25, 0.75))


def test_the_window_follows_the_reference_where_the_ranks_are_the_same_and_the_scale_is_not():
    reference = candidates(*((0.0, 0.002 * n) for n in range(1, 101)))
    rows = candidates(*((0.0, (0.002 * n) ** 2) for n in range(1, 101)))
    found = calibrate(rows, "m", Reference("theirs", rows=reference), checked=False)
    assert found.window == pytest.approx((0.0001, 0.01))
    assert found.quantiles == pytest.approx((4 / 99, 49 / 99))
    assert found.pairs == 46


def test_equal_gaps_of_the_reference_are_matched_with_the_middle_of_the_gaps_beside_them():
    reference = candidates(*((0.0, gap) for gap in (0.001, 0.01, 0.01, 0.01, 0.1, 0.2)))
    rows = candidates(*((0.0, float(n)) for n in range(1, 7)))
    assert calibrate(rows, "m", Reference("theirs", rows=reference), checked=False).window == (3.0, 5.0)


def test_only_pairs_that_both_score_are_matched_and_all_of_its_own_are_counted():
    rows, other = spread(40), spread(30, seed=1, scale=50).with_columns(source_model=pl.lit("unknown to the reference"))
    reference = Reference("theirs", rows=rows)
    alone, both = (calibrate(r, "m", reference, checked=False) for r in (rows, pl.concat([rows, other])))
    assert (both.window, both.gaps) == (alone.window, 40)
    assert both.pairs >= alone.pairs


def test_gaps_at_or_below_zero_are_counted_and_left_out():
    rows = candidates((0.5, 0.1), (0.1, 0.5), (0.3, 0.3)).with_columns(passed=pl.col("sample") == 0)
    found = calibrate(rows, "m", checked=True)
    assert (found.gaps, found.inverted, found.window) == (1, 2, (0.4, 0.4))


def test_responses_without_a_score_are_counted_and_blank_ones_are_not():
    rows = candidates((0.1, 0.2, float("nan"), 0.3)).with_columns(
        reward=pl.when(pl.col("sample") == 3).then(None).otherwise("reward")
    )
    blank = candidates((0.1,)).with_columns(text_id=pl.lit(None, pl.String), reward=pl.lit(None, pl.Float64))
    found = calibrate(pl.concat([rows, blank]), "m", checked=False)
    assert (found.unscored, found.gaps) == (2, 1)


def test_an_end_beyond_all_gaps_of_the_reference_is_set_in_proportion_and_said_so():
    reference = Reference("theirs", rows=candidates((0.0, 0.02), (0.0, 0.05)))
    found = calibrate(candidates((0.0, 4.0), (0.0, 10.0)), "m", reference, checked=False)
    assert (found.window, found.quantiles) == ((2.0, 20.0), (0.0, 1.0))
    assert [note.split()[0] for note in found.notes if "proportion" in note] == ["0.01", "0.1"]


def test_few_gaps_have_an_interval_that_holds_the_window_and_many_have_none():
    few, many = (calibrate(spread(count), "m", checked=False) for count in (60, 200))
    assert few.interval
    assert many.interval is None
    for end, (low, high) in zip(few.window, few.interval, strict=True):
        assert low <= end <= high
        assert low < high
    assert few == calibrate(spread(60), "m", checked=False)
    assert any("60 gaps" in note for note in few.notes)
    assert not any("Only" in note for note in many.notes)


def test_the_interval_covers_the_true_ends_about_as_often_as_it_says():
    truth = calibrate(spread(4000, seed=99), "m", checked=False).window
    runs = [calibrate(spread(60, seed=seed), "m", checked=False).interval for seed in range(10)]
    assert sum(low <= truth[0] <= high for (low, high), _ in runs) >= 8
    assert sum(low <= truth[1] <= high for _, (low, high) in runs) >= 7


def test_prompts_are_resampled_whole_because_their_models_answer_alike():
    alike = pl.concat([spread(40).with_columns(source_model=pl.lit(f"m{n}")) for n in range(4)])
    one, four = (calibrate(rows, "m", checked=False).interval for rows in (spread(40), alike))
    assert np.array(one) == pytest.approx(np.array(four), rel=0.05)


def test_the_published_guess_says_that_it_is_one_and_given_quantiles_do_not():
    guess, given_ = (calibrate(spread(300), "m", r, checked=False) for r in (PUBLISHED, Reference("given", (0.2, 0.9))))
    assert guess.quantiles == PUBLISHED_QUANTILES
    assert ["weak guess" in note for note in guess.notes] == [True]
    assert given_.notes == ()


def test_bars_hold_every_gap_and_one_of_their_edges_is_the_upper_end():
    found = calibrate(spread(300), "m", Reference("given", (0.1, 0.5)), checked=False)
    assert sum(count for *_, count in found.bars) == found.gaps == 300
    assert len(found.bars) == BARS + 1
    assert found.bars[-1][1] is None
    assert found.bars[-1][2] > 0
    assert any(end == pytest.approx(found.window[1]) for _, end, _ in found.bars[:-1])


def test_without_a_gap_nothing_is_proposed():
    with pytest.raises(ConfigError, match="two responses that score differently"):
        calibrate(candidates((0.1,), (0.2, 0.2)), "m", checked=False)
    with pytest.raises(ConfigError, match="a right response that scores above a wrong one"):
        calibrate(candidates((0.1, 0.2)), "m", checked=True)


def test_a_reference_to_other_responses_is_refused():
    with pytest.raises(ConfigError, match=r"of others: has no gap above 0 on the pairs of m: both must score the same"):
        calibrate(spread(3), "m", Reference("of others", rows=candidates((0.0, 1.0), model="x")), checked=False)


def test_the_recipe_lines_are_a_recipe(tmp_path):
    name = 'org/a "quoted" \\ model'
    found = calibrate(spread(300, scale=1e-6), name, checked=False)
    head = '[[corpora]]\nid = "c"\nprompt = "q"\n[[source_models]]\nid = "m"\n'
    (tmp_path / "r.toml").write_text(f"{head}[reward]\nmodel = {json.dumps(name)}\n{found.toml()}\n")
    dpo = load_recipe(tmp_path / "r.toml").dpo
    assert dpo == Dpo(reward_gap=found.window, reward_gap_model=name)
    assert 0 < found.window[0] < found.window[1] < 1e-6


def test_the_published_quantiles_are_those_of_the_five_published_gaps(shared):
    """Only the first five rows of this file carry real scores; the others are made up."""
    file = shared / "corpora/hub_layout/Magpie-Align__Magpie-Pro-DPO-100K-v0.1/data/train-00000-of-00001.parquet"
    scores = pl.read_parquet(file, columns=["rewards_armorm"]).head(5)["rewards_armorm"].to_list()
    found = [max(s["score"] for s in row) - min(s["score"] for s in row) for row in scores]
    assert [round(gap, 4) for gap in found] == [0.0093, 0.0073, 0.0225, 0.0273, 0.0322]
    logs = np.log(found)
    scale = logs.std(ddof=1) * math.sqrt(1 + 1 / len(logs))
    shares = [student4((math.log(end) - logs.mean()) / scale) for end in ARMORM_WINDOW]
    assert tuple(round(share, 2) for share in shares) == PUBLISHED_QUANTILES


def student4(t: float) -> float:
    """Distribution function of Student's t with four degrees of freedom."""
    u = t * t / (4 + t * t)
    return 0.5 + 0.375 * t / math.sqrt(1 + t * t / 4) * (1 - u / 3)


# Where scores come from


class Scaled(HashReward):
    """The twin's scores on another scale."""

    def __init__(self, name: str, scale: float = 1.0) -> None:
        self.name, self._scale = name, scale

    def identity(self) -> dict[str, str]:
        return {"name": self.name, "scale": str(self._scale)}

    def score(self, items):
        return [Scored(one.score * self._scale - 3, one.tokens) for one in super().score(items)]


def scored_run(folder: Path, model: str, scale: float = 1.0) -> Path:
    return built(folder, scorer=Scaled(model, scale), reward={"model": model}, dpo={})


def test_a_run_that_armorm_scored_before_is_its_own_reference(tmp_path):
    scored_run(tmp_path, ARMORM)
    run = scored_run(tmp_path, "test/other", scale=7.0)
    found = json.loads(invoke("calibrate", run, "--json"))
    assert (found["model"], found["origin"]) == ("test/other", f"{ARMORM} in {run}")
    assert found["window"] == pytest.approx([0.07, 0.7])
    armorm = json.loads(invoke("calibrate", run, "--model", ARMORM, "--json"))
    assert armorm["window"] == [0.01, 0.1]
    assert armorm["gaps"] == found["gaps"] > 0


def test_a_run_gives_the_pairs_that_a_build_with_the_window_makes(tmp_path):
    run = scored_run(tmp_path, "test/other")
    found = json.loads(invoke("calibrate", run, "--quantiles", 0, 0.6, "--json"))
    gap = {"reward_gap": found["window"], "reward_gap_model": "test/other"}
    built(tmp_path, scorer=Scaled("test/other"), reward={"model": "test/other"}, dpo=gap)
    pairs = pl.read_parquet(sorted((run / "dataset/dpo/data").glob("*.parquet")))
    assert found["pairs"] == pairs.height > 0


def test_of_two_scores_of_a_text_by_one_model_the_one_in_force_counts(tmp_path):
    run = scored_run(tmp_path, "test/other", scale=7.0)
    scored_run(tmp_path, "test/other", scale=2.0)
    two = read_scores(run).of("test/other")
    assert two["reward"].max() < 0
    scored_run(tmp_path, "test/other", scale=7.0)
    seven = read_scores(run).of("test/other")
    assert (two.height, seven["reward"].min() + 3) == (seven.height, pytest.approx((two["reward"].min() + 3) * 3.5))


def test_a_run_without_rewards_and_a_model_that_scored_nothing_are_told(tmp_path):
    run = built(tmp_path, reward=None, dpo=None)
    with pytest.raises(ConfigError, match=r"does not tell the reward model"):
        read_scores(run).chosen()
    with pytest.raises(ConfigError, match=r"holds no rewards of test/x \(it has those of: none\)"):
        invoke("calibrate", run, "--model", "test/x")
    with pytest.raises(RunError, match="is not a run folder"):
        invoke("calibrate", tmp_path)


def written(path: Path, *rows: object) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def row(prompt: str, reward: float | None, **more: object) -> dict[str, object]:
    return {"prompt": prompt, "source_model": "m", "reward": reward, **more}


def test_a_file_names_prompts_by_id_text_or_turns(tmp_path):
    turns = [{"role": "user", "content": "a"}]
    file = written(
        tmp_path / "s.jsonl", row("a", 1), "", {"messages": turns, "source_model": "m", "reward": 3.5}, row("b", None)
    )
    rows = read_scores(file).rows
    first, second, third = rows["prompt_id"]
    assert first == second != third
    assert rows["reward"].to_list() == [1.0, 3.5, None]
    assert rows["text_id"].n_unique() == 3
    by_id = written(tmp_path / "i.jsonl", {"prompt_id": first, "source_model": "m", "reward": 0})
    assert read_scores(by_id).rows["prompt_id"].to_list() == [first]


def test_texts_of_a_file_that_are_equal_make_no_pair(tmp_path):
    file = written(
        tmp_path / "s.jsonl", row("a", 1, response="x"), row("a", 2, response=" x\n"), row("a", 9, response=" ")
    )
    scores = read_scores(file)
    assert gaps(scores.of("any"), checked=scores.checked).height == 0


def test_a_file_that_says_who_passed_pairs_right_with_wrong(tmp_path):
    rows = [row("a", 5, passed=True), row("a", 9, passed=True), row("a", 7, passed=False), row("a", 0, passed=None)]
    scores = read_scores(written(tmp_path / "s.jsonl", *rows))
    assert gaps(scores.of("any"), checked=scores.checked)["gap"].to_list() == [2.0]


@pytest.mark.parametrize(
    "line",
    [
        "no json",
        "[1]",
        {"source_model": "m", "reward": 1},
        {"prompt": "a", "reward": 1},
        {"prompt": "a", "source_model": "m"},
        {"prompt": "a", "source_model": "m", "reward": "1"},
        {"prompt": "a", "source_model": "m", "reward": True},
        {"prompt": "a", "source_model": 3, "reward": 1},
        {"prompt": "a", "source_model": "m", "reward": 1, "passed": "yes"},
        {"prompt": "a", "source_model": "m", "reward": 1, "response": None},
        {"messages": [{"role": "user"}], "source_model": "m", "reward": 1},
        {"messages": "hello", "source_model": "m", "reward": 1},
        {"messages": [], "source_model": "m", "reward": 1},
        '{"prompt": "a", "source_model": "m", "reward": NaN}',
    ],
    ids=str,
)
def test_a_line_that_is_no_scored_response_is_named(tmp_path, line):
    with pytest.raises(ConfigError, match=r"s\.jsonl, line 2: is no scored response: it needs prompt_id"):
        read_scores(written(tmp_path / "s.jsonl", row("a", 1), line))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match="name a run folder or a JSON-lines file"):
        read_scores(tmp_path / "absent.jsonl")


def test_a_file_of_two_reward_models_needs_the_name_of_one(tmp_path):
    rows = [row("a", n, reward_model=model) for n in range(3) for model in ("test/x", "test/y")]
    file = written(tmp_path / "s.jsonl", *rows)
    with pytest.raises(ConfigError, match="has rewards of test/x, test/y: say which one with --model"):
        invoke("calibrate", file)
    assert json.loads(invoke("calibrate", file, "--model", "test/y", "--json"))["window"] == [2.0, 2.0]


def test_a_file_of_one_reward_model_needs_no_name(tmp_path):
    file = written(tmp_path / "s.jsonl", *(row("a", n, reward_model="test/x") for n in range(3)))
    assert 'reward_gap_model = "test/x"' in invoke("calibrate", file)


# The command


@pytest.fixture
def files(tmp_path):
    draw = random.Random(3)
    own, theirs = [], []
    for prompt in range(60):
        for _ in range(4):
            reward = draw.gauss(0.15, 0.02)
            theirs.append(row(f"q{prompt}", reward))
            own.append(row(f"q{prompt}", 30 * reward - 2))
    return written(tmp_path / "own.jsonl", *own), written(tmp_path / "armorm.jsonl", *theirs)


def test_the_command_shows_window_histogram_intervals_and_recipe_lines(files):
    own, theirs = files
    shown = invoke("calibrate", own, "--model", "test/x", "--reference", theirs)
    assert "reward_gap = [0.3, 3.0]" in shown
    assert 'reward_gap_model = "test/x"' in shown
    assert "60 gaps above 0 of 60 prompts" in shown
    assert re.search(r"For the recipe  5\d of 60 prompts would give a pair \(9\d%\)", shown)
    assert "95 % intervals: lower end" in shown
    marked = [line for line in shown.splitlines() if "┃ " in line and "█" in line]
    assert marked
    assert max(map(len, shown.splitlines())) <= 100


def test_bars_outside_of_the_window_are_not_marked(files):
    shown = invoke("calibrate", files[0], "--model", "test/x", "--quantiles", 0.4, 0.6).splitlines()
    bars = [line for line in shown if any(block in line for block in "█▏▎▍▌▋▊▉")]
    assert 0 < sum("┃" in bar for bar in bars) < len(bars)


def test_quantiles_and_a_reference_exclude_one_another_and_quantiles_are_ordered(files):
    own, theirs = files
    with pytest.raises(click.UsageError, match="exclude one another"):
        invoke("calibrate", own, "--model", "x", "--reference", theirs, "--quantiles", 0.1, 0.9)
    with pytest.raises(click.UsageError, match="LOW must be below HIGH"):
        invoke("calibrate", own, "--model", "x", "--quantiles", 0.9, 0.1)


def test_what_was_left_out_is_said(tmp_path):
    file = written(
        tmp_path / "s.jsonl", *(row(q, 1, passed=True) for q in "ab"), *(row("ab"[n], n, passed=False) for n in (0, 1))
    )
    with file.open("a") as lines:
        lines.write(json.dumps(row("c", None)) + "\n")
    shown = invoke("calibrate", file, "--model", "x")
    assert "left out: 1 gaps at or below 0, 1 responses unscored" in shown
