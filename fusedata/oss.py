"""Alibaba's object storage for fsspec, by the company's own client: what a run needs, and no more.

That client repeats what fails for a while, and puts an object only where there is none when it is told to, which the
older packages for fsspec do not pass on.
"""

import os
from http import HTTPStatus
from io import BytesIO
from typing import Any, cast

import alibabacloud_oss_v2 as sdk
from alibabacloud_oss_v2.exceptions import BaseError, OperationError, ServiceError
from fsspec import AbstractFileSystem, register_implementation
from upath.implementations.cloud import CloudPath
from upath.registry import register_implementation as register_path

from fusedata.errors import ConfigError

_TRIES = 6


class Oss(AbstractFileSystem):  # type: ignore[misc] # fsspec tells no types
    """Objects of OSS as files, at the endpoint and with the keys that the environment states. Raises OSError."""

    protocol = "oss"
    root_marker = ""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401
        """Connect to nothing yet. Raises ConfigError."""
        super().__init__(**options)
        for name in ("OSS_REGION", "OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"):
            if not os.environ.get(name):
                remedy = "runs on oss:// need the bucket's region (such as cn-hangzhou) and a key"
                raise ConfigError(f"{name}: this environment variable is not set; {remedy}.")
        config = sdk.config.load_default()
        config.credentials_provider = sdk.credentials.EnvironmentVariableCredentialsProvider()
        config.region, config.endpoint = os.environ["OSS_REGION"], os.environ.get("OSS_ENDPOINT")
        config.retry_max_attempts = _TRIES
        self._client = sdk.Client(config)

    def _ask(self, what: str, path: str, **more: object) -> Any:  # noqa: ANN401
        """Make a request about an object. Raises OSError."""
        bucket, _, key = path.partition("/")
        named = {"bucket": bucket, **({"key": key} if "prefix" not in more else {}), **more}
        request = "".join(word.capitalize() for word in what.split("_"))
        try:
            return getattr(self._client, what)(getattr(sdk, f"{request}Request")(**named))
        except BaseError as error:
            raise _translated(error, path) from error

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: object) -> None:
        """Put an object; the mode "create" puts it where there is none of its name. Raises FileExistsError, OSError."""
        self._ask("put_object", self._strip_protocol(path), body=value, forbid_overwrite=mode == "create")

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: object) -> bytes:
        """Give the content of an object. Raises OSError."""
        for left in reversed(range(_TRIES)):
            with self._ask("get_object", self._strip_protocol(path)).body as body:
                try:
                    return cast("bytes", body.read()[start:end])
                except OSError:  # the connection broke down in the middle
                    if not left:
                        raise
        raise AssertionError

    def _open(self, path: str, mode: str = "rb", **_: object) -> BytesIO:
        assert mode == "rb"
        return BytesIO(self.cat_file(path))

    def rm_file(self, path: str) -> None:
        """Remove an object, where it is there."""
        self._ask("delete_object", self._strip_protocol(path))

    def info(self, path: str, **_: object) -> dict[str, Any]:
        """Tell of an object, or of the folder that others stand for. Raises OSError."""
        path = self._strip_protocol(path).rstrip("/")
        try:
            return _file(path, self._ask("head_object", path).content_length)
        except FileNotFoundError:
            page = self._page(path, max_keys=1)
            if page.contents or page.common_prefixes:
                return _folder(path)
            raise

    def ls(self, path: str, detail: bool = True, **_: object) -> list[Any]:
        """List a folder. Raises OSError."""
        path, found, token = self._strip_protocol(path).rstrip("/"), [], ""
        bucket = path.partition("/")[0]
        while token is not None:
            page = self._page(path, delimiter="/", **({"continuation_token": token} if token else {}))
            found += [_file(f"{bucket}/{one.key}", one.size) for one in page.contents or ()]
            found += [_folder(f"{bucket}/{one.prefix}".rstrip("/")) for one in page.common_prefixes or ()]
            token = page.next_continuation_token
        if not found:
            found = [self.info(path)]
        return found if detail else [one["name"] for one in found]

    def _page(self, path: str, **more: object) -> Any:  # noqa: ANN401
        _, _, key = path.partition("/")
        return self._ask("list_objects_v2", path, prefix=f"{key}/" if key else "", **more)


class OssPath(CloudPath):
    """A path of such an object."""


def _file(name: str, size: int) -> dict[str, Any]:
    return {"name": name, "size": size, "type": "file"}


def _folder(name: str) -> dict[str, Any]:
    return {"name": name, "size": 0, "type": "directory"}


def _translated(error: BaseError, path: str) -> OSError:
    """Give the error of the client as one of Python's."""
    inner = error.unwrap() if isinstance(error, OperationError) else error
    status = inner.status_code if isinstance(inner, ServiceError) else 0
    if status == HTTPStatus.NOT_FOUND:
        return FileNotFoundError(path)
    if isinstance(inner, ServiceError) and inner.code == "FileAlreadyExists":
        return FileExistsError(path)
    return OSError(f"{inner.code}: {inner.message}" if isinstance(inner, ServiceError) else str(inner))


register_implementation("oss", Oss, clobber=True)
register_path("oss", OssPath, clobber=True)
