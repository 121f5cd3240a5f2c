"""The Ray cluster that a build runs on: an existing one, or one of this machine for as long as the build takes."""

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fusedata import errors
from fusedata.errors import ConfigError, EngineError, FusedataError, MissingExtraError
from fusedata.on_ray.pools import Pool, has
from fusedata.store import first_line

LOGS = "FUSEDATA_RAY_LOGS"
"""The environment variable that lets Ray, and what workers print, write to the terminal."""
_KNOCK_SECONDS = 10.0


@contextlib.contextmanager
def connected() -> Iterator[None]:
    """Be connected to the cluster of RAY_ADDRESS, or to one of this machine that ends with the build.

    Raises ConfigError where no cluster answers, MissingExtraError. Whoever is connected already stays so.
    """
    if not os.environ.get(LOGS):
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # it warns of that in every process
    try:
        import ray
        import ray.data  # it sets its loggers up
    except ImportError as error:
        raise MissingExtraError("ray", "--on ray") from error
    if ray.is_initialized():
        yield
        return
    with _quiet():
        _connect(os.environ.get("RAY_ADDRESS") or "local")
        try:
            yield
        finally:
            ray.shutdown()


def _connect(address: str) -> None:
    import ray

    told = bool(os.environ.get(LOGS))
    local = {"include_dashboard": False} if address == "local" else {}
    level = logging.INFO if told else logging.CRITICAL
    try:
        _knock(address)
        with contextlib.nullcontext() if told else _no_stderr():
            ray.init(address=address, log_to_driver=told, logging_level=level, **local)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        remedy = "start one (`ray start --head`), or unset it to use this machine"
        raise ConfigError(f"RAY_ADDRESS: no Ray cluster at {address} ({first_line(error)}); {remedy}.") from error


def _knock(address: str) -> None:
    """Raise OSError where nothing listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and "/" not in host and port.isdigit():
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS):
            pass


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Take standard error from this process while Ray's own core starts, which tells there how it was told to be quiet.

    What goes wrong is raised.
    """
    sys.stderr.flush()
    held, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(held, 2)
        os.close(held)
        os.close(nothing)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray's loggers, and what its core tells a driver, off the terminal; it is in the files of Ray's session."""
    from ray._private import worker  # there is no public switch for what the core tells, which it prints to stdout

    told = bool(os.environ.get(LOGS))
    loggers = [logging.getLogger(name) for name in ("ray", "ray.data")]
    before = [logger.level for logger in loggers]
    for logger in loggers if not told else ():
        logger.setLevel(logging.CRITICAL)
    worker._worker_logs_enabled = told  # noqa: SLF001
    try:
        yield
    finally:
        worker._worker_logs_enabled = True  # noqa: SLF001
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def nodes() -> list[dict[str, Any]]:
    """Give the resources of each node of the cluster."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def receipts(dataset: Any, worker: type, arguments: dict[str, object], pool: Pool) -> Iterator[dict[str, Any]]:  # noqa: ANN401
    """Have every row of `dataset` done by a pool of `worker`, and give the receipts as they come.

    Raises the FusedataError that a worker met, EngineError where the cluster broke down.
    """
    from ray.data import ActorPoolStrategy

    told = dataset.map_batches(
        worker,
        batch_size=1,
        batch_format="pyarrow",
        fn_constructor_kwargs=arguments,
        compute=ActorPoolStrategy(min_size=1, max_size=pool.size, initial_size=pool.size),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
    )
    with _translated():
        for row in told.iter_rows():
            if row["kind"]:
                raise again(row["kind"], row["error"])
            yield row


def readings(dataset: Any, read: Callable[..., object], cpus: int = 0) -> Any:  # noqa: ANN401
    """Have slices read into pieces of work, on any node: beside the workers by one a node, or by tasks of `cpus`."""
    from ray.data import TaskPoolStrategy

    compute = TaskPoolStrategy(size=None if cpus else min(len(nodes()), dataset.num_blocks()))
    return dataset.map_batches(read, batch_size=1, batch_format="pyarrow", compute=compute, num_cpus=cpus)


def dataset_of(pieces: Iterator[Any]) -> Any:  # noqa: ANN401
    """Give Arrow tables as a dataset, a block each. They go to the object store, which spills to disk, one by one."""
    import ray

    held = ray.data.from_arrow_refs([ray.put(piece) for piece in pieces])
    context = held.context
    context.enable_progress_bars = context.print_on_execution_start = context.enable_auto_log_stats = False
    context.execution_no_progress_timeout_s = -1  # a call of an engine may take longer than any limit
    context.target_max_block_size = 1  # each batch is a block of its own, to be worked on by itself
    return held


def elsewhere(calls: Iterable[Callable[[], tuple[Any, Any]]]) -> list[tuple[Any, Any]]:
    """Have nodes make these calls: give what each says, and a reference to what it made, which stays with the nodes.

    Ray repeats them without end, so they count their tries. Raises the FusedataError that one of them met, EngineError
    where the cluster broke down.
    """
    import ray

    made = ray.remote(num_cpus=1, num_returns=2, max_retries=-1)(_made)
    return _found(lambda: [made.remote(call) for call in calls])


def everywhere(call: Callable[[], tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Have every node that works make this call: give what `elsewhere` does."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    working = [node["NodeID"] for node in ray.nodes() if node["Alive"] and has(node["Resources"], "CPU")]
    here = [NodeAffinitySchedulingStrategy(node, soft=True) for node in working]
    made = ray.remote(num_cpus=0, num_returns=2)(_made)
    return _found(lambda: [made.options(scheduling_strategy=node).remote(call) for node in here])


def kept(reference: Any) -> Any:  # noqa: ANN401
    """Put what a reference stands for on the driver's node, too, and refer to that. Raises EngineError.

    What a lost node held Ray makes anew, which may be something else by then.
    """
    import ray

    with _translated():
        return ray.put(ray.get(reference))


def _found(begin: Callable[[], list[tuple[Any, Any]]]) -> list[tuple[Any, Any]]:
    import ray

    with _translated():
        found = [(ray.get(told), reference) for told, reference in begin()]
    for (kind, said), _ in found:
        if kind:
            raise again(kind, said)
    return [(said, reference) for (_, said), reference in found]


def _made(call: Callable[[], tuple[Any, Any]]) -> tuple[tuple[str, Any], Any]:
    try:
        said, made = call()
    except FusedataError as error:
        return (type(error).__name__, str(error)), None
    return ("", said), made


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    import ray

    try:
        yield
    except ray.exceptions.RayError as error:
        remedy = f"finished parts are kept: the same command goes on from there ({LOGS}=1 lets Ray say more)"
        raise EngineError(f"The Ray cluster broke down ({_reason(error)}); {remedy}.") from error


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"{type(error).__name__}: {lines[-1].strip().rstrip('.')}"


def again(kind: str, text: str) -> FusedataError:
    """Give the error of a worker as it was raised there."""
    found = getattr(errors, kind, FusedataError)
    error: FusedataError = found.__new__(found)
    error.args = (text,)
    return error
