"""A real S3 server on loopback, and in front of it a proxy that fails as networks do."""

import http.client
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fusedata.storage import place


@contextmanager
def s3_server() -> Iterator[int]:
    """Run moto's S3 server as a process of its own; gives its port."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _await(port)
            yield port
        finally:
            process.kill()


def _await(port: int) -> None:
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the S3 server did not start")


FAULTS = ["500", "slow", "reset", "cut", "lost"]
Fault = Callable[[int, str], str]
"""Says what becomes of the n-th request (from 0) of this method: "", "500", "slow", "reset", "cut", "lost" or "blind"."""


class _Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "FaultyServer"

    def log_message(self, *_: object) -> None:
        pass

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.next_fault(self.command)
        if fault == "500":
            self._answer(500, [("Content-Length", "0"), ("Date", formatdate(usegmt=True))], b"")
            return
        if fault == "slow":
            time.sleep(0.3)
        if fault == "reset":
            self._reset()
            return
        if (
            fault == "cut" and self.command != "GET"
        ):  # the server meets the end of the connection in the middle of the upload
            with socket.create_connection(("127.0.0.1", self.server.behind)) as upstream:
                upstream.sendall(f"{self.command} {self.path} HTTP/1.1\r\n".encode())
                upstream.sendall("".join(f"{k}: {v}\r\n" for k, v in self._headers()).encode() + b"\r\n")
                upstream.sendall(body[: len(body) // 2])
            self._reset()
            return
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.behind, timeout=60)
        try:
            hidden = {"if-none-match"} if fault == "blind" else set()  # the store does not know of conditions
            upstream.request(self.command, self.path, body, dict(self._headers(hidden)))
            answer = upstream.getresponse()
            content = answer.read()
        finally:
            upstream.close()
        if fault == "lost":  # done, and nobody is told
            self._reset()
            return
        if fault == "cut":  # the client meets the end of the connection in the middle of the object
            self._answer(answer.status, answer.getheaders(), content[: len(content) // 2])
            self._reset()
            return
        self._answer(answer.status, answer.getheaders(), content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any  # noqa: N815

    def _headers(self, hidden: Collection[str] = ()) -> list[tuple[str, str]]:
        left_out = {"expect", "connection", *hidden}
        return [(name, value) for name, value in self.headers.items() if name.lower() not in left_out]

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in {"connection", "transfer-encoding"}:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()


class FaultyServer(ThreadingHTTPServer):
    """The proxy; `fault` may be replaced at any time, `faults` counts what it did."""

    daemon_threads = True

    def __init__(self, behind: int) -> None:
        super().__init__(("127.0.0.1", 0), _Proxy)
        self.behind, self.fault = behind, (lambda *_: "")
        self.faults: dict[str, int] = {}
        self._count, self._lock = 0, threading.Lock()

    def next_fault(self, method: str) -> str:
        with self._lock:
            found = self.fault(self._count, method)
            self._count += 1
            self.faults[found] = self.faults.get(found, 0) + 1
            return found

    def handle_error(self, *_: object) -> None:
        """Say nothing of connections that were reset."""


@contextmanager
def faulty(behind: int) -> Iterator[FaultyServer]:
    with FaultyServer(behind) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def s3_store() -> Iterator[FaultyServer]:
    """The server with a bucket `runs`, behind the proxy; its address is in the environment, as users give it."""
    names = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    with s3_server() as port, faulty(port) as server, pytest.MonkeyPatch.context() as environment:
        for name, value in {**names, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}.items():
            environment.setenv(name, value)
        import s3fs

        s3fs.S3FileSystem.clear_instance_cache()  # a client remembers the address of an earlier server
        place("s3://runs/x").fs.mkdir("runs")
        yield server
