"""Builds for the tests on Ray: recipe, makers that workers can import, engines that are slow, die or fail."""

import os
import signal
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from conftest import questions, recipe_over, write_corpus

from fusedata.build import Build, Silent
from fusedata.errors import EngineError
from fusedata.profile import Profile, Ray, RewardHost
from fusedata.sample.protocol import Completion
from fusedata.storage import place
from fusedata.testing import EchoEngine, HashReward

PROMPTS, SAMPLES = 30, 4
REFUSED = "0123456"
"""What the prompts begin with that a file `refuse` has the engine refuse."""


class Stopped(Exception):  # noqa: N818 - what Ctrl-C does to a build
    pass


class AtStage(Silent):
    """Calls `act` once, when `rows` rows of the stage whose name begins with `name` are done."""

    def __init__(self, name, rows, act):
        self.name, self.rows, self.act = name, rows, act

    @contextmanager
    def stage(self, name, total):
        def advance(count):
            if name.startswith(self.name) and self.act:
                self.rows -= count
                if self.rows <= 0:
                    act, self.act = self.act, None
                    act()

        yield advance


def stop():
    raise Stopped


class Engine(EchoEngine):
    """An echo that takes `seconds` a batch, and writes down in `folder` which keys it was asked for, and on which node.

    `fault` says what it does, once in the life of `folder`, in the middle of its third batch; "poison": each time that
    it is asked for one prompt, as long as `folder` holds a file of that name.
    """

    def __init__(self, folder: Path, seconds: float = 0.0, fault: str = "") -> None:
        super().__init__(answers=4)
        self.folder, self.seconds, self.fault = folder, seconds, fault

    def generate(self, batches):
        if (
            ray := sys.modules.get("ray")
        ) and ray.is_initialized():  # it connects to a cluster if it is asked unconnected
            (self.folder / f"node-{ray.get_runtime_context().get_node_id()}").touch()
        for batch in batches:
            time.sleep(self.seconds)
            for request in batch:
                with (self.folder / f"asked-{os.getpid()}").open("a") as file:
                    file.write(f"{request.prompt_id}/{request.sample}\n")
                if self.fault == "poison" and request.prompt_id.startswith("ff") and (self.folder / "poison").exists():
                    os.kill(os.getpid(), signal.SIGKILL)
            if self.fault in {"die", "raise"} and sum(1 for _ in (self.folder / f"asked-{os.getpid()}").open()) >= 10:
                self._fault()
            yield from super().generate([batch])

    def _fault(self) -> None:
        try:
            (self.folder / "fault").touch(exist_ok=False)
        except FileExistsError:
            return
        if self.fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        raise EngineError("test/echo: gone.")

    def _answer(self, request):
        if (self.folder / "refuse").exists() and request.prompt_id[0] in REFUSED:
            return Completion(None, "error", error="HTTP 500")
        return super()._answer(request)


def make_engine(folder: Path, seconds: float, fault: str, *_: object) -> Engine:
    return Engine(folder, seconds, fault)


def make_reward(*_: object) -> HashReward:
    return HashReward()


def recipe(folder: Path):
    return recipe_over(
        write_corpus(folder / "modulo.jsonl", questions(PROMPTS)),
        source_models=[{"id": "test/echo", "samples": SAMPLES, "license": "apache-2.0"}],
    )


def build(folder: Path, *, on_ray: bool = True, seconds: float = 0.0, fault: str = "", **more) -> Build:
    seams = {
        "make_engine": partial(make_engine, folder, seconds, fault),
        "make_reward": make_reward,
        "on_ray": on_ray,
        **more,
    }
    sizes = Ray(engines=2, rewards=1, checks=1)
    return Build(recipe(folder), Profile(name="twins", reward=RewardHost(batch_size=16), ray=sizes), **seams)


def nodes_of_engines(folder: Path) -> set[str]:
    """The nodes that engines were asked on."""
    return {path.name.removeprefix("node-") for path in folder.glob("node-*")}


def asked(folder: Path) -> list[str]:
    return [line for path in folder.glob("asked-*") for line in path.read_text().split()]


if __name__ == "__main__":  # FOLDER SECONDS: on Ray, into FOLDER/run; FOLDER SECONDS URL: in this process, into URL
    where = Path(sys.argv[1])
    out = place(sys.argv[3]) if sys.argv[3:] else where / "run"
    build(where, on_ray=not sys.argv[3:], seconds=float(sys.argv[2])).run(out)
