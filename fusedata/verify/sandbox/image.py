"""Making the sandbox image: from a base image, or from a root file system on disk where no registry is in reach."""

import io
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fusedata.assets import asset
from fusedata.errors import ConfigError, VerifierError
from fusedata.verify.sandbox.engine import RUNNER_FILES, connect, first_line

if TYPE_CHECKING:
    import docker

DEFAULT_BASE: Final = "python:3.12-slim"
_FILES: Final = ("Dockerfile", *RUNNER_FILES)


def build_image(name: str = "fusedata-sandbox", *, base: str | None = None, base_rootfs: Path | None = None) -> str:
    """Build the image `name` and give its digest; `base` is an image, `base_rootfs` a folder or a tar archive.

    Raises VerifierError with the engine's own last words where it cannot be built, ConfigError for a bad folder.
    """
    import docker

    client = connect()
    try:
        if base_rootfs is not None:
            base = f"{name}-base"
            _import_rootfs(client, base_rootfs, base)
        image, _ = client.images.build(
            fileobj=_context(), custom_context=True, tag=name, buildargs={"BASE": base or DEFAULT_BASE}, rm=True
        )
    except docker.errors.BuildError as error:
        steps = [line["stream"].strip() for line in error.build_log if line.get("stream", "").strip()]
        raise VerifierError(f"{_no_image(name, error)} The last step: {steps[-1] if steps else 'none'}") from None
    except docker.errors.DockerException as error:
        raise VerifierError(_no_image(name, error)) from None
    finally:
        client.close()
    return str(image.id)


def _no_image(name: str, error: Exception) -> str:
    return (
        f"The image {name} cannot be built: {first_line(error)}. Where the base cannot be pulled, make a root file"
        " system (debootstrap --variant=minbase --include=python3,python3-numpy,python3-sortedcontainers bookworm DIR)"
        " and use --base-rootfs DIR."
    )


def _context() -> io.BytesIO:
    """The files of the image, and no others, as a tar archive of fixed times and owners."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in _FILES:
            content = asset("sandbox", name).read_bytes()
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    stream.seek(0)
    return stream


def _import_rootfs(client: "docker.DockerClient", rootfs: Path, name: str) -> None:
    """Give the engine a root file system as an image."""
    if rootfs.is_file():
        _load(client, rootfs.open("rb"), name)
    elif any((rootfs / "usr" / "bin").glob("python3*")):
        packed = ["tar", "--numeric-owner", "--one-file-system", "-C", str(rootfs), "-c", "."]
        with subprocess.Popen(packed, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:  # noqa: S603
            _load(client, process.stdout, name)
        if process.returncode:
            raise ConfigError(f"{rootfs}: cannot be packed by tar (status {process.returncode}); try it as root.")
    else:
        raise ConfigError(f"{rootfs}: is no root file system with a usr/bin/python3; make one with debootstrap.")


def _load(client: "docker.DockerClient", stream: Any, name: str) -> None:  # noqa: ANN401 - a readable file
    with stream:
        client.api.import_image_from_stream(stream, repository=name, tag="latest")
