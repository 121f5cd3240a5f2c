"""Builds on a real Ray cluster of several nodes on this machine: the same bytes, whatever dies."""

import ast
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import polars as pl
import pytest
from conftest import dataset_bytes
from ray_builds import PROMPTS, REFUSED, SAMPLES, AtStage, Engine, Stopped, asked, build, recipe, stop
from ray_cluster import (
    Cluster,
    add_node,
    cluster_of,
    engines_that_fit,
    kept_though_a_node_is_lost,
    kill_what_plans,
    remove_node,
)
from s3_server import FAULTS, FaultyServer, s3_store

import fusedata
from fusedata.errors import ConfigError, EngineError, MissingExtraError, RunError
from fusedata.on_ray.cluster import connected
from fusedata.on_ray.pools import Pool
from fusedata.on_ray.stages import _batches_a_call
from fusedata.on_ray.workers import Place, Sampler, Seams, work
from fusedata.profile import OpenaiEngine, Profile, Ray, VllmEngine
from fusedata.schema import KEY, RESPONSES
from fusedata.storage import place
from fusedata.store import Parts, read_run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's, of its own context

PACKAGE = Path(fusedata.__file__).parent
IMPORTED = os.pathsep.join([str(Path(__file__).parent), str(PACKAGE.parent)])
ALL = PROMPTS * SAMPLES
BATCH = 4
_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def store() -> Iterator[FaultyServer]:
    """An S3 server, behind a proxy that can fail; this process and the cluster know its address by environment."""
    pytest.importorskip("moto")
    pytest.importorskip("s3fs")
    with s3_store() as server:
        yield server


@pytest.fixture(scope="module")
def nodes(store) -> Iterator[Cluster]:
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", IMPORTED)  # the workers import the makers of the tests
        with cluster_of(3) as cluster:
            yield cluster


@pytest.fixture
def bucket(nodes) -> Path:
    """A run folder on the object store."""
    return place(f"s3://runs/ray{next(_NUMBERS)}")


def parts(run: Path, stage: str) -> dict[str, bytes]:
    return {str(p)[len(str(run)) :]: p.read_bytes() for p in run.glob(f"{stage}/*/*.parquet")}


def failed(parts: dict[str, bytes]) -> list[str]:
    return [name for name in parts if "failed-" in name]


def responses(run: Path) -> pl.DataFrame:
    return read_run(run).parts("responses", "test/echo", RESPONSES).scan().collect()


def undisturbed(folder: Path) -> Path:
    """The same build in this process, of the same recipe."""
    build(folder, on_ray=False).run(folder / "whole")
    return folder / "whole"


def assert_whole(folder: Path, run: Path) -> None:
    """Every sample stands once, and the dataset is that of an undisturbed build."""
    rows = responses(run)
    assert rows.height == ALL
    assert rows.select(KEY).is_unique().all()
    assert dataset_bytes(run) == dataset_bytes(undisturbed(folder))


# What needs no cluster


def test_nothing_but_this_package_imports_ray():
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name != "on_ray":
            nodes = list(ast.walk(ast.parse(path.read_text())))
            names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
            names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
            assert not any(name.split(".")[0] == "ray" for name in names), path


def test_a_build_in_this_process_loads_no_ray(tmp_path):
    program = "import sys, pathlib, ray_builds; folder = pathlib.Path(sys.argv[1])\n"
    program += "ray_builds.build(folder, on_ray=False).run(folder / 'run'); print('ray' in sys.modules)"
    where = {**os.environ, "PYTHONPATH": IMPORTED}
    command = [sys.executable, "-c", program, tmp_path]
    done = subprocess.run(command, check=True, env=where, capture_output=True, text=True)
    assert done.stdout == "False\n"


class Told:
    """A worker's life without a cluster: an engine, its run, and a piece of work of three batches."""

    def __init__(self, folder: Path):
        self.engine = Engine(folder)
        self.parts = Parts(folder / "run" / "responses" / "0", RESPONSES)
        asked = recipe(folder)
        self.seams = Seams(asked, Profile(name="twins"), lambda *_: self.engine, None, None)
        self.model = asked.source_models[0]
        (folder / "run").mkdir()
        (folder / "run" / "run.json").write_text('{"recipe": {}, "tables": {"a": {}}}')
        self.place = Place(str(folder / "run"), {"a": {}})
        rows = [(f"{n // 2:024d}", n % 2, [{"role": "user", "content": "hi"}], n // BATCH) for n in range(3 * BATCH)]
        self.rows = pl.DataFrame(rows, schema=["prompt_id", "sample", "messages", "batch"], orient="row")

    def do(self, place: Place | None = None, identity: dict[str, str] | None = None):
        worker = Sampler(self.seams, place or self.place, self.model, self.parts, identity or self.engine.identity())
        (receipt,) = worker(work(0, self.rows)).to_pylist()
        return receipt["rows"], receipt["kind"], receipt["error"]


def test_a_piece_of_work_that_is_repeated_asks_only_for_batches_that_do_not_stand(tmp_path):
    told = Told(tmp_path)
    assert told.do() == (12, "", "")
    before = {path: path.stat().st_mtime_ns for path in told.parts.paths()}
    lost = told.parts.paths()[1]
    lost.unlink()
    assert told.do() == (12, "", "")
    assert len(told.engine.asked) == 16
    assert {path: path.stat().st_mtime_ns for path in told.parts.paths() if path != lost} == {
        path: when for path, when in before.items() if path != lost
    }


def test_a_batch_that_failed_in_part_and_lost_its_finished_rows_is_asked_for_again_without_a_key_twice(tmp_path):
    told = Told(tmp_path)
    (tmp_path / "refuse").touch()
    told.do()
    failed = told.parts.paths("failed")
    assert failed
    (tmp_path / "refuse").unlink()
    for path in told.parts.paths("part"):
        path.unlink()
    failed[0].write_bytes(failed[0].read_bytes())
    pl.read_parquet(failed[0]).head(1).write_parquet(failed[0])
    told.do()
    rows = told.parts.scan().collect()
    assert rows.select("prompt_id", "sample").is_unique().all()


def test_a_worker_that_does_not_see_the_run_says_so(tmp_path):
    told = Told(tmp_path)
    _, kind, error = told.do(Place(str(tmp_path / "elsewhere"), {"a": {}}))
    assert kind == "RunError"
    assert "storage that all nodes of the cluster share" in error
    assert told.do(Place(str(tmp_path / "run"), {"b": {}}))[1] == "RunError"
    assert not told.engine.asked


def test_a_worker_with_another_engine_than_the_drivers_is_refused(tmp_path):
    told = Told(tmp_path)
    _, kind, error = told.do(identity={**told.engine.identity(), "answers": "5"})
    assert kind == "EngineError"
    assert re.search("answers is 4 on the node .* and 5 where the build was begun; give all nodes the same", error)
    assert not told.engine.asked


@pytest.mark.parametrize(
    ("missing", "batch_size", "in_flight", "workers", "batches"),
    [
        (1000, 32, None, 8, 1),  # an engine that runs batches
        (1000, 256, 1024, 8, 31),  # kept full by eight fills, were there enough work
        (10_000, 256, 1024, 8, 32),
        (8, 256, 1024, 8, 1),  # no worker stays idle
        (1, 512, 256, 1, 1),
    ],
)
def test_an_engine_is_kept_full_and_no_worker_idle(missing, batch_size, in_flight, workers, batches):
    host = OpenaiEngine(engine="openai", base_urls=("http://a/v1",), in_flight=in_flight) if in_flight else None
    assert _batches_a_call(missing, batch_size, host, Pool(workers, 1, 0)) == batches


def test_a_cluster_that_does_not_answer_is_told_at_once(monkeypatch):
    pytest.importorskip("ray")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{probe.getsockname()[1]}")
        with pytest.raises(ConfigError, match="RAY_ADDRESS: no Ray cluster at"), connected():
            pass


def test_a_missing_ray_is_told_by_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fusedata\[ray\]'"), connected():
        pass


# On a cluster


@pytest.mark.slow
def test_a_build_on_a_cluster_has_the_parts_and_the_bytes_of_one_in_this_process_and_is_quiet(nodes, tmp_path):
    assert nodes.build(tmp_path, tmp_path / "run") == ""
    assert_whole(tmp_path, tmp_path / "run")
    for stage in ("prompts", "responses", "verdicts", "rewards"):
        assert parts(tmp_path / "run", stage) == parts(tmp_path / "whole", stage)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["local", "ray"])
def test_a_build_that_was_begun_in_one_place_is_finished_in_the_other(nodes, bucket, tmp_path, first):
    def make(place: str, **how: object) -> None:
        if place == "ray":
            nodes.build(tmp_path, bucket, **how)
        else:
            build(tmp_path, on_ray=False, **how).run(bucket)

    with pytest.raises(Stopped):
        make(first, seconds=0.02, reporter=AtStage("sample", 40, stop))
    kept = parts(bucket, "responses")
    assert 40 <= len(kept) * BATCH < ALL
    for path in tmp_path.glob("asked-*"):
        path.unlink()
    make("local" if first == "ray" else "ray")
    assert len(asked(tmp_path)) == ALL - len(kept) * BATCH
    assert kept.items() <= parts(bucket, "responses").items()
    assert_whole(tmp_path, bucket)


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_no_more_than_the_batches_in_flight(nodes, store, bucket, tmp_path):
    kinds, writes = iter(FAULTS), itertools.count()
    store.fault = lambda _, method: next(kinds, "") if method == "PUT" and next(writes) % 8 == 3 else ""
    try:
        nodes.build(tmp_path, bucket, seconds=0.02, fault="die")
    finally:
        store.fault = lambda *_: ""
    assert (tmp_path / "fault").exists()
    assert set(FAULTS) < set(store.faults)
    keys = asked(tmp_path)
    assert len(keys) - len(set(keys)) <= BATCH  # the batch that it died in
    assert_whole(tmp_path, bucket)


@pytest.mark.slow
def test_a_node_that_is_taken_away_with_an_engine_costs_no_more_than_the_batches_in_flight(nodes, tmp_path):
    lose_node = partial(remove_node, tmp_path)
    try:
        nodes.build(tmp_path, tmp_path / "run", seconds=0.2, reporter=AtStage("sample", 20, lose_node))
    finally:
        nodes.do(add_node)
    keys = asked(tmp_path)
    assert len(keys) - len(set(keys)) <= 2 * BATCH
    assert_whole(tmp_path, tmp_path / "run")


@pytest.mark.slow
def test_a_plan_is_not_made_anew_when_the_node_that_made_it_is_lost(nodes, tmp_path):
    (tmp_path / "note").write_text("0")
    assert nodes.do(kept_though_a_node_is_lost, tmp_path / "note") == [0, 0, 0]


@pytest.mark.slow
def test_a_build_whose_driver_is_killed_is_resumed_and_what_failed_is_tried_again(nodes, tmp_path):
    (tmp_path / "refuse").touch()
    where = {**os.environ, "PYTHONPATH": IMPORTED, "RAY_ADDRESS": nodes.address}
    command = [sys.executable, Path(__file__).with_name("ray_builds.py"), tmp_path, "0.3"]
    driver = subprocess.Popen(command, env=where, start_new_session=True)
    kept = {}
    while driver.poll() is None and not (len(kept) >= 2 and failed(kept)):
        time.sleep(0.05)
        kept = parts(tmp_path / "run", "responses")
    driver.send_signal(signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL
    (tmp_path / "refuse").unlink()
    kept = parts(tmp_path / "run", "responses")
    nodes.build(tmp_path, tmp_path / "run")
    whole = parts(tmp_path / "run", "responses")
    assert {name: part for name, part in kept.items() if name not in failed(kept)}.items() <= whole.items()
    assert not failed(whole)
    times = Counter(asked(tmp_path))
    assert max(times.values()) <= 2
    twice = [key for key, count in times.items() if count == 2 and key[0] not in REFUSED]
    assert len(twice) <= 2 * BATCH  # the batches that the two engines were in
    assert_whole(tmp_path, tmp_path / "run")


@pytest.mark.slow
def test_a_batch_that_kills_every_worker_ends_the_build_in_one_sentence_and_keeps_the_others(nodes, tmp_path):
    (tmp_path / "poison").touch()
    told = r"^sample test/echo: a piece of work was begun 4 times, and its worker died each time .*; finished parts are kept"
    with pytest.raises(EngineError, match=told) as raised:
        nodes.build(tmp_path, tmp_path / "run", fault="poison")
    assert raised.value.__notes__ == [""]
    assert max(Counter(asked(tmp_path)).values()) == 4
    (tmp_path / "poison").unlink()
    kept = parts(tmp_path / "run", "responses")
    nodes.build(tmp_path, tmp_path / "run")
    assert kept.items() <= parts(tmp_path / "run", "responses").items()
    assert_whole(tmp_path, tmp_path / "run")


@pytest.mark.slow
def test_a_task_of_the_planning_that_kills_every_worker_is_begun_four_times_and_told(nodes, tmp_path):
    (tmp_path / "run.json").write_text('{"recipe": {}, "tables": {}}')
    with pytest.raises(RunError, match=r"^sample test/echo: planning: a piece of work was begun 4 times"):
        nodes.do(kill_what_plans, tmp_path)
    assert len([*tmp_path.glob("tried-*")]) == 4


@pytest.mark.slow
def test_an_error_in_a_worker_is_the_one_sentence_that_it_would_be_here(nodes, tmp_path):
    with pytest.raises(EngineError, match=r"^test/echo: gone\.$") as raised:
        nodes.build(tmp_path, tmp_path / "run", fault="raise")
    assert raised.value.__notes__ == [""]


@pytest.mark.slow
def test_an_engine_that_no_node_has_room_for_is_told(nodes):
    assert nodes.do(engines_that_fit, None, Ray()) == Pool(3, 1, 0)
    with pytest.raises(ConfigError, match="takes 4 GPUs, and the Ray cluster has none"):
        nodes.do(engines_that_fit, VllmEngine(engine="vllm", tensor_parallel_size=4), Ray())
    with pytest.raises(ConfigError, match="takes 2 processors, which no node of the Ray cluster has"):
        nodes.do(engines_that_fit, None, Ray(cpus=2))
