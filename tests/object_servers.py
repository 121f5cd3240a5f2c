"""Servers on loopback that speak what gs:// and oss:// are written and read by, over objects in memory.

Of Google's JSON and XML interfaces, and of Alibaba's, what a run needs; conditional puts above all.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = 5
"""Most keys that one answer lists, where the client asks for the rest."""


class ObjectServer(ThreadingHTTPServer):
    """Objects by "BUCKET/KEY"; `is_careless` makes it put an object in place of another whatever it is told."""

    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.objects: dict[str, bytes] = {}
        self.lock = threading.Lock()
        self.is_careless = False

    def put(self, name: str, data: bytes, *, new: bool) -> bool:
        with self.lock:
            if new and name in self.objects and not self.is_careless:
                return False
            self.objects[name] = data
            return True

    def listed(self, bucket: str, prefix: str, delimiter: str) -> tuple[list[str], list[str]]:
        """Keys, and the folders that stand for others."""
        keys, folders = [], set()
        for name in sorted(self.objects):
            key = name.removeprefix(f"{bucket}/")
            if name.startswith(f"{bucket}/{prefix}"):
                rest = key[len(prefix) :]
                if delimiter and delimiter in rest:
                    folders.add(prefix + rest.split(delimiter)[0] + delimiter)
                else:
                    keys.append(key)
        return keys, sorted(folders)

    def handle_error(self, *_: object) -> None:
        """Say nothing of connections that were reset."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ObjectServer

    def log_message(self, *_: object) -> None:
        pass

    def _any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:  # the upload was cut
            self.close_connection = True
            return
        url = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        self.act(self.command, unquote(url.path), asked, body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any  # noqa: N815

    def act(self, method: str, path: str, asked: dict[str, str], body: bytes) -> None:
        raise NotImplementedError

    def say(self, status: int, content: bytes = b"", kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_object(self, name: str) -> None:
        """The content of an object, or the part of it that is asked for."""
        data = self.server.objects[name]
        told = {"ETag": _tag(data), "Last_Modified": formatdate(usegmt=True), "Accept_Ranges": "bytes"}
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
        if not found or not any(found.groups()):
            self.say(200, data, "application/octet-stream", **told)
            return
        first = int(found[1]) if found[1] else max(0, len(data) - int(found[2]))
        last = min(int(found[2]), len(data) - 1) if found[1] and found[2] else len(data) - 1
        told["Content_Range"] = f"bytes {first}-{last}/{len(data)}"
        self.say(206, data[first : last + 1], "application/octet-stream", **told)


def _tag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


class Google(_Handler):
    """https://cloud.google.com/storage/docs/json_api, and the XML interface for reading."""

    def act(self, method: str, path: str, asked: dict[str, str], body: bytes) -> None:
        found = re.fullmatch(r"(/upload|/download)?/storage/v1/b/([^/]+)(?:/o(?:/(.+))?)?", path)
        if not found:
            self._read(path.lstrip("/"))
            return
        way, bucket, key = found.groups()
        name = f"{bucket}/{key}"
        if way == "/upload":
            self._put(bucket, asked, body)
        elif key is None:
            self._list(bucket, asked)
        elif name not in self.server.objects:
            self._fail(404, "No such object")
        elif method == "DELETE":
            self.server.objects.pop(name, None)
            self.say(204)
        elif way == "/download" or asked.get("alt") == "media":
            self.send_object(name)
        else:
            self._json(self._told(bucket, key))

    def _read(self, name: str) -> None:
        if name in self.server.objects:
            self.send_object(name)
        else:
            self.say(404, b"<Error><Code>NoSuchKey</Code></Error>", "application/xml")

    def _put(self, bucket: str, asked: dict[str, str], body: bytes) -> None:
        boundary = re.search('boundary="?([^"]+)"?', self.headers["Content-Type"])[1].encode()
        _, about, content = body.split(b"--" + boundary)[:3]
        key = json.loads(about.partition(b"\n\n")[2])["name"]
        data = content.partition(b"\n\n")[2].removesuffix(b"\n")
        if self.server.put(f"{bucket}/{key}", data, new=asked.get("ifGenerationMatch") == "0"):
            self._json(self._told(bucket, key))
        else:
            self._fail(412, "At least one of the pre-conditions you specified did not hold.")

    def _list(self, bucket: str, asked: dict[str, str]) -> None:
        keys, folders = self.server.listed(bucket, asked.get("prefix", ""), asked.get("delimiter", ""))
        self._json({"items": [self._told(bucket, key) for key in keys], "prefixes": folders})

    def _told(self, bucket: str, key: str) -> dict[str, object]:
        data = self.server.objects.get(f"{bucket}/{key}", b"")
        when = "2026-01-01T00:00:00.000Z"
        return {"name": key, "bucket": bucket, "size": str(len(data)), "generation": "1", "updated": when}

    def _json(self, content: dict[str, object], status: int = 200) -> None:
        self.say(status, json.dumps(content).encode())

    def _fail(self, status: int, message: str) -> None:
        self._json({"error": {"code": status, "message": message}}, status)


class Alibaba(_Handler):
    """https://www.alibabacloud.com/help/en/oss/developer-reference/description, buckets in the path."""

    def act(self, method: str, path: str, asked: dict[str, str], body: bytes) -> None:
        bucket, _, key = path.lstrip("/").partition("/")
        name = f"{bucket}/{key}"
        if not key:
            self._bucket(bucket, asked, body)
        elif method == "PUT":
            new = self.headers.get("x-oss-forbid-overwrite") == "true"
            if self.server.put(name, body, new=new):
                self.say(200, ETag=_tag(body))
            else:
                self._fail(409, "FileAlreadyExists")
        elif method == "DELETE":
            self.server.objects.pop(name, None)
            self.say(204)
        elif name not in self.server.objects:
            self._fail(404, "NoSuchKey")
        else:
            self.send_object(name)

    def _bucket(self, bucket: str, asked: dict[str, str], body: bytes) -> None:
        if "delete" in asked:
            for key in re.findall("<Key>(.*?)</Key>", body.decode()):
                self.server.objects.pop(f"{bucket}/{key}", None)
            self.say(200, b"<DeleteResult></DeleteResult>", "application/xml")
            return
        keys, folders = self.server.listed(bucket, asked.get("prefix", ""), asked.get("delimiter", ""))
        first = int(asked.get("continuation-token") or 0)
        last = first + min(PAGE, int(asked.get("max-keys") or PAGE))
        cut = last < len(keys)
        when, told = "2026-01-01T00:00:00.000Z", f"<IsTruncated>{str(cut).lower()}</IsTruncated>"
        told += f"<NextContinuationToken>{last}</NextContinuationToken>" if cut else ""
        folders = [] if cut else folders
        for key in keys[first:last]:
            data = self.server.objects.get(f"{bucket}/{key}", b"")
            about = f"<LastModified>{when}</LastModified><ETag>{_tag(data)}</ETag><Type>Normal</Type>"
            about += f"<Size>{len(data)}</Size><StorageClass>Standard</StorageClass>"
            told += f"<Contents><Key>{escape(key)}</Key>{about}</Contents>"
        told += "".join(f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in folders)
        self.say(200, f"<ListBucketResult><Name>{bucket}</Name>{told}</ListBucketResult>".encode(), "application/xml")

    def _fail(self, status: int, code: str) -> None:
        told = f"<Error><Code>{code}</Code><Message>{code}</Message><RequestId>1</RequestId></Error>"
        self.say(status, told.encode(), "application/xml", x_oss_request_id="1")


@contextmanager
def object_server(handler: type[_Handler]) -> Iterator[ObjectServer]:
    with ObjectServer(handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
