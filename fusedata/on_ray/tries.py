"""How often a piece of work is begun: Ray repeats without end what a dead worker left, and it may be what killed it.

Ray's own bound counts calls of a dead worker, of which a lost node takes several in a moment. Here only what a worker
began counts, by an actor beside the driver.
"""

import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from fusedata.errors import FusedataError

TRIES = 4
"""How often a piece of work is begun whose workers, or their nodes, die."""


class Begun:
    """Counts how often each piece of work was begun, as long as it is not ended."""

    def __init__(self) -> None:
        """Count from nothing: an actor that Ray starts anew forgets, which only allows more tries."""
        self._counts: Counter[str] = Counter()

    def begin(self, piece: str) -> int:
        """Count one more."""
        self._counts[piece] += 1
        return self._counts[piece]

    def end(self, piece: str) -> None:
        """Forget a piece of work that is done."""
        self._counts.pop(piece, None)


def counter() -> Any:  # noqa: ANN401 - an actor's handle
    """Start a counter on the driver's node."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    begun = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Begun)
    return begun.options(scheduling_strategy=here).remote()


@contextlib.contextmanager
def counted(counter: Any, piece: bytes, kind: type[FusedataError], doing: str) -> Iterator[None]:  # noqa: ANN401
    """Do a piece of work; raise `kind` where it was begun too often. Without a counter (None) nothing is counted."""
    if counter is None:
        yield
        return
    import ray

    name = hashlib.sha256(piece).hexdigest()
    if ray.get(counter.begin.remote(name)) > TRIES:
        what = f"a piece of work was begun {TRIES} times, and its worker died each time (out of memory, or a crash?)"
        raise kind(f"{doing}: {what}; finished parts are kept: the same command goes on from there.")
    try:
        yield
    finally:
        counter.end.remote(name)
