"""A twin of both hubs on 127.0.0.1, for their real clients: the parts of their APIs that reading a dataset takes.

    with HubServer() as server:
        server.add("org/name", {"train.jsonl": b"..."})
        server.fail("HEAD", r"resolve/.*", 503)
        ...  # HF_ENDPOINT or MODELSCOPE_ENDPOINT = server.url
        server.asked("GET")  # the paths that were asked for

To grow: a route is a method, a pattern and a function `(request, match) -> Reply`, added to `ROUTES`.
Covered: info, tree, HEAD and GET of files (large ones by redirect, ranges), ModelScope's tree and files,
bearer tokens, injected statuses, cut bodies, wrong bodies. Not covered: Xet, uploads, TLS.
"""

import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = 200
"""Files of at least so many bytes are "LFS": named by SHA-256 and, on Hugging Face, served by redirect."""


@dataclass
class Dataset:
    """One dataset: its files at each commit, and what its branches point to."""

    commits: dict[str, dict[str, bytes]]
    refs: dict[str, str]
    token: str | None = None  # who reads it must send this one

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commit = self.refs.get(revision, revision)
        return (commit, self.commits[commit]) if commit in self.commits else None


@dataclass
class Fault:
    """What goes wrong with requests whose "METHOD path?query" the pattern finds, so many times."""

    pattern: re.Pattern[str]
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None  # send so many bytes of the body, then close
    body: bytes | None = None  # send this instead, under the same headers
    times: int = 1_000_000
    swallow: int | None = None  # read so many bytes of the request's body, then close
    then: Callable[[], object] | None = None  # do this first: the client may not live to hear the reply


@dataclass
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Request:
    server: "HubServer"
    method: str
    path: str
    query: dict[str, str]
    headers: Any
    body: bytes = b""


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_sha(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def as_json(value: Any, status: int = 200, **headers: str) -> Reply:
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})


# --- Hugging Face ---------------------------------------------------------------------------------------------


def hf_error(status: int, code: str, message: str) -> Reply:
    return as_json({"error": message}, status, **{"X-Error-Code": code, "X-Error-Message": message})


def hf_state(request: Request, found: re.Match[str]) -> tuple[str, dict[str, bytes]] | Reply:
    """The commit and files of the dataset that the path names, or the hub's refusal."""
    dataset = request.server.datasets.get(found["id"])
    if dataset is None:
        return hf_error(401, "RepoNotFound", "Repository not found")
    sent = request.headers.get("Authorization")
    if dataset.token and sent != f"Bearer {dataset.token}":
        return hf_error(403 if sent else 401, "GatedRepo", f"Access to {found['id']} is restricted for {sent}.")
    state = dataset.at(unquote(found.groupdict().get("revision") or "main"))
    return state or hf_error(404, "RevisionNotFound", "Invalid rev id")


def hf_info(request: Request, found: re.Match[str]) -> Reply:
    state = hf_state(request, found)
    if isinstance(state, Reply):
        return state
    commit, files = state
    return as_json({"id": found["id"], "sha": commit, "siblings": [{"rfilename": name} for name in files]})


def hf_tree(request: Request, found: re.Match[str]) -> Reply:
    """Two entries a page, so that clients must follow the pages."""
    state = hf_state(request, found)
    if isinstance(state, Reply):
        return state
    entries = []
    for name, content in state[1].items():
        entry = {"type": "file", "path": name, "oid": git_sha(content), "size": len(content)}
        if len(content) >= LARGE:
            entry["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 130}
        entries.append(entry)
    start = int(request.query.get("cursor", 0))
    more = f'<{request.server.url}{request.path}?recursive=True&cursor={start + 2}>; rel="next"'
    return as_json(entries[start : start + 2], **({"Link": more} if len(entries) > start + 2 else {}))


def hf_file(request: Request, found: re.Match[str]) -> Reply:
    state = hf_state(request, found)
    if isinstance(state, Reply):
        return state
    commit, files = state
    content = files.get(unquote(found["name"]))
    if content is None:
        return hf_error(404, "EntryNotFound", "Entry not found")
    headers = {"X-Repo-Commit": commit, "ETag": f'"{git_sha(content)}"'}
    if len(content) < LARGE:
        return Reply(200, content, headers)
    digest = sha256(content)
    linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
    return Reply(302, b"", {**headers, **linked, "Location": f"{request.server.cdn}/cdn/{digest}"})


def cdn_file(request: Request, found: re.Match[str]) -> Reply:
    states = (state for dataset in request.server.datasets.values() for state in dataset.commits.values())
    blobs = {sha256(content): content for state in states for content in state.values()}
    return Reply(200, blobs[found["digest"]], {"ETag": f'"{found["digest"]}"'})


# --- ModelScope -----------------------------------------------------------------------------------------------


def ms_error(status: int, code: int, message: str) -> Reply:
    return as_json({"Code": code, "Success": False, "Message": message, "RequestId": "twin"}, status)


def ms_state(request: Request, found: re.Match[str]) -> tuple[str, dict[str, bytes]] | Reply:
    dataset = request.server.datasets.get(found["id"])
    if dataset is None:
        return ms_error(404, 10010205001, "数据集不存在")
    sent = request.headers.get("Authorization")
    if dataset.token and sent != f"Bearer {dataset.token}":
        return ms_error(403 if sent else 401, 10010101002, f"access denied for {sent}")
    return dataset.at(request.query.get("Revision", "master")) or ms_error(404, 10010205002, "revision not found")


def ms_tree(request: Request, found: re.Match[str]) -> Reply:
    state = ms_state(request, found)
    if isinstance(state, Reply):
        return state
    commit, files = state
    folders = {name.rpartition("/")[0] for name in files} - {""}
    entries = [{"Type": "tree", "Path": folder, "Name": folder, "Size": 0, "Sha256": ""} for folder in sorted(folders)]
    for name, content in files.items():
        size, digest = len(content), sha256(content)
        entries.append({"Type": "blob", "Path": name, "Name": name, "Size": size, "Sha256": digest})
    size = int(request.query.get("PageSize", 200))
    start = (int(request.query.get("PageNumber", 1)) - 1) * size
    data = {"Files": entries[start : start + size], "LatestCommitter": {"ShortId": commit[:8]}}
    return as_json({"Code": 200, "Success": True, "Data": data, "TotalCount": len(entries)})


def ms_file(request: Request, found: re.Match[str]) -> Reply:
    state = ms_state(request, found)
    if isinstance(state, Reply):
        return state
    content = state[1].get(request.query["FilePath"])
    return ms_error(404, 10010205003, "file not found") if content is None else Reply(200, content)


def ms_region(_request: Request, _found: re.Match[str]) -> Reply:
    return as_json({"Code": 200, "Data": {}})


# --- the server -----------------------------------------------------------------------------------------------

ID = r"(?P<id>[^/]+/[^/]+)"
REVISION = r"(?P<revision>[^/]+)"
ROUTES: list[tuple[str, str, Callable[[Request, re.Match[str]], Reply]]] = [
    ("GET", rf"/api/datasets/{ID}(?:/revision/{REVISION})?", hf_info),
    ("GET", rf"/api/datasets/{ID}/tree/{REVISION}", hf_tree),
    ("GET", rf"/(?:datasets/)?{ID}/resolve/{REVISION}/(?P<name>.+)", hf_file),
    ("GET", r"/cdn/(?P<digest>[0-9a-f]{64})", cdn_file),
    ("GET", rf"/api/v1/datasets/{ID}/repo/tree", ms_tree),
    ("GET", rf"/api/v1/(?:datasets|models)/{ID}/repo", ms_file),
    ("GET", r"/api/v1/repos/internalAccelerationInfo", ms_region),
]


class HubServer:
    """The server and what it holds: datasets, faults, and the log of requests ("METHOD path?query")."""

    routes = ROUTES

    def __init__(self) -> None:
        self.datasets: dict[str, Dataset] = {}
        self.faults: list[Fault] = []
        self.log: list[str] = []
        self.url = self.cdn = ""
        self._http: ThreadingHTTPServer | None = None

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"hub": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self.cdn = f"http://localhost:{self._http.server_address[1]}"  # another host, as the hub's storage is
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._http is not None
        self._http.shutdown()
        self._http.server_close()

    def add(self, name: str, files: dict[str, bytes], token: str | None = None) -> str:
        """A dataset's next commit, on its main and master branches; gives the commit."""
        listing = "".join(f"{file} {sha256(content)}" for file, content in sorted(files.items()))
        commit = hashlib.sha1(listing.encode()).hexdigest()
        dataset = self.datasets.setdefault(name, Dataset({}, {}, token))
        dataset.commits[commit] = files
        dataset.refs |= {"main": commit, "master": commit}
        return commit

    def fail(self, pattern: str, status: int = 0, **fault: Any) -> None:
        """Let requests go wrong whose "METHOD path?query" the pattern finds; see Fault."""
        self.faults.append(Fault(re.compile(pattern), status, **fault))

    def asked(self, pattern: str) -> list[str]:
        """The requests so far that the pattern finds."""
        return [line for line in self.log if re.search(pattern, line)]

    def swallows(self, line: str) -> int | None:
        """How many bytes of this request's body are read before the connection breaks; None: all, and it does not."""
        for fault in self.faults:
            if fault.swallow is not None and fault.times > 0 and fault.pattern.search(line):
                fault.times -= 1
                return fault.swallow
        return None

    def answer(self, request: Request, line: str) -> tuple[Reply, Fault | None]:
        """The reply to a request, and the fault that spoils it."""
        fault = next((fault for fault in self.faults if fault.times > 0 and fault.pattern.search(line)), None)
        if fault is not None:
            fault.times -= 1
            if fault.then:
                fault.then()
            if fault.status:
                return Reply(fault.status, b"{}", fault.headers), None
        for method, pattern, function in self.routes:
            found = re.fullmatch(pattern, request.path)
            if found and request.method in (method, "HEAD" if method == "GET" else method):
                return function(request, found), fault
        return Reply(404, b"no such route"), None


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        line = f"{self.command} {self.path}"
        self.hub.log.append(line)
        body = self._body(self.hub.swallows(line))
        if body is None:
            self.close_connection = True
            return
        parts = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        request = Request(self.hub, self.command, parts.path, query, self.headers, body)
        reply, fault = self.hub.answer(request, line)
        self._send(self._ranged(reply), fault)

    def _body(self, swallow: int | None) -> bytes | None:
        """The request's body; None where a fault takes the first bytes of it and no more."""
        if swallow is not None:
            self.rfile.read(swallow)
            return None
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815  # the names that http.server calls

    def _ranged(self, reply: Reply) -> Reply:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not wanted or reply.status != 200:
            return reply
        start, end = int(wanted[1]), int(wanted[2] or len(reply.body) - 1)
        if start >= len(reply.body):
            return Reply(416, b"", {"Content-Range": f"bytes */{len(reply.body)}"})
        span = {"Content-Range": f"bytes {start}-{end}/{len(reply.body)}"}
        return Reply(206, reply.body[start : end + 1], reply.headers | span)

    def _send(self, reply: Reply, fault: Fault | None) -> None:
        body = reply.body if fault is None or fault.body is None else fault.body
        self.send_response(reply.status)
        for name, value in {"Content-Length": str(len(body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        cut = fault is not None and fault.cut is not None
        if self.command != "HEAD":
            self.wfile.write(body[: fault.cut] if cut and fault else body)
        if cut:
            self.wfile.flush()
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nothing: the tests read `HubServer.log`."""
