"""The Docker engine: is it there, has it the image, and what is left of containers of ours."""

import contextlib
import hashlib
from typing import TYPE_CHECKING, Final

from fusedata.assets import asset
from fusedata.errors import MissingExtraError, VerifierError

if TYPE_CHECKING:
    import docker

RUNNER_FILES: Final = ("runner.py", "child.py", "traces.py")
LABEL: Final = "fusedata.sandbox"
"""The label of every container of ours; its value is the process id of the host program."""


def connect() -> "docker.DockerClient":
    """A client of the Docker engine. Raises MissingExtraError without the package, VerifierError without the engine."""
    try:
        import docker
    except ModuleNotFoundError:
        raise MissingExtraError("sandbox", "Running programs in the sandbox") from None
    try:
        client = docker.from_env(timeout=120)
        client.ping()
    except docker.errors.DockerException as error:
        raise VerifierError(
            f"There is no Docker engine to run programs in ({first_line(error)}): install one"
            " (https://docs.docker.com/engine/install/), start it, and be allowed to use it, or name it in DOCKER_HOST."
        ) from None
    return client


def find_image(client: "docker.DockerClient", image: str, runtime: str) -> str:
    """The digest of the sandbox image. Raises VerifierError where it, or the runtime asked for, is not there."""
    import docker

    try:
        found: str = client.images.get(image).id
        runtimes = client.info().get("Runtimes") or {}
    except docker.errors.ImageNotFound:
        raise VerifierError(f"There is no image {image}: make it with `fusedata sandbox build`.") from None
    except docker.errors.DockerException as error:
        raise VerifierError(f"The Docker engine does not answer as it should: {first_line(error)}.") from None
    if runtime != "runc" and runtime not in runtimes:
        raise VerifierError(
            f"The Docker engine knows no runtime {runtime} (it has {', '.join(sorted(runtimes))}): install it and name"
            " it in the engine's daemon.json (https://gvisor.dev/docs/user_guide/quick_start/docker/), or use runc."
        )
    return found


def remove_stopped(client: "docker.DockerClient") -> None:
    """Take away containers that outlived a host process of ours: they ended with it, but are still listed."""
    import docker

    with contextlib.suppress(docker.errors.DockerException):
        for container in client.containers.list(all=True, filters={"label": LABEL, "status": "exited"}):
            container.remove()


def runner_digest() -> str:
    """The digest of the runner's files as this fusedata ships them."""
    content = b"".join(asset("sandbox", name).read_bytes() for name in RUNNER_FILES)
    return hashlib.sha256(content).hexdigest()[:16]


def first_line(error: Exception) -> str:
    """The first line of an engine's complaint, without its full stop."""
    return str(error).strip().partition("\n")[0].rstrip(".")[:300]
