"""A build on Ray, its corpora too: the same files as here, whatever reads them. Ray runs in processes of its own."""

import os
import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import recipe_over, write_corpus
from ray_builds import make_engine, make_reward
from test_collect_parts import SIZE, corpora
from test_contamination_build import DUCKS, TABLES, fill

import fusedata
from fusedata.build import Build
from fusedata.on_ray import OnRay, Seams
from fusedata.on_ray.cluster import connected
from fusedata.on_ray.pools import Pool
from fusedata.on_ray.stages import _batches_a_call, _slices
from fusedata.profile import Profile, Ray, RewardHost

IMPORTED = os.pathsep.join([str(Path(__file__).parent), str(Path(fusedata.__file__).parents[1])])


class InParts(Build):
    """A build whose corpora are read on the cluster, though they are small."""

    def _cluster(self, recipe, run):
        if not self.on_ray:
            return nullcontext()
        return OnRay(Seams(recipe, self.profile, self.make_engine, self.make_reward, self.open_check), run, 0, SIZE)


def recipe(folder: Path):
    """All that differs between stages: corpora of several files, carried responses, filters, a screen, both judges."""
    tables = [{**corpus.model_dump(exclude_defaults=True), "id": corpus.id} for corpus, _ in corpora(folder)]
    rows = [
        {"question": f"What is {n} plus {n}?", "answer": str(2 * n), "said": f"The answer is {n + 9}."}
        for n in range(40)
    ]
    rows[0]["question"] = DUCKS
    fill(folder / "benchmarks", {name: table for name, table in TABLES.items() if "gsm8k" in name})
    tables[0]["path"] = "/proc/self/cwd/lines"  # where the workers are there is no such folder
    path = write_corpus(folder / "carried.jsonl", rows)
    carried = {"responses": {"column": "said", "source_model": "human"}, "sampled": False, "license": "mit"}
    own = {"id": "test/carried", "path": str(path), "prompt": "question", "answer": "answer", **carried}
    return recipe_over(
        path,
        corpora=[*tables[:2], own],
        source_models=[{"id": "test/echo", "samples": 3, "license": "mit"}],
        filters={"near_duplicates": 0.9, "max_chars": 200},
        screen={"max_chars": 16},
    )


def build(folder: Path, *, on_ray: bool) -> Build:
    sizes = Ray(engines=1, rewards=1, checks=1)
    held = str(folder / "benchmarks")
    profile = Profile(name="twins", reward=RewardHost(batch_size=16), ray=sizes, benchmarks=held)
    return InParts(recipe(folder), profile, partial(make_engine, folder, 0.0, ""), make_reward, on_ray=on_ray)


def files(run: Path) -> dict[str, bytes]:
    """All that a run holds, but for its locks."""
    held = (path for path in run.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(run)): path.read_bytes() for path in held}


@pytest.mark.parametrize(("missing", "batches", "size"), [(1, 1, 4), (70_001, 1, 32), (999, 7, 1000), (5, 3, 1 << 20)])
def test_slices_hold_every_batch_once_and_whole_pieces_of_no_more_requests_than_a_reader_plans(missing, batches, size):
    cut = [(row["first"], row["end"]) for table in _slices(missing, batches, size) for row in table.to_pylist()][::-1]
    assert [batch for first, end in cut for batch in range(first, end)] == list(range(missing))
    assert all(first % batches == 0 for first, _ in cut)
    assert max(end - first for first, end in cut) * size <= max(1 << 19, batches * size)


def test_no_stage_has_more_than_some_ten_thousand_calls():
    assert _batches_a_call(3_000_000, 32, None, Pool(8, 1, 0)) == 300


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray")
def test_a_build_on_ray_has_every_file_of_a_build_here_its_corpora_read_by_the_cluster(tmp_path, monkeypatch):
    where = {**os.environ, "PYTHONPATH": IMPORTED}
    where.pop("RAY_ADDRESS", None)
    command = [sys.executable, __file__, tmp_path]
    subprocess.run(command, check=True, env=where, start_new_session=True, timeout=500)
    monkeypatch.chdir(tmp_path)
    build(tmp_path, on_ray=False).run(tmp_path / "here")
    here, there = files(tmp_path / "here"), files(tmp_path / "ray")
    assert len({name.split("/")[0] for name in here}) == 8
    assert "in benchmark gsm8k" in here["dataset/sft/README.md"].decode()
    assert sorted(there) == sorted(here)
    assert [name for name in here if there[name] != here[name]] == []


if __name__ == "__main__":
    os.chdir("/")  # where the cluster's processes are: a relative folder is the driver's
    with connected():
        os.chdir(sys.argv[1])
        build(Path(sys.argv[1]), on_ray=True).run(Path("ray"))
