"""A real Ray cluster of several nodes, and the driver of the builds on it, in a process and a session of their own.

Ray sweeps the process groups of what it started when that ends, and nodes that the process of the tests starts are in
its group: one whole run of the tests was killed that way. From a session of its own no signal to a group reaches them.
"""

import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from ray_builds import build, nodes_of_engines

from fusedata.on_ray.cluster import connected, elsewhere, everywhere, kept, nodes
from fusedata.on_ray.pools import engine_pool
from fusedata.on_ray.tries import counter
from fusedata.on_ray.workers import Place

NODE = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80 << 20}
_HELD: list[Any] = []
"""The cluster, in the process that holds it."""


class Cluster:
    """The process of the cluster: every act that it is given runs there, one after another."""

    def __init__(self, nodes: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._process = ProcessPoolExecutor(1, context, initializer=_start, initargs=(nodes,))
        self.address: str = self.do(_address)

    def do(self, act: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        return self._process.submit(act, *arguments, **more).result(timeout=300)

    def build(self, folder: Any, out: Any, **how: Any) -> str:
        """Build into `out`, and give what the terminal was shown."""
        return self.do(_build, folder, out, **how)


@contextmanager
def cluster_of(nodes: int) -> Iterator[Cluster]:
    cluster = Cluster(nodes)
    try:
        yield cluster
        cluster.do(_end)
    finally:
        for process in list(cluster._process._processes.values()):
            process.kill()  # where it hangs; Ray's processes share its fate
        cluster._process.shutdown()


def _start(nodes: int) -> None:
    os.setsid()
    threading.Thread(target=_end_with_the_tests, daemon=True).start()
    from ray.cluster_utils import Cluster as Nodes

    held = Nodes(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    for _ in range(nodes - 1):
        held.add_node(**NODE)
    os.environ["RAY_ADDRESS"] = held.address
    _HELD.append(held)


def _end_with_the_tests() -> None:
    """Leave no cluster behind, even where the tests are killed."""
    tests = multiprocessing.parent_process()
    assert tests
    tests.join()
    os._exit(1)  # and Ray's processes with it: they share its fate


def _address() -> str:
    return _HELD[0].address


def _end() -> None:
    _HELD.pop().shutdown()


def _build(folder: Any, out: Any, **how: Any) -> str:
    """Build, and give what was printed, as a note of what is raised."""
    with tempfile.TemporaryFile() as file:
        try:
            with _printing_to(file.fileno()):
                build(folder, **how).run(out)
        except Exception as error:
            error.add_note(_read(file))
            raise
        return _read(file)


def _read(file: Any) -> str:
    file.seek(0)
    return file.read().decode()


@contextmanager
def _printing_to(file: int) -> Iterator[None]:
    held = [os.dup(1), os.dup(2)]
    for number in (1, 2):
        os.dup2(file, number)
    try:
        yield
    finally:
        for number, before in zip((1, 2), held, strict=True):
            os.dup2(before, number)
            os.close(before)


def remove_node(folder: Any = None) -> None:
    """Take a node away, as a machine that loses its power: one where engines of the build of `folder` are, if given."""
    busy = nodes_of_engines(folder) if folder else None
    lost = [node for node in _HELD[0].worker_nodes if busy is None or node.node_id in busy]
    _HELD[0].remove_node(lost[0], allow_graceful=False)


def add_node() -> None:
    _HELD[0].add_node(**NODE)


def kill_what_plans(folder: Any) -> None:
    """Have a task of the planning kill its worker, each time."""
    with connected():
        elsewhere([partial(_killed, Place(str(folder), {}, counter()), folder)])


def _killed(seen: Place, folder: Any) -> Any:
    with seen.begun("sample test/echo: planning"):
        (folder / f"tried-{os.getpid()}").touch()
        os.kill(os.getpid(), signal.SIGKILL)


def kept_though_a_node_is_lost(note: Any) -> list[int]:
    """Give what the nodes read in a file, which says something else when one of them is lost."""
    import ray

    with connected():
        made = [kept(reference) for _, reference in everywhere(partial(_large, note))]
        note.write_text("1")
        remove_node()
        try:
            return [int(ray.get(one)[0]) for one in made]
        finally:
            add_node()


def _large(note: Any) -> tuple[None, Any]:
    """Make what does not travel with the answer, but stays where it was made."""
    return None, np.full(1 << 17, int(note.read_text()))


def engines_that_fit(host: Any, sizes: Any) -> Any:
    with connected():
        return engine_pool(host, sizes, "m", nodes())
