r"""The rows of a JSON file: JSON lines or one array, plain or compressed, each with its place in the file.

What is repaired: a byte order mark, blank lines, and lone surrogate escapes such as `\ud800`
(half of a character that a program cut in two), which become U+FFFD. What is not: bytes that are
not UTF-8, NaN and infinities, and rows that are no objects; each is a CorpusError that names the line.
A JSON-lines file that was cut exactly between two lines cannot be told from a whole one.
"""

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import orjson
import pyarrow as pa

from fusedata.collect.locate import CorpusFile

_BOM = b"\xef\xbb\xbf"
_CHUNK = 1 << 20
_BATCH_BYTES = 16 << 20
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}"]', re.DOTALL)


class JsonBatch(NamedTuple):
    """Some rows of a file: where each stands ("line 3", "element 3") and its object."""

    places: list[str]
    objects: list[dict[str, object]]


def batches(file: CorpusFile, batch_rows: int) -> Iterator[JsonBatch]:
    """The rows of the file in order, at most `batch_rows` or about 16 MB of text at a time.

    Raises CorpusError for a file that is damaged, has no rows or holds anything but objects.
    """
    batch, size, empty = JsonBatch([], []), 0, True
    for place, text, complete in _texts(file):
        batch.places.append(place)
        batch.objects.append(_parse(file, place, text, complete=complete))
        size += len(text)
        empty = False
        if len(batch.places) >= batch_rows or size >= _BATCH_BYTES:
            yield batch
            batch, size = JsonBatch([], []), 0
    if empty:
        raise file.error("it has no rows", do="Fetch it again, or leave it out of the corpus's files.")
    if batch.places:
        yield batch


def _texts(file: CorpusFile) -> Iterator[tuple[str, bytes, bool]]:
    """Each row's place and JSON text, and whether the text surely ends where it was meant to."""
    with _explained(file), _open(file) as stream:
        if stream.peek(1).removeprefix(_BOM).lstrip().startswith(b"["):
            for number, text in enumerate(_elements(file, stream), 1):
                yield f"element {number}", text, True
            return
        for number, line in enumerate(stream, 1):
            text = (line.removeprefix(_BOM) if number == 1 else line).strip()
            if text:
                yield f"line {number}", text, line.endswith(b"\n")


def _open(file: CorpusFile) -> "io.BufferedReader[Any]":
    if file.name.endswith(".gz"):
        return io.BufferedReader(gzip.open(file.path, "rb"), _CHUNK)
    if file.name.endswith(".zst"):
        return io.BufferedReader(pa.input_stream(str(file.path), compression="zstd"), _CHUNK)
    return io.BufferedReader(file.path.open("rb", buffering=0), _CHUNK)


@contextmanager
def _explained(file: CorpusFile) -> Iterator[None]:
    again = f"Fetch or write {file.path} again."
    try:
        yield
    except EOFError:
        raise file.error("its compressed data are cut off before the end", do=again) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise file.error(f"it is not a sound gzip file ({error})", do=again) from None
    except OSError as error:
        cut = "truncated" in str(error).lower()
        found = "its compressed data are cut off before the end" if cut else f"it cannot be read ({error})"
        raise file.error(found, do=again) from None


def _elements(file: CorpusFile, stream: "io.BufferedReader[Any]") -> Iterator[bytes]:
    """The texts of the objects in one JSON array, found by their braces and brackets, in flat memory."""
    buffer = stream.read(_CHUNK).removeprefix(_BOM).lstrip()[1:]
    position, depth, start, found, wanted = 0, 0, 0, 0, b""
    while True:
        for token in _TOKEN.finditer(buffer, position):
            mark = token.group()
            if mark == b'"':  # a string that goes on beyond the buffer
                break
            position = token.end()
            if depth == 0:
                _expect(file, buffer[start : token.start()], wanted if mark == b"{" else None, mark, found)
                if mark == b"]":
                    _expect_end(file, buffer[position:] + stream.read(_CHUNK))
                    return
                start = token.start()
            depth += {b"{": 1, b"[": 1, b"}": -1, b"]": -1}.get(mark, 0)
            if depth == 0:
                found, wanted = found + 1, b","
                yield buffer[start:position]
                start = position
        more = stream.read(max(_CHUNK, len(buffer) - start))
        if not more:
            raise file.error(f"its array is cut off after element {found}", do=f"Fetch or write {file.path} again.")
        buffer, position, start = buffer[start:] + more, position - start, 0


def _expect(file: CorpusFile, between: bytes, wanted: bytes | None, mark: bytes, found: int) -> None:
    """Hold what stands between two elements to a comma and blanks, and each element to an object."""
    between = between.strip()
    if mark == b"]" and between in (b"", b","):
        return
    if mark == b"{" and between == wanted:
        return
    raise file.error(
        "an object is missing here, or the comma before it", at=f"element {found + 1}", do="Each row must be an object."
    )


def _expect_end(file: CorpusFile, rest: bytes) -> None:
    if rest.strip():
        raise file.error("something follows its JSON array", do="A file holds one array, or one object a line.")


def _parse(file: CorpusFile, place: str, text: bytes, *, complete: bool) -> dict[str, object]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        value = _parse_repaired(file, place, text, reason=error.msg if complete else "")
    if not isinstance(value, dict):
        raise file.error("it is not a JSON object", at=place, do="Each row must be an object of columns.")
    return value


def _parse_repaired(file: CorpusFile, place: str, text: bytes, *, reason: str) -> object:
    """The value of a text that is JSON but for lone surrogate escapes; `reason` is empty where the file may be cut."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        found = f"byte {error.start + 1} of it is not UTF-8"
        raise file.error(found, at=place, do="Save the file as UTF-8.") from None
    repaired = _ESCAPE.sub(lambda found: rb"\ufffd" if found.group(1) else found.group(), text)
    try:
        return orjson.loads(repaired)
    except orjson.JSONDecodeError:
        if reason:
            raise file.error(f"it is not JSON ({reason})", at=place, do="Mend or remove it.") from None
        do = f"Fetch or write {file.path} again."
        raise file.error("the file is cut off in the middle of it", at=place, do=do) from None
