"""Runs on an object store: a real S3 server on loopback, with a proxy that answers with errors, cuts and loses."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from io import BytesIO
from pathlib import Path

import polars as pl
import pytest
from conftest import dataset_bytes
from object_servers import Alibaba, Google, ObjectServer, object_server
from ray_builds import PROMPTS, SAMPLES, asked
from ray_builds import build as ray_build
from runs import Engine, Stopped, Stopper, built, invoke, recipe
from s3_server import FAULTS, FaultyServer, faulty, s3_store
from test_mixture import mixture
from test_shards import build

from fusedata.errors import ConfigError, RunError, RunLockedError
from fusedata.inspect_ import opened, overview
from fusedata.lease import LEASE_S
from fusedata.mixture_status import status_of
from fusedata.opening import write_run
from fusedata.schema import RESPONSES, VERDICTS
from fusedata.shards import Shard
from fusedata.status import status
from fusedata.storage import place, remove
from fusedata.store import Parts, read_run

pytest.importorskip("moto")
pytest.importorskip("s3fs")
_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def proxy() -> Iterator[FaultyServer]:
    with s3_store() as server:
        yield server


@pytest.fixture
def root(proxy) -> Iterator[Path]:
    """A run folder of its own; the proxy does no harm at the beginning and the end."""
    yield place(f"s3://runs/r{next(_NUMBERS)}")
    proxy.fault = lambda *_: ""
    proxy.faults.clear()


@pytest.fixture(scope="module")
def others() -> Iterator[dict[str, tuple[FaultyServer, ObjectServer]]]:
    """Servers of Google's and Alibaba's kind, each behind a proxy; this process knows their addresses."""
    pytest.importorskip("gcsfs")
    pytest.importorskip("alibabacloud_oss_v2")
    with ExitStack() as stack:
        environment = stack.enter_context(pytest.MonkeyPatch.context())
        found = {}
        for scheme, handler, name in (("gs", Google, "STORAGE_EMULATOR_HOST"), ("oss", Alibaba, "OSS_ENDPOINT")):
            server = stack.enter_context(object_server(handler))
            proxy = stack.enter_context(faulty(server.server_port))
            environment.setenv(name, f"http://127.0.0.1:{proxy.server_port}")
            found[scheme] = proxy, server
        for name, value in {"REGION": "cn-x", "ACCESS_KEY_ID": "a", "ACCESS_KEY_SECRET": "b"}.items():
            environment.setenv(f"OSS_{name}", value)
        yield found


@pytest.fixture
def other(request, others) -> Iterator[tuple[FaultyServer, ObjectServer, Path]]:
    proxy, server = others[request.param]
    yield proxy, server, place(f"{request.param}://runs/r{next(_NUMBERS)}")
    proxy.fault, server.is_careless = (lambda *_: ""), False


def expected(tmp_path: Path) -> dict[str, bytes]:
    dataset = dataset_bytes(built(tmp_path, out="whole"))
    assert dataset
    return dataset


def finished(run: Path) -> dict[str, object]:
    return {str(p): p.stat().st_mtime for p in run.rglob("part-*.parquet")}


def test_a_build_on_an_object_store_gives_the_bytes_of_one_in_a_folder(root, tmp_path):
    assert build(recipe(tmp_path)).run(root)
    assert dataset_bytes(root) == expected(tmp_path)
    assert status(root).left == 0
    assert status(root).dataset.stale == ()
    assert not [path for path in root.rglob("*") if ".tmp" in path.name]


def test_a_mixture_on_an_object_store_gives_the_bytes_of_one_in_a_folder(root, tmp_path):
    both = mixture(tmp_path)
    both.run(tmp_path / "run")
    assert both.run(root)
    assert dataset_bytes(root) == dataset_bytes(tmp_path / "run")
    found = status_of(root)
    assert (found.left, found.dataset.stale) == (0, ())
    assert both.plan(root).keys() == both.plan(tmp_path / "run").keys()
    assert "SFT train" in invoke("inspect", str(root))


@pytest.mark.slow
def test_a_build_through_errors_resets_cut_and_lost_answers_gives_the_same_bytes(proxy, root, tmp_path):
    kinds = itertools.cycle(FAULTS)
    writes = itertools.count()
    proxy.fault = lambda _, method: next(kinds) if method != "GET" and next(writes) % 4 == 2 else ""
    engine = Engine()
    build(recipe(tmp_path), engine).run(root)
    assert set(FAULTS) < set(proxy.faults)
    proxy.fault = lambda *_: ""
    assert dataset_bytes(root) == expected(tmp_path)
    keys = [(request.prompt_id, request.sample) for request in engine.asked]
    assert len(keys) == len(set(keys))


@pytest.mark.slow
def test_a_build_and_its_resume_through_reads_that_fail_give_the_same_bytes_and_pay_for_nothing_twice(
    proxy, root, tmp_path
):
    kinds, reads = itertools.cycle(FAULTS), itertools.count()
    proxy.fault = lambda _, method: next(kinds) if method in {"GET", "HEAD"} and next(reads) % 4 == 2 else ""
    asked, engines = recipe(tmp_path), [Engine(), Engine()]
    for engine, reporter in zip(engines, [Stopper("sample", 10), None], strict=True):
        proxy.faults.clear()
        with pytest.raises(Stopped) if reporter else nullcontext():
            build(asked, engine, reporter).run(root)
        assert set(FAULTS) < set(proxy.faults)
    proxy.fault = lambda *_: ""
    keys = [(request.prompt_id, request.sample) for engine in engines for request in engine.asked]
    assert all(engine.asked for engine in engines)
    assert len(keys) == len(set(keys))
    assert dataset_bytes(root) == expected(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["sample", "verdicts", "rewards"])
def test_a_build_that_was_stopped_goes_on_and_pays_for_nothing_twice(root, tmp_path, stage):
    asked, engines = recipe(tmp_path), [Engine(), Engine()]
    with pytest.raises(Stopped):
        build(asked, engines[0], Stopper(stage, 1)).run(root)
    kept = finished(root)
    assert kept
    build(asked, engines[1]).run(root)
    assert kept.items() <= finished(root).items()
    first, second = ({(r.prompt_id, r.sample) for r in engine.asked} for engine in engines)
    assert not first & second
    assert dataset_bytes(root) == expected(tmp_path)


@pytest.mark.slow
def test_a_build_that_is_killed_again_and_again_leaves_whole_parts_and_gives_the_same_bytes(proxy, root, tmp_path):
    moments, kills = random.Random(8), 4
    for how in itertools.islice(itertools.cycle(["cut", "", "lost"]), kills):
        killed_at_put(proxy, moments.randrange(3, 20), how, tmp_path, root)
        for path in root.rglob("*.parquet"):
            pl.read_parquet(BytesIO(path.read_bytes()))
        with pytest.raises(RunLockedError, match=r"wait for it \(or \d+ seconds, where it was killed\)"):
            ray_build(tmp_path, on_ray=False).run(root)
        lease = max(root.glob(".lease-*"))
        assert 0 < json.loads(lease.read_bytes())["expires"] - time.time() <= LEASE_S
        lease.write_bytes(json.dumps({"owner": "killed", "expires": time.time()}).encode())
    ray_build(tmp_path, on_ray=False).run(root)
    keys = asked(tmp_path)
    assert len(set(keys)) == PROMPTS * SAMPLES
    assert len(keys) - len(set(keys)) <= kills * 4  # the batch that it was killed in
    ray_build(tmp_path, on_ray=False).run(tmp_path / "whole")
    assert dataset_bytes(root) == dataset_bytes(tmp_path / "whole")


def killed_at_put(proxy: FaultyServer, number: int, how: str, folder: Path, run: Path) -> None:
    """Build into `run` by a process of its own, which is killed as it puts its `number`-th object; `how` that ends."""
    puts = itertools.count(1)

    def fault(_: int, method: str) -> str:
        if method != "PUT" or next(puts) != number:
            return ""
        process.kill()
        return how

    proxy.fault = fault
    command = [sys.executable, Path(__file__).with_name("ray_builds.py"), folder, "0", str(run)]
    process = subprocess.Popen(command)
    assert process.wait() == -signal.SIGKILL
    proxy.fault = lambda *_: ""


def test_an_upload_that_is_cut_leaves_no_part(proxy, root):
    parts = Parts(root / "responses" / ("0" * 16), RESPONSES)
    proxy.fault = lambda _, method: "cut" if method == "PUT" else ""
    with pytest.raises(RunError, match=r"part-a\.parquet: cannot be written"):
        parts.write("a", response("x"))
    proxy.fault = lambda *_: ""
    assert parts.paths() == []
    assert parts.done().height == 0


def response(text: str) -> pl.DataFrame:
    row = dict.fromkeys(RESPONSES.names()) | {"prompt_id": "p", "source_model": "m", "sample": 0, "text": text}
    return pl.DataFrame([row], schema=RESPONSES)


def verdict(answer: str) -> pl.DataFrame:
    row = dict.fromkeys(VERDICTS.names()) | {"prompt_id": "p", "source_model": "m", "sample": 0, "answer": answer}
    return pl.DataFrame([row], schema=VERDICTS)


def test_of_two_writers_of_one_batch_the_first_counts(root):
    parts = Parts(root / "responses" / ("0" * 16), RESPONSES)
    for text in ("first", "second"):
        parts.write("a", response(text))
    assert parts.scan().collect()["text"].to_list() == ["first"]


def test_a_verdict_by_another_answer_takes_the_place_of_the_old_one(root):
    parts = Parts(root / "verdicts" / ("0" * 16), VERDICTS)
    for answer in ("4", "5"):
        parts.write("a", verdict(answer))
    assert parts.scan().collect()["answer"].to_list() == ["5"]


def test_a_second_writer_is_refused_until_the_first_is_gone_or_its_lease_is_over(root):
    with write_run(root, "sums"):
        with (
            pytest.raises(RunLockedError, match="another process is writing this run; wait for it"),
            write_run(root, "sums"),
        ):
            pass
        (lease,) = root.glob(".lease-*")
    assert json.loads(lease.read_bytes())["expires"] == 0
    place(str(lease)).write_bytes(json.dumps({"owner": "killed", "expires": time.time() + 60}).encode())
    with pytest.raises(RunLockedError), write_run(root, "sums"):
        pass
    place(str(lease)).write_bytes(json.dumps({"owner": "killed", "expires": time.time() - 1}).encode())
    with write_run(root, "sums"):
        assert [path.name for path in root.glob(".lease-*")] == [".lease-000000002"]


@pytest.mark.slow
def test_the_readers_open_a_url(root, tmp_path):
    build(recipe(tmp_path)).run(root)
    whole = built(tmp_path, out="whole")
    shown = [invoke("status", run, columns=500).replace(str(run), "RUN") for run in (root, whole)]
    assert shown[0] == shown[1]
    assert overview(opened(root)).counts == overview(opened(whole)).counts
    assert read_run(root).state["tables"] == read_run(whole).state["tables"]
    assert "answer is" in invoke("inspect", str(root))


@pytest.mark.slow
def test_a_stage_that_is_made_anew_is_removed_there_first(root, tmp_path):
    build(recipe(tmp_path)).run(root)
    before = finished(root)
    build(recipe(tmp_path)).run(root, force=("rewards",))
    again = {path for path, when in finished(root).items() if before.get(path) != when}
    assert again == {path for path in before if "/rewards/" in path}


@pytest.mark.slow
@pytest.mark.parametrize("other", ["gs", "oss"], indirect=True)
def test_a_build_on_other_stores_through_errors_gives_the_same_bytes(other, tmp_path):
    proxy, _, out = other
    kinds, writes = iter(FAULTS), itertools.count()
    proxy.fault = lambda _, method: next(kinds, "") if method in {"PUT", "POST"} and next(writes) % 6 == 2 else ""
    engine = Engine()
    build(recipe(tmp_path), engine).run(out)
    assert set(FAULTS) < set(proxy.faults)
    assert len(engine.asked) == len({(request.prompt_id, request.sample) for request in engine.asked})
    assert dataset_bytes(out) == expected(tmp_path)
    parts = set(finished(out))
    remove(out / "rewards")
    assert set(finished(out)) == {path for path in parts if "/rewards/" not in path} < parts


@pytest.mark.parametrize("other", ["gs", "oss"], indirect=True)
def test_other_stores_put_a_part_once_and_let_one_writer_in(other):
    _, _, out = other
    parts = Parts(out / "responses" / ("0" * 16), RESPONSES)
    for text in ("first", "second"):
        parts.write("a", response(text))
    assert parts.scan().collect()["text"].to_list() == ["first"]
    with write_run(out, "sums"), pytest.raises(RunLockedError), write_run(out, "sums"):
        pass


@pytest.mark.parametrize("other", ["gs", "oss"], indirect=True)
def test_other_stores_that_replace_what_they_should_not_are_refused(other):
    _, server, out = other
    server.is_careless = True
    with pytest.raises(RunError, match="the store replaces objects"), write_run(out, "sums"):
        pass


def test_a_lease_whose_put_was_done_and_the_answer_lost_is_held(proxy, root):
    lost = iter(["lost"])
    proxy.fault = lambda _, method: next(lost, "") if method == "PUT" else ""
    with write_run(root, "sums"):
        assert proxy.faults["lost"] == 1


def test_a_store_that_ignores_conditions_is_refused(proxy, root):
    proxy.fault = lambda *_: "blind"
    with pytest.raises(RunError, match="the store replaces objects"), write_run(root, "sums"):
        pass


def test_what_a_store_needs_is_told(monkeypatch):
    pytest.importorskip("alibabacloud_oss_v2")
    from fusedata.oss import Oss

    monkeypatch.delenv("OSS_REGION", raising=False)
    Oss.clear_instance_cache()
    with pytest.raises(ConfigError, match="OSS_REGION: this environment variable is not set"):
        place("oss://runs/nowhere").exists()


def test_what_cannot_be_had_is_one_sentence(proxy, tmp_path):
    nowhere = place("s3://no-such-bucket/run")
    with pytest.raises(RunError, match=r"^s3://no-such-bucket/run: cannot be written \(.*\); choose another --out\.$"):
        build(recipe(tmp_path)).run(nowhere)
    with pytest.raises(RunError, match="is not a run folder"):
        status(place("s3://runs/none"))
    with pytest.raises(RunError, match="shards need file locks"):
        build(recipe(tmp_path)).run_shard(place("s3://runs/shards"), Shard(1, 2))
    with pytest.raises(ConfigError, match=r"memory://x: runs are not kept there; give s3://BUCKET/FOLDER, gs://"):
        place("memory://x")
    with pytest.raises(ConfigError, match=r"^--push does not go with --out s3://"):  # --on ray does
        invoke("build", "math", "--on", "ray", "--push", "--out", "s3://runs/x")
    assert place(str(tmp_path)) == tmp_path
    assert os.fspath(place("a/b")) == "a/b"
