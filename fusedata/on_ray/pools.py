"""How many workers of a kind fit into the nodes of a cluster, and what each of them takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fusedata.errors import ConfigError
from fusedata.profile import OpenaiEngine, RewardHost, VllmEngine
from fusedata.profile import Ray as Sizes
from fusedata.sample.vllm_arguments import is_cpu_build

if TYPE_CHECKING:
    from fusedata.profile import EngineHost

Nodes = Sequence[Mapping[str, Any]]
"""The resources of each node that is alive, as Ray names them."""
_CHECK_CPUS = 8
"""Processors that a verifier takes where the profile does not say: more of them start no faster."""


@dataclass(frozen=True)
class Pool:
    """How many workers run side by side, and what each of them takes."""

    size: int
    cpus: int
    gpus: int


def engine_pool(host: "EngineHost | None", sizes: Sizes, name: str, nodes: Nodes) -> Pool:
    """Size the pool of a source model's engines; one that asks servers is one. Raises ConfigError.

    vLLM's CPU build runs on processors where there is no GPU, unless it is to be spread over several.
    """
    if isinstance(host, OpenaiEngine):
        return Pool(1, sizes.cpus, 0)
    gpus = host.gpus if host else 0
    if isinstance(host, VllmEngine) and gpus == 1 and is_cpu_build() and not _most(nodes, "GPU"):
        gpus = 0
    return _pool(gpus, sizes.engines, sizes.cpus, name, nodes)


def reward_pool(host: RewardHost, sizes: Sizes, nodes: Nodes) -> Pool:
    """Size the pool of reward models. Raises ConfigError."""
    if host.server is not None:
        return Pool(1, sizes.cpus, 0)
    return _pool(int(host.device != "cpu"), sizes.rewards, sizes.cpus, "the reward model", nodes)


def check_pool(workers: int | None, sizes: Sizes, nodes: Nodes) -> Pool:
    """Size the pool of verifiers, of `workers` processors each. Raises ConfigError."""
    smallest = min((cpus for node in nodes if (cpus := has(node, "CPU"))), default=1)
    return _pool(0, sizes.checks, workers or min(_CHECK_CPUS, smallest), "the check", nodes)


def _pool(gpus: int, asked: int | None, cpus: int, name: str, nodes: Nodes) -> Pool:
    """Fit workers into the nodes."""
    if gpus and not _most(nodes, "GPU"):
        remedy = "start its nodes with --num-gpus and wait until they have joined, or change the profile"
        raise ConfigError(f"{name}: takes {gpus} GPUs, and the Ray cluster has none; {remedy}.")
    room = sum(min(has(node, "CPU") // cpus, has(node, "GPU") // gpus if gpus else 1 << 30) for node in nodes)
    if not room:
        takes = f"{gpus} GPUs and " if gpus else ""
        remedy = "add such a node, or take less in the profile"
        raise ConfigError(f"{name}: takes {takes}{cpus} processors, which no node of the Ray cluster has; {remedy}.")
    return Pool(asked or room, cpus, gpus)


def has(node: Mapping[str, Any], what: str) -> int:
    """Give how many whole pieces of a resource a node has."""
    return int(node.get(what, 0))


def _most(nodes: Nodes, what: str) -> int:
    return max((has(node, what) for node in nodes), default=0)
