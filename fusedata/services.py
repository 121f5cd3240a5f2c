"""What this machine reaches, asked with short timeouts and standard-library HTTP: the Docker engine, hubs, log-ins.

No answer here holds a token, a user name in a URL, or an exception's own words: those repeat what was sent.
"""

import http.client
import json
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

_DOCKER = "unix:///var/run/docker.sock"
_MISSING, _REFUSED = 404, 400


class Reached(NamedTuple):
    """Whether an address answers; `place` is its host, and `reason` says why not."""

    place: str
    reason: str = ""


def reach(url: str, seconds: float) -> Reached:
    """Send a HEAD to an endpoint; any answer but a server's fault will do. Proxies of the environment are used."""
    try:
        parts = urlsplit(url)
        place = f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname or ""
    except ValueError:
        return Reached("the endpoint", "it is no URL")
    if parts.scheme not in {"http", "https"} or not place:
        return Reached("the endpoint", "it is no http(s) URL")
    bare = f"{parts.scheme}://{place}{parts.path or '/'}"
    try:
        request = urllib.request.Request(bare, method="HEAD", headers={"User-Agent": "fusedata-doctor"})  # noqa: S310
        with urllib.request.build_opener(_Here).open(request, timeout=seconds):
            return Reached(place)
    except urllib.error.HTTPError as error:
        return Reached(place, f"it answers {error.code}" if error.code >= http.HTTPStatus.INTERNAL_SERVER_ERROR else "")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Reached(place, _kind(error))


class _Here(urllib.request.HTTPRedirectHandler):
    """Goes nowhere else: an answer that redirects is an answer."""

    def redirect_request(self, *_: object) -> None:
        return None


def _kind(error: BaseException) -> str:
    """What kind of error it is: never its own words."""
    inner = getattr(error, "reason", None)
    cause = inner if isinstance(inner, BaseException) else error
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    if isinstance(cause, socket.gaierror):
        return "the name is not known here"
    if isinstance(cause, OSError) and cause.errno:
        return os.strerror(cause.errno).lower()
    return type(cause).__name__


def modelscope_endpoint(environ: Mapping[str, str]) -> str:
    """Where modelscope's client goes, by its own environment variables."""
    told = environ.get("MODELSCOPE_ENDPOINT") or environ.get("MODELSCOPE_DOMAIN", "").strip() or "www.modelscope.cn"
    return told if told.lower().startswith(("http://", "https://")) else f"https://{told}"


def huggingface_login(environ: Mapping[str, str], file: Path) -> str:
    """Say where the token that huggingface_hub sends comes from; empty: there is none. The token is not kept."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if environ.get(name, "").strip():
            return name
    return "hf auth login" if _filled(file) else ""


def modelscope_login(environ: Mapping[str, str]) -> str:
    """Say where the token that modelscope's client sends comes from; empty: there is none."""
    if "MODELSCOPE_API_TOKEN" in environ:
        return "MODELSCOPE_API_TOKEN" if environ["MODELSCOPE_API_TOKEN"].strip() else ""
    home = Path(environ.get("MODELSCOPE_HOME") or Path.home() / ".modelscope").expanduser()
    return "modelscope login" if _filled(home / "credentials" / "cookies") else ""


def _filled(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


class Docker(NamedTuple):
    """What the Docker engine says. `reason`: why it says nothing; `there`: it is there all the same."""

    place: str
    version: str = ""
    runtimes: tuple[str, ...] = ()
    image: str | None = None
    """The digest of the image that was asked for; None: the engine does not hold it."""
    reason: str = ""
    there: bool = False


def ask_docker(environ: Mapping[str, str], image: str, seconds: float) -> Docker:
    """Ask the engine that DOCKER_HOST names, or the usual socket."""
    host = environ.get("DOCKER_HOST") or _DOCKER
    kind, _, rest = host.partition("://")
    secured = kind == "tcp" and environ.get("DOCKER_TLS_VERIFY")
    if kind not in {"unix", "tcp", "http"} or secured:
        return Docker(f"{kind}://…", reason="only plain sockets are looked into here", there=True)
    place = rest if kind == "unix" else rest.rsplit("@", 1)[-1]
    try:
        told = _get(kind, place, "/info", seconds)
        held = _get(kind, place, f"/images/{quote(image)}/json", seconds)
        digest = held["Id"] if held else None
        return Docker(place, str(told["ServerVersion"]), tuple(sorted(told["Runtimes"])), digest)
    except PermissionError:
        return Docker(place, reason="this user may not use it", there=True)
    except (KeyError, TypeError, ValueError, http.client.HTTPException):
        return Docker(place, reason="something answers that is no Docker engine", there=True)
    except OSError as error:
        return Docker(place, reason=_kind(error))


def _get(kind: str, place: str, path: str, seconds: float) -> dict[str, Any]:
    """Ask for JSON; empty where the engine knows no such thing."""
    connection = _Unix(place, seconds) if kind == "unix" else http.client.HTTPConnection(place, timeout=seconds)
    try:
        connection.request("GET", path, headers={"Host": "docker"})
        answer = connection.getresponse()
        body = json.loads(answer.read())
    finally:
        connection.close()
    if answer.status == _MISSING:
        return {}
    if answer.status >= _REFUSED or not isinstance(body, dict):
        raise ValueError(answer.status)
    return body


class _Unix(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("docker", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
