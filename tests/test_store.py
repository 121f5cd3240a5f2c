"""Run folders, with real files, processes, kills and mounts: a part is whole or absent, and errors are sentences."""

import contextlib
import errno
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusedata.errors import RunError, RunLockedError
from fusedata.opening import write_run
from fusedata.schema import KEY, REWARDS
from fusedata.store import Parts, Run, collect, entry, read_run, replacing, writing

STATE = {"recipe": {"name": "sums"}, "tables": {}}


def rows(prompt: str, count: int = 3, reward: float = 0.5, error: str | None = None) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "prompt_id": [prompt] * count,
            "source_model": "m",
            "sample": range(count),
            "text_id": "t",
            "reward_model": "r",
            "reward": reward,
            "tokens": 7,
            "error": pl.Series([error] * count, dtype=pl.String),
        }
    ).cast(REWARDS)


def table(folder: Path, samples: int | None = None) -> Parts:
    return Parts(folder, REWARDS, samples)


def content(parts: Parts) -> list[tuple[object, ...]]:
    return sorted(collect(parts.scan().select("prompt_id", "sample", "reward"), [parts]).rows())


def hidden(folder: Path) -> list[str]:
    """Names below `folder` that begin with a dot, the lock aside."""
    return sorted(path.name for path in folder.rglob(".*") if path.name != ".lock")


def python(program: str, *arguments: object) -> subprocess.Popen[str]:
    """A real process that runs `program` after imports; it says "ready" when it prints so."""
    head = (
        "import os, sys, time\nfrom pathlib import Path\nimport polars as pl\n"
        "from fusedata.errors import *\nfrom fusedata.opening import write_run\n"
        "from fusedata.schema import REWARDS\nfrom fusedata.store import *\n"
    )
    command = [sys.executable, "-c", head + program, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def refusal(root: Path, recipe: str = "sums") -> str:
    with pytest.raises(RunError) as refused, write_run(root, recipe):
        pass
    return str(refused.value)


@contextlib.contextmanager
def killed(program: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process that has said "ready", killed with SIGKILL at the end if not before."""
    with python(program, *arguments) as process:
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)


# --- parts ----------------------------------------------------------------------------------------------------


def test_a_table_without_parts_is_empty_and_has_its_schema(tmp_path):
    found = collect(table(tmp_path / "none").scan(), [])
    assert found.schema == REWARDS
    assert found.height == 0
    assert table(tmp_path / "none").done().columns == list(KEY)


def test_a_part_is_read_back_as_it_was_written(tmp_path):
    parts = table(tmp_path / "t")
    parts.write("a", rows("p").with_columns(more=pl.lit(1)).select(reversed([*REWARDS.names(), "more"])))
    assert collect(parts.scan(), [parts]).equals(rows("p"))
    assert hidden(tmp_path) == []


NAMES = st.sampled_from(["a", "b", "a-b", "00001"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(NAMES, st.booleans(), st.integers(0, 9)), max_size=8))
def test_after_any_writes_each_name_holds_what_was_written_to_it_last(writes):
    with tempfile.TemporaryDirectory() as folder:
        parts = table(Path(folder) / "t")
        for name, failed, number in writes:
            parts.write(name, rows(name, 1, number), failed=failed)
        last = {(name, failed): number for name, failed, number in writes}
        assert content(parts) == sorted((name, 0, float(number)) for (name, _), number in last.items())
        assert len(parts.paths("part")) == sum(not failed for _, failed in last)
        assert hidden(Path(folder)) == []


def test_rows_with_an_error_are_parts_of_their_own_until_they_are_forgotten(tmp_path):
    parts = table(tmp_path / "t")
    failed = pl.col("error").is_not_null()
    parts.write_rows("x", pl.concat([rows("good"), rows("bad", 2, error="no answer")]), failed=failed)
    parts.write_rows("y", rows("fine"), failed=failed)
    parts.write_rows("z", rows("poor", error="no answer"), failed=failed)
    assert [p.name for p in parts.paths()] == [f"{n}.parquet" for n in ("failed-x", "failed-z", "part-x", "part-y")]
    assert set(parts.done()["prompt_id"]) == {"good", "fine"}
    assert collect(parts.scan("failed"), [parts])["error"].to_list() == ["no answer"] * 5
    parts.forget_failed()
    assert [p.name for p in parts.paths()] == ["part-x.parquet", "part-y.parquet"]


def test_samples_that_are_no_longer_wanted_are_not_read(tmp_path):
    table(tmp_path).write("a", rows("p", 5))
    assert [sample for _, sample, _ in content(table(tmp_path, 2))] == [0, 1]
    assert table(tmp_path, 2).done().height == 2
    assert table(tmp_path, 9).done().height == table(tmp_path).done().height == 5


@pytest.mark.parametrize("name", ["my[1]", "a*b", "a?b", "sample=7", "{a,b}", "~x", "a b", "数学", "a%20b"])
def test_whatever_the_run_folder_is_called_its_rows_are_found(tmp_path, name):
    with write_run(tmp_path / name, "sums") as run:
        run.begin(STATE)
        parts = table(run.root / "rewards" / "0123456789abcdef")
        parts.write("a", rows("p"))
        parts.write("b", rows("q"))
    assert parts.done().height == 6
    assert collect(parts.scan(), [parts])["sample"].to_list() == [0, 1, 2] * 2


def test_values_that_do_not_fit_the_schema_are_refused_and_leave_nothing(tmp_path):
    with pytest.raises(RunError, match=r"part-a\.parquet: cannot be written"):
        table(tmp_path).write("a", rows("p").with_columns(tokens=pl.lit("many")))
    assert list(tmp_path.iterdir()) == []


# --- what cannot be read --------------------------------------------------------------------------------------


def spoilt(whole: bytes) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        other, typed = Path(folder) / "other", Path(folder) / "typed"
        rows("p").rename({"reward": "score"}).write_parquet(other)
        rows("p").with_columns(pl.col("tokens").cast(pl.String)).write_parquet(typed)
        return {
            "empty": b"",
            "truncated": whole[: len(whole) // 2],
            "without its end": whole[:-1],
            "no Parquet": b"hello" * 100,
            "zeros": bytes(len(whole)),
            "other columns": other.read_bytes(),
            "other types": typed.read_bytes(),
        }


@pytest.mark.parametrize("damage", spoilt(b""))
def test_a_part_that_cannot_be_read_is_named_with_what_to_do(tmp_path, damage):
    parts = table(tmp_path / "t")
    for name in "abc":
        parts.write(name, rows(name))
    broken = parts.folder / "part-b.parquet"
    broken.write_bytes(spoilt(broken.read_bytes())[damage])
    with pytest.raises(RunError) as refused:
        collect(parts.scan(), [table(tmp_path / "sound"), parts])
    assert str(refused.value).startswith(f"{broken}: this part cannot be read (")
    assert str(refused.value).endswith("); delete it and build again: only its rows are made anew.")
    assert "\n" not in str(refused.value)
    broken.unlink()
    assert parts.done().height == 6


def test_a_part_that_was_cut_anywhere_never_gives_rows(tmp_path):
    parts = table(tmp_path)
    parts.write("a", rows("p"))
    (path,) = parts.paths()
    whole = path.read_bytes()
    for length in range(0, len(whole), 29):
        path.write_bytes(whole[:length])
        with pytest.raises(RunError, match=r"part-a\.parquet: this part cannot be read"):
            parts.done()


def test_a_query_that_fails_on_sound_parts_is_one_sentence(tmp_path):
    parts = table(tmp_path)
    parts.write("a", rows("p"))
    with pytest.raises(RunError, match=r"^The run's tables cannot be read: [^\n]*\.$"):
        collect(parts.scan().select("nothing"), [parts])


# --- whole or absent ------------------------------------------------------------------------------------------

WRITE_MANY = """
frame = pl.DataFrame({"prompt_id": [f"{n:064x}" for n in range(20_000)], "source_model": "m",
                      "sample": range(20_000), "reward_model": "r", "reward": 0.5, "tokens": 1, "error": None})
number = 0
with write_run(Path(sys.argv[1]), "sums") as run:
    if not run.state:
        run.begin({"recipe": {"name": "sums"}, "tables": {}})
    print("ready", flush=True)
    while True:
        Parts(run.root / "rewards" / ("0" * 16), REWARDS).write(str(number % 7), frame)
        number += 1
"""


def test_whenever_a_build_is_killed_every_part_is_whole(tmp_path):
    delays = random.Random(5)
    parts = table(tmp_path / "run" / "rewards" / ("0" * 16))
    for _ in range(6):
        with killed(WRITE_MANY, tmp_path / "run"):
            time.sleep(delays.uniform(0.02, 0.15))
        found = collect(parts.scan().group_by("prompt_id").len(), [parts])
        assert found.height == (20_000 if parts.paths() else 0)
        assert found.filter(pl.col("len") != len(parts.paths())).height == 0
    with write_run(tmp_path / "run", "sums"):
        assert hidden(tmp_path) == []


def test_a_half_written_file_is_no_part_and_goes_when_the_run_is_next_opened(tmp_path):
    program = """
with write_run(Path(sys.argv[1]), "sums") as run:
    run.begin({"recipe": {"name": "sums"}, "tables": {}})
    with writing(run.root / "run.json") as a, writing(run.root / "rewards" / ("0" * 16) / "part-b.parquet") as b:
        b.write(b"half")
        b.flush()
        print("ready", flush=True)
        time.sleep(60)
"""
    with killed(program, tmp_path):
        pass
    assert hidden(tmp_path) == [".part-b.parquet.tmp", ".run.json.tmp"]
    assert table(tmp_path / "rewards" / ("0" * 16)).done().height == 0
    with write_run(tmp_path, "sums") as run:
        assert hidden(tmp_path) == []
        assert run.state == STATE


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_while_a_file_is_written_leaves_the_old_one_and_nothing_else(tmp_path, error):
    (tmp_path / "x").write_text("old")
    with pytest.raises(error), writing(tmp_path / "x") as file:  # noqa: PT012
        file.write(b"new")
        raise error
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x", "old")]


def test_a_file_whose_folder_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "x").touch()
    with (
        pytest.raises(RunError, match=r"x/y: cannot be written \((File exists|Not a directory)\)\.$"),
        writing(tmp_path / "x" / "y"),
    ):
        pass


def test_an_error_without_words_is_named_by_its_kind(tmp_path):
    with pytest.raises(RunError, match=r"x: cannot be written \(OSError\)\.$"), writing(tmp_path / "x"):
        raise OSError


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_and_a_spent_quota_are_told_alike(tmp_path, number):
    with pytest.raises(RunError) as refused, writing(tmp_path / "x"):
        raise OSError(number, os.strerror(number))
    remedy = "free some space and build again: finished parts are kept"
    assert str(refused.value) == f"{tmp_path}: the disk is full; {remedy}."


# --- small and read-only disks --------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A disk of 1 MB and 200 files of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=200", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small disk takes root and the right to mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def noise(prompt: str, count: int) -> pl.DataFrame:
    text = [random.Random(f"{prompt}{n}").randbytes(64).hex() for n in range(count)]
    return rows(prompt, count).with_columns(reward_model=pl.Series(text))


def test_a_full_disk_is_one_sentence_and_loses_no_finished_part(disk):
    with write_run(disk / "run", "sums") as run:
        run.begin(STATE)
        parts = table(run.root / "rewards" / ("0" * 16))
        written = 0
        with pytest.raises(RunError) as refused:  # noqa: PT012
            for number in range(100):
                parts.write(f"{number:03d}", noise(str(number), 800))
                written += 1
        assert 2 < written < 99
        assert str(refused.value).startswith(f"{parts.folder}: the disk is full; free some space")
        assert parts.done().height == written * 800
        assert hidden(disk) == []


def test_a_full_disk_keeps_run_json_and_the_old_dataset(disk):
    with write_run(disk / "run", "sums") as run:
        run.begin(STATE)
        with replacing(run.root / "dataset") as new:
            (new / "x").write_text("old")
        (disk / "filler").write_bytes(bytes(1_000_000))
        with pytest.raises(RunError, match="run: the disk is full"):
            run.begin({**STATE, "more": "x" * 100_000})
        with pytest.raises(RunError, match="the disk is full"), replacing(run.root / "dataset") as new:
            (new / "x").write_bytes(bytes(200_000))
    assert read_run(disk / "run").state == STATE
    assert (disk / "run" / "dataset" / "x").read_text() == "old"
    assert hidden(disk) == []


def test_a_disk_too_full_for_a_run_is_told_before_anything_is_done(disk):
    with contextlib.suppress(OSError):
        for number in range(10_000):
            (disk / str(number)).touch()
    assert (
        refusal(disk / "run") == f"{disk / 'run'}: cannot be written (No space left on device); choose another --out."
    )


def test_a_read_only_disk_is_refused(disk):
    (disk / "run").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for root in (disk / "run", disk / "new"):
        assert refusal(root) == f"{root}: cannot be written (Read-only file system); choose another --out."


def test_folders_that_are_not_ours_are_refused():
    program = """
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
for path in sys.argv[1:]:
    for use in (lambda root: write_run(root, "sums").__enter__(), read_run):
        try:
            use(Path(path))
        except RunError as error:
            print(error)
"""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        new, closed, full = paths = [folder / "new", folder / "closed" / "run", folder / "full"]
        closed.parent.mkdir()
        full.mkdir()
        (full / "run.json").touch(mode=0)
        for path, mode in ((folder, 0o555), (closed.parent, 0), (full, 0o555)):
            path.chmod(mode)
        with python(program, *paths) as process:
            told, _ = process.communicate()
        for path in (folder, closed.parent, full):
            path.chmod(0o700)
    unknown = "is not a run folder (it has no run.json); name one that `fusedata build` wrote."
    assert told.splitlines() == [
        f"{new}: cannot be written (Permission denied); choose another --out.",
        f"{new}: {unknown}",
        f"{closed}: cannot be written (Permission denied); choose another --out.",
        f"{closed / 'run.json'}: cannot be read (Permission denied).",
        f"{full}: cannot be written (Permission denied); choose another --out.",
        f"{full / 'run.json'}: cannot be read (Permission denied).",
    ]


# --- one writer -----------------------------------------------------------------------------------------------


def test_a_second_writer_is_refused_until_the_first_is_gone_even_killed(tmp_path):
    hold = 'with write_run(Path(sys.argv[1]), "sums"):\n    print("ready", flush=True)\n    time.sleep(60)\n'
    with killed(hold, tmp_path / "run") as process:
        with pytest.raises(RunLockedError) as refused, write_run(tmp_path / "run", "sums"):
            pass
        remedy = "wait for it, or choose another --out"
        assert str(refused.value) == f"{tmp_path / 'run'}: another process is writing this run; {remedy}."
        process.send_signal(signal.SIGKILL)
        process.wait()
        with write_run(tmp_path / "run", "sums") as run:
            assert run.state == {}


def test_a_second_writer_in_the_same_process_is_refused_too(tmp_path):
    with write_run(tmp_path, "sums"), pytest.raises(RunLockedError), write_run(tmp_path, "sums"):
        pass
    with write_run(tmp_path, "sums"):
        pass


def test_a_failed_build_frees_the_run(tmp_path):
    with pytest.raises(ValueError, match="broke down"), write_run(tmp_path, "sums"):
        raise ValueError("broke down")
    with write_run(tmp_path, "sums"):
        pass


# --- opening --------------------------------------------------------------------------------------------------


def test_a_run_is_made_with_the_folders_above_it_and_found_again(tmp_path):
    with write_run(tmp_path / "a" / "b", "sums") as run:
        assert run.state == {}
        run.begin(STATE)
    with write_run(tmp_path / "a" / "b", "sums") as run:
        assert run.state == STATE
    assert read_run(tmp_path / "a" / "b") == Run(tmp_path / "a" / "b", STATE)


def test_an_output_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "x").touch()
    assert refusal(tmp_path / "x") == f"{tmp_path / 'x'}: is a file; choose another --out."
    below = tmp_path / "x" / "run"
    assert refusal(below) == f"{below}: cannot be written (Not a directory); choose another --out."


def test_an_output_folder_with_too_long_a_name_is_refused(tmp_path):
    assert "cannot be written (File name too long)" in refusal(tmp_path / ("x" * 300))


def test_a_folder_with_other_files_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "thesis.tex").touch()
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "ape").touch()
    remedy = "choose an empty or new --out"
    assert refusal(tmp_path) == f"{tmp_path}: holds other files (thesis.tex, …) and no run; {remedy}."
    (tmp_path / "thesis.tex").unlink()
    assert refusal(tmp_path) == f"{tmp_path}: holds other files (zoo, …) and no run; {remedy}."
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["ape", "zoo"]


def test_hidden_files_and_empty_folders_are_no_hindrance(tmp_path):
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "empty").mkdir()
    with write_run(tmp_path, "sums") as run:
        assert run.state == {}


def test_a_run_of_another_recipe_is_refused(tmp_path):
    with write_run(tmp_path, "sums") as run:
        run.begin(STATE)
    assert refusal(tmp_path, "algebra") == f"{tmp_path}: is a run of recipe sums, not algebra; choose another --out."


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b'{"recipe": {"name"', "is broken ("),
        (b"", "is broken ("),
        (b"\xff\xfe", "is broken ("),
        (b"[]", "does not tell recipe and tables"),
        (b'{"recipe": {}}', "does not tell recipe and tables"),
        (b'{"recipe": {}, "tables": 1}', "does not tell recipe and tables"),
    ],
)
def test_a_broken_run_json_is_told_and_a_run_without_it_is_taken_up_again(tmp_path, data, told):
    with write_run(tmp_path, "sums") as run:
        run.begin(STATE)
        parts = table(run.root / "rewards" / ("0" * 16))
        parts.write("a", rows("p"))
        (run.root / "dataset" / "sft").mkdir(parents=True)
    (tmp_path / "run.json").write_bytes(data)
    for found in (refusal(tmp_path), *reading(tmp_path)):
        assert found.startswith(f"{tmp_path / 'run.json'}: {told}")
        assert found.endswith("; remove it and build with the same recipe again: finished tables are found again.")
        assert "\n" not in found
    (tmp_path / "run.json").unlink()
    with write_run(tmp_path, "sums") as run:
        assert run.state == {}
        assert parts.done().height == 3


def reading(root: Path) -> list[str]:
    with pytest.raises(RunError) as refused:
        read_run(root)
    return [str(refused.value)]


def test_reading_what_is_no_run_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for root in (tmp_path, tmp_path / "none", tmp_path / "file"):
        remedy = "name one that `fusedata build` wrote"
        assert reading(root) == [f"{root}: is not a run folder (it has no run.json); {remedy}."]
    (tmp_path / "run.json").mkdir()
    assert reading(tmp_path) == [f"{tmp_path / 'run.json'}: cannot be read (Is a directory)."]


# --- run.json -------------------------------------------------------------------------------------------------


def test_tables_are_found_by_stage_and_source(tmp_path):
    responses = {"m/1": entry({"a": 1}) | {"samples": 2}, "m/0": entry({"a": 2})}
    run = Run(tmp_path, {"tables": {"responses": responses, "prompts": {"": entry({})}}})
    assert run.labels("responses") == ["m/1", "m/0"]
    assert run.labels("rewards") == []
    one, other = (run.parts("responses", label, REWARDS) for label in run.labels("responses"))
    assert one == Parts(tmp_path / "responses" / responses["m/1"]["fingerprint"], REWARDS, 2)
    assert (other.samples, other.folder != one.folder) == (None, True)
    assert run.parts("prompts", "", REWARDS).folder.parent == tmp_path / "prompts"


@pytest.mark.parametrize(("label", "told"), [("", "rewards"), ("m/1", "rewards of m/1")])
def test_a_table_that_was_not_built_is_told(tmp_path, label, told):
    with pytest.raises(RunError) as refused:
        Run(tmp_path, STATE).parts("rewards", label, REWARDS)
    assert str(refused.value) == f"{tmp_path}: has no table {told} yet; build it first."


@given(st.dictionaries(st.text(max_size=3), st.text(st.characters() | st.characters(categories=["Cs"]), max_size=5)))
def test_run_json_gives_back_whatever_text_it_was_given(names):
    with tempfile.TemporaryDirectory() as folder:
        Run(Path(folder)).begin({**STATE, "names": names})
        assert read_run(Path(folder)).state == {**STATE, "names": names}


# --- replacing a folder ---------------------------------------------------------------------------------------


@pytest.fixture
def dataset(tmp_path) -> Path:
    """A folder that was put in place once."""
    with replacing(tmp_path / "dataset") as new:
        (new / "x").write_text("old")
    assert listing(tmp_path) == {"dataset/x": "old"}
    return tmp_path / "dataset"


def listing(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_is_replaced_as_a_whole(dataset):
    with replacing(dataset) as new:
        assert (dataset / "x").read_text() == "old"
        (new / "y").write_text("new")
    assert listing(dataset.parent) == {"dataset/y": "new"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, RunError])
def test_the_old_folder_stays_where_filling_the_new_one_fails(dataset, error):
    with pytest.raises(error), replacing(dataset) as new:  # noqa: PT012
        (new / "y").write_text("new")
        raise error
    assert listing(dataset.parent) == {"dataset/x": "old"}
    assert hidden(dataset.parent) == []


def test_the_old_folder_is_put_back_where_the_new_one_cannot_take_its_place(dataset):
    with pytest.raises(RunError, match=r"dataset: cannot be written \(No such file or directory\)"):  # noqa: SIM117
        with replacing(dataset) as new:
            new.rmdir()
    assert listing(dataset.parent) == {"dataset/x": "old"}
    assert hidden(dataset.parent) == []


@pytest.mark.parametrize("fails", [True, False])
def test_a_folder_lost_between_the_two_renames_is_recovered(dataset, fails):
    beside, old = dataset.with_name(".dataset.new"), dataset.with_name(".dataset.old")
    beside.mkdir()
    (beside / "z").touch()
    dataset.rename(old)  # a process that was killed just here
    with contextlib.suppress(ValueError), replacing(dataset) as new:
        assert listing(dataset) == {"x": "old"}
        assert listing(new) == {}
        (new / "y").write_text("new")
        if fails:
            raise ValueError
    assert listing(dataset.parent) == ({"dataset/x": "old"} if fails else {"dataset/y": "new"})


def test_a_killed_process_never_leaves_half_a_folder(tmp_path):
    program = """
for number in range(1_000_000):
    with replacing(Path(sys.argv[1]) / "dataset") as new:
        for name in "abc":
            (new / name).write_text(str(number))
    if number == 0:
        print("ready", flush=True)
"""
    for delay in (0.01, 0.05, 0.1):
        with killed(program, tmp_path):
            time.sleep(delay)
        with contextlib.suppress(ValueError), replacing(tmp_path / "dataset"):
            raise ValueError
        found = listing(tmp_path)
        assert found.keys() == {"dataset/a", "dataset/b", "dataset/c"}
        assert len(set(found.values())) == 1
