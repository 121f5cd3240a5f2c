"""Shards of one run, as real processes in one folder: together, one after another, killed, and refused."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import combinations
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from conftest import dataset_bytes
from hypothesis import given
from hypothesis import strategies as st
from runs import Engine, Stopped, Stopper, built, fails, recipe

from fusedata.build import Build, Silent
from fusedata.cli import cli
from fusedata.errors import ConfigError, RunError, RunLockedError
from fusedata.opening import write_run
from fusedata.plan import windows
from fusedata.profile import Profile, RewardHost
from fusedata.recipe import Recipe
from fusedata.schema import KEY, RESPONSES, REWARDS
from fusedata.shards import Shard, read_shard
from fusedata.status import status
from fusedata.store import Parts, read_run
from fusedata.testing import HashReward

PROMPTS = [f"p{n}" for n in range(200)]
STATE = {"recipe": {"name": "sums"}, "tables": {}}


def build(asked: Recipe, engine: Engine | None = None, reporter: Silent | None = None) -> Build:
    return Build(
        asked,
        Profile(name="test", reward=RewardHost(batch_size=16)),
        make_engine=lambda *_: engine or Engine(),
        make_reward=lambda *_: HashReward(),
        reporter=reporter or Silent(),
    )


@contextmanager
def open_shard(root: Path, number: int, of: int) -> Iterator[None]:
    """This process holds a shard that has prepared the run."""
    with write_run(root, "sums", Shard(number, of)) as run:
        if not run.state:
            run.begin(STATE)
        run.writer.share()
        yield run


# --- shares ---------------------------------------------------------------------------------------------------


@given(st.integers(1, 9))
def test_shares_are_disjoint_and_give_every_prompt(of):
    prompts = pl.DataFrame({"prompt_id": PROMPTS})
    shares = [Shard(number, of).prompts(prompts)["prompt_id"].to_list() for number in range(1, of + 1)]
    assert sorted(prompt for share in shares for prompt in share) == sorted(PROMPTS)
    assert max(map(len, shares)) < 2 * len(PROMPTS) / of + 10


def test_the_share_of_a_prompt_depends_on_no_other_prompt():
    every, some = (pl.DataFrame({"prompt_id": ids}) for ids in (PROMPTS, PROMPTS[50:]))
    whole = Shard(2, 3).prompts(every)["prompt_id"].to_list()
    assert Shard(2, 3).prompts(some)["prompt_id"].to_list() == [p for p in whole if p in PROMPTS[50:]]


def test_a_shard_is_written_as_number_and_count():
    assert read_shard("2/8") == Shard(2, 8)
    for wrong in ("0/2", "3/2", "2", "a/b", "-1/2", "1/2/3", ""):
        with pytest.raises(ConfigError, match=r"give I/N with I from 1 to N"):
            read_shard(wrong)


# --- together -------------------------------------------------------------------------------------------------

PROGRAM = """
import json, sys, time
from pathlib import Path
from fusedata.config import validate
from fusedata.recipe import Recipe
from fusedata.shards import Shard
from runs import Engine
from test_shards import build

folder, number, of, first = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])

class Gated(Engine):
    "Answers one batch, tells so, and waits with the second one until the gate is open."
    def generate(self, batches):
        for count, group in enumerate(super().generate(batches)):
            yield group
            if count == 0:
                print("ready", flush=True)
                while not (folder / "gate").exists():
                    time.sleep(0.01)

asked = validate(Recipe, json.loads((folder / "recipe.json").read_text()), "recipe")
found = build(asked, Gated() if first else Engine()).run_shard(folder / "run", Shard(number, of))
print("assembled" if found else "done", flush=True)
"""


def shard_process(folder: Path, number: int, of: int, *, gated: bool = True) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(folder), str(number), str(of), str(int(gated))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent)


def finished(run: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_ino, p.stat().st_mtime_ns) for p in run.glob("*/*/part-*.parquet")}


def keys(run: Path) -> list[tuple[object, ...]]:
    opened = read_run(run)
    tables = [opened.parts("responses", label, RESPONSES) for label in opened.labels("responses")]
    return [row for table in tables for row in table.scan().select(KEY).collect().rows()]


def test_shards_at_once_one_killed_and_started_again_give_the_bytes_of_one_build(tmp_path):
    asked = recipe(tmp_path)
    (tmp_path / "recipe.json").write_text(json.dumps(asked.model_dump(mode="json", exclude_none=True)))
    with ExitStack() as stack:
        shards = [stack.enter_context(shard_process(tmp_path, number, 3)) for number in (1, 2, 3)]
        try:
            assert [process.stdout.readline() for process in shards] == ["ready\n"] * 3  # all sample at once
            shards[1].send_signal(signal.SIGKILL)
            shards[1].wait()
            kept = finished(tmp_path / "run")
            assert len([path for path in kept if "responses" in path]) == 4  # a batch a shard, and what was carried
            (tmp_path / "run" / "rewards").mkdir(exist_ok=True)
            (tmp_path / "gate").touch()
            shards[1] = stack.enter_context(shard_process(tmp_path, 2, 3))
            said = [process.communicate(timeout=300)[0].splitlines()[-1] for process in shards]
        finally:
            for process in shards:
                process.kill()
    assert set(said) <= {"done", "assembled"}
    assert said.count("assembled") == 1
    assert kept.items() <= finished(tmp_path / "run").items()  # nothing was paid for twice
    assert len(keys(tmp_path / "run")) == len(set(keys(tmp_path / "run"))) == status(tmp_path / "run").prompts * 2 - 1
    whole = built(tmp_path, out="whole")
    assert dataset_bytes(tmp_path / "run") == dataset_bytes(whole)


def test_shards_one_after_another_never_wait_and_the_last_assembles(tmp_path):
    asked = recipe(tmp_path)
    assert build(asked).run_shard(tmp_path / "run", Shard(2, 2)) is None
    assert status(tmp_path / "run").left > 0
    assert status(tmp_path / "run").dataset is None
    assert build(asked).run_shard(tmp_path / "run", Shard(1, 2))
    assert dataset_bytes(tmp_path / "run") == dataset_bytes(built(tmp_path, out="whole"))
    assert build(asked).run_shard(tmp_path / "run", Shard(2, 2))  # nothing to do but to assemble again


def test_a_whole_build_finishes_what_shards_began_and_asks_for_nothing_twice(tmp_path):
    asked, engine = recipe(tmp_path), Engine()
    build(asked).run_shard(tmp_path / "run", Shard(1, 2))
    begun = set(keys(tmp_path / "run"))
    build(asked, engine).run(tmp_path / "run")
    drawn = {(request.prompt_id, request.sample) for request in engine.asked}
    assert drawn
    assert not drawn & {(prompt, sample) for prompt, _, sample in begun}
    assert dataset_bytes(tmp_path / "run") == dataset_bytes(built(tmp_path, out="whole"))


@pytest.mark.parametrize("stage", ["sample", "verdicts", "rewards"])
def test_a_shard_that_was_stopped_goes_on_where_it_stopped(tmp_path, stage):
    asked = recipe(tmp_path)
    with pytest.raises(Stopped):
        build(asked, reporter=Stopper(stage, 1)).run_shard(tmp_path / "run", Shard(1, 2))
    kept = finished(tmp_path / "run")
    for number in (1, 2):
        build(asked).run_shard(tmp_path / "run", Shard(number, 2))
    assert kept.items() <= finished(tmp_path / "run").items()
    assert dataset_bytes(tmp_path / "run") == dataset_bytes(built(tmp_path, out="whole"))


def test_samples_that_failed_hold_no_shard_up_and_are_tried_again_by_their_own_shard(tmp_path):
    asked = recipe(tmp_path)
    bad = [build(asked, fails("What")).run_shard(tmp_path / "run", Shard(number, 2)) for number in (1, 2)]
    assert bad[0] is None
    assert bad[1] is not None
    failed = {path.name for path in (tmp_path / "run").glob("responses/*/failed-*")}
    assert {name[:13] for name in failed} == {"failed-1-of-2", "failed-2-of-2"}
    build(asked).run_shard(tmp_path / "run", Shard(1, 2))
    left = {path.name for path in (tmp_path / "run").glob("responses/*/failed-*")}
    assert left == {name for name in failed if name.startswith("failed-2-of-2")}
    build(asked).run(tmp_path / "run")
    assert not list((tmp_path / "run").glob("responses/*/failed-*"))
    assert dataset_bytes(tmp_path / "run") == dataset_bytes(built(tmp_path, out="whole"))


# --- what shards leave alone ----------------------------------------------------------------------------------


def test_a_shard_forgets_the_failed_rows_of_no_shard_that_may_be_writing(tmp_path):
    rows = pl.DataFrame(schema=REWARDS)
    for shard in (None, Shard(1, 2), Shard(2, 2), Shard(1, 4)):
        Parts(tmp_path, REWARDS, shard=shard).write("x", rows, failed=True)
    table = Parts(tmp_path, REWARDS, shard=Shard(2, 2))
    assert "failed-1-of-2-x.parquet" not in {path.name for path in table.paths()}
    table.forget_failed()
    assert [path.name for path in tmp_path.iterdir()] == ["failed-1-of-2-x.parquet"]


def test_a_shard_removes_no_half_written_file_while_others_write(tmp_path):
    half = tmp_path / "rewards" / ("0" * 16) / ".part-a.parquet.tmp"
    with open_shard(tmp_path, 1, 2):
        half.parent.mkdir(parents=True)
        half.touch()
        with open_shard(tmp_path, 2, 2):
            assert half.exists()
    with open_shard(tmp_path, 2, 2):
        assert not half.exists()


def responses(folder: Path, prompts: list[str]) -> Parts:
    parts = Parts(folder / "responses", RESPONSES, shard=Shard(1, 2))
    for prompt in prompts:
        row = {**dict.fromkeys(RESPONSES.names()), "prompt_id": prompt, "source_model": "m", "sample": 0}
        parts.write(prompt, pl.DataFrame([row | {"text": prompt, "text_id": prompt}], schema=RESPONSES))
    return parts


def test_windows_of_a_shard_do_not_depend_on_what_others_have_written(tmp_path):
    mine = Shard(1, 2).prompts(pl.DataFrame({"prompt_id": PROMPTS[:40], "answer": "a"}))
    done = Parts(tmp_path / "rewards", REWARDS)
    own = responses(tmp_path / "own", mine["prompt_id"].to_list())
    every = responses(tmp_path / "every", PROMPTS[:40])
    size = 3 * max(path.stat().st_size for path in every.paths())
    cut = [[w["prompt_id"].to_list() for w in windows(mine, table, done, size)] for table in (own, every)]
    assert len(cut[0]) > 3
    assert cut[0] == cut[1]


# --- refusals -------------------------------------------------------------------------------------------------


def refused(root: Path, shard: Shard | None) -> str:
    with pytest.raises(RunLockedError) as error, write_run(root, "sums", shard):
        pass
    return str(error.value)


def test_disjoint_shards_write_together_and_whoever_would_overlap_is_refused(tmp_path):
    with open_shard(tmp_path, 1, 3), open_shard(tmp_path, 2, 3):
        assert refused(tmp_path, Shard(2, 3)) == f"{tmp_path}: another process is building shard 2/3; wait for it."
        assert "another process is writing this run" in refused(tmp_path, None)
        assert "is being built in 3 shards, not 4; give all shards the same number" in refused(tmp_path, Shard(1, 4))
        with open_shard(tmp_path, 3, 3):
            pass
    with write_run(tmp_path, "sums"):
        assert "another process is writing this run" in refused(tmp_path, Shard(1, 3))
    with open_shard(tmp_path, 1, 4):
        pass


def test_of_shards_that_end_one_is_the_last(tmp_path):
    for first, second in combinations((1, 2, 3), 2):
        with write_run(tmp_path, "sums", Shard(first, 3)) as one:
            one.begin(STATE)
            one.writer.share()
            with write_run(tmp_path, "sums", Shard(second, 3)) as other:
                other.writer.share()
                assert not other.writer.last()
            assert one.writer.last()


def test_a_shard_that_builds_something_else_is_refused_while_others_write_and_not_after(tmp_path):
    asked = recipe(tmp_path)
    other = asked.model_copy(update={"seed": 7})
    build(asked).run_shard(tmp_path / "run", Shard(1, 2))
    before = (tmp_path / "run" / "run.json").read_bytes()
    with write_run(tmp_path / "run", "sums", Shard(1, 2)) as run:
        run.writer.share()
        with pytest.raises(RunError, match=r"other shards are building something else \(prompts: made anew \(seed\)\)"):
            build(other).run_shard(tmp_path / "run", Shard(2, 2))
        assert (tmp_path / "run" / "run.json").read_bytes() == before
        assert build(asked).run_shard(tmp_path / "run", Shard(2, 2)) is None
    build(other).run_shard(tmp_path / "run", Shard(1, 2))
    assert read_run(tmp_path / "run").state["recipe"]["seed"] == 7


def test_what_two_shards_note_in_run_json_is_kept_of_both(tmp_path):
    with open_shard(tmp_path, 1, 2) as one, open_shard(tmp_path, 2, 2) as other:
        for run, name in ((one, "a"), (other, "b")):
            with run.turn():
                run.begin(run.state | {name: 1})
    assert read_run(tmp_path).state == STATE | {"a": 1, "b": 1}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--push"], "--push does not go with --shard: leave out one of them."),
        (["--force-stage", "rewards"], "--force-stage does not go with --shard: leave out one of them."),
        (["--dry-run"], "--dry-run does not go with --shard: leave out one of them."),
        (["--on", "ray"], "--on ray does not go with --shard: leave out one of them."),
    ],
)
def test_what_takes_the_whole_build_is_refused_with_a_shard(tmp_path, options, told):
    command = ["build", "math", "--profile", "local", "--out", str(tmp_path / "run"), "--shard", "1/2", *options]
    with pytest.raises(ConfigError) as error:
        CliRunner().invoke(cli, command, catch_exceptions=False, standalone_mode=False)
    assert str(error.value) == told
    assert not (tmp_path / "run").exists()
