"""A request to servers of one model, until it is answered: retries, balancing, and a key that is never told.

What can go wrong with a try, and what follows:

    no server listens, reset, timeout, half a body      try again, on another server where there is one
    408, 409, 425, 429, 5xx, an answer nobody can read  the same; `Retry-After` is waited for, by all requests
    the last try fails                                  a Failure, which says how the last one went
    any other 4xx                                       a Failure at once: the server will not take this request
    3xx, 401, 402, 403, 404, 405, 501                   an exception: no request will fare better
    no server has ever answered, or very many
    requests in a row have failed                       an exception, too
"""

import asyncio
import os
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import orjson

from fusedata.errors import ConfigError, FusedataError
from fusedata.profile import Served
from fusedata.store import first_line

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

T = TypeVar("T")

KEPT_SECONDS = 4.0
"""Idle connections are dropped after this long: servers drop theirs after 5 s (uvicorn), and a request that goes out on
a connection just dropped is lost."""
CONNECT_SECONDS = 30.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
"""Seconds to wait after a failed try: three times as long after each, and at random half as much more or less. Six
tries last about a minute."""
FIRST_TRIES = 3
"""While no server has ever answered: after so many refused connections nobody is there, most likely."""
HOPELESS = 64
"""As many requests in a row, and twice those that may be on their way, have failed: it is not the requests' fault."""
_LONGEST = 300  # characters of a server's message that are repeated

_AGAIN = {408, 409, 425, 429}
_BROKEN = {401, 402, 403, 404, 405, 501}
_TOO_LONG = re.compile(
    r"maximum context length|context_length_exceeded|model's context length|maximum model length|maximum prompt length"
    r"|exceed_context_size|available context size|reduce the length of the (messages|prompt)"
    r"|max_tokens must be at least 1"  # vLLM 0.32, of a prompt that fills the context to the last token
)


class Failure(NamedTuple):
    """Why a request has no answer, in a line without the key; `refused`: the server will not take this one."""

    reason: str
    refused: bool = False

    @property
    def too_long(self) -> bool:
        """Whether the prompt is longer than the model's context, as vLLM, SGLang, llama.cpp and OpenAI say it."""
        return self.refused and bool(_TOO_LONG.search(self.reason.lower()))


class _Trouble(NamedTuple):
    """How a try failed that may be made again."""

    reason: str
    after: float | None = None
    """Seconds that the server asks to wait."""
    unreached: bool = False
    for_good: bool = False


@dataclass
class _Server:
    url: str
    proxy: str | None
    on_way: int = 0
    sick_until: float = 0.0
    opens: float = 0.0


class Client:
    """Asks the servers; lives in one event loop, within one session."""

    def __init__(self, served: Served, session: "ClientSession", key: str | None, error: type[FusedataError]) -> None:
        """Ask `served`; `key`, which the session sends, stands in no message; what is broken is raised as `error`."""
        self._session, self._key, self._error = session, key, error
        self._servers = [_Server(url.rstrip("/"), _proxy(url)) for url in served.base_urls]
        self._tries, self._timeout = served.tries, served.timeout
        self._hopeless = max(HOPELESS, 2 * served.in_flight)
        self._reached, self._failed = False, 0

    async def post(self, path: str, body: Mapping[str, object], read: Callable[[Any], T]) -> T | Failure:
        """Give what `read` makes of the answer's JSON; where `read` raises ValueError, the request is tried again."""
        try:
            data = orjson.dumps(body)
        except TypeError as error:  # a lone surrogate
            return Failure(f"the request cannot be written as JSON ({first_line(error)})", refused=True)
        tries, outcome = 0, _Trouble("")
        while tries < self._tries and not outcome.for_good:
            server = await self._open_server()
            result = await self._try(server, path, data, read)
            tries += 1
            if not isinstance(result, _Trouble):
                self._failed = 0
                return result
            outcome = result
            if outcome.unreached and not self._reached and tries >= min(FIRST_TRIES, self._tries):
                raise self._error(f"no server answers ({outcome.reason}): start it, or check base_urls.")
            if not outcome.for_good:
                await self._rest(server, outcome, tries)
        return self._given_up(tries, outcome)

    def _given_up(self, tries: int, outcome: _Trouble) -> Failure:
        reason = f"{outcome.reason} ({tries} tries)" if tries > 1 else outcome.reason
        self._failed += 1
        if self._failed >= self._hopeless:
            remedy = "look after the servers and build again: what has come is kept"
            raise self._error(f"{self._failed} requests in a row failed; the last: {reason}; {remedy}.")
        return Failure(reason)

    def _best(self) -> _Server:
        """Give the server to ask: open before closed, healthy before sick, then the one with the least to do."""
        now = monotonic()
        return min(self._servers, key=lambda s: (max(s.opens - now, 0), s.sick_until > now, s.on_way))

    async def _open_server(self) -> _Server:
        """Give the best server, once it is open: after a Retry-After, not all requests at the same moment."""
        while (shut := (server := self._best()).opens - monotonic()) > 0:  # noqa: ASYNC110 - it may shut again
            await asyncio.sleep(shut * random.uniform(1, 1.1))  # noqa: S311
        return server

    async def _rest(self, server: _Server, trouble: _Trouble, tries: int) -> None:
        """Wait before the next try, unless a healthy server can be asked at once."""
        now = monotonic()
        if trouble.after:
            server.opens = max(server.opens, now + trouble.after)
            return
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 3 ** (tries - 1)) * random.uniform(0.5, 1.5)  # noqa: S311
        server.sick_until = max(server.sick_until, now + pause)
        if tries < self._tries and self._best().sick_until >= now:
            await asyncio.sleep(pause)

    async def _try(self, server: _Server, path: str, data: bytes, read: Callable[[Any], T]) -> T | Failure | _Trouble:
        import aiohttp

        server.on_way += 1
        try:
            async with self._session.post(
                server.url + path, data=data, proxy=server.proxy, allow_redirects=False
            ) as response:
                content = await response.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return _Trouble(self._told(f"{server.url}: {first_line(error)}"), unreached=True)
        except TimeoutError:
            return _Trouble(f"no answer within {self._timeout:g} s")
        except (aiohttp.ClientError, OSError) as error:
            return _Trouble(self._told(f"the connection broke ({type(error).__name__}: {first_line(error)})"))
        finally:
            server.on_way -= 1
        self._reached = True
        if response.status < 300:  # noqa: PLR2004
            return _read(content, read)
        return self._refusal(server, path, response, content)

    def _refusal(self, server: _Server, path: str, response: "ClientResponse", content: bytes) -> Failure | _Trouble:
        status, said = response.status, self._told(_message(content))
        if status in _AGAIN or (status >= 500 and status not in _BROKEN):  # noqa: PLR2004
            return self._later(f"{status} {said}".rstrip(), _seconds(response.headers.get("Retry-After")))
        what = f"{server.url}{path}"
        if status in {401, 403}:  # what a server says here may repeat parts of the key
            raise self._error(f"{what} refuses the API key ({status}): check the variable that api_key_env names.")
        if status in _BROKEN or status < 400:  # noqa: PLR2004
            raise self._error(f"{what} answers {status} {said}".rstrip(" .") + ": check base_urls and model.")
        return Failure(f"{status} {said}".rstrip(), refused=True)

    def _later(self, reason: str, after: float | None) -> _Trouble:
        if after is not None and after > self._timeout:
            asked = f"{reason} (the server asks to wait {after:.0f} s, longer than `timeout`)"
            return _Trouble(asked, for_good=True)
        return _Trouble(reason, after)

    def _told(self, text: str) -> str:
        """Give the first line of what somebody else said, cut, and without the key."""
        text = text.replace(self._key, "***") if self._key else text
        return " ".join(text.strip().partition("\n")[0].split())[:_LONGEST]


def check_urls(served: Served) -> None:
    """Raise ConfigError for a base URL that names no server, or that says more than where it is."""
    for url in served.base_urls:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigError(f"base_urls: {_shown(url)} is no address of a server: write http://host:port/v1.")
        if "@" in parts.netloc or parts.query or parts.fragment:
            remedy = "name the environment variable that holds a key in api_key_env, and write nothing but the address"
            raise ConfigError(f"base_urls: {_shown(url)} is written with a user, a password or a query: {remedy}.")


def find_key(served: Served) -> str | None:
    """Read the API key from the environment variable that the profile names. Raises ConfigError where it is not set."""
    if served.api_key_env is None:
        return None
    key = os.environ.get(served.api_key_env, "").strip()
    if not key or not key.isprintable():
        found = "holds line breaks" if key else "is not set"
        raise ConfigError(f"api_key_env: the environment variable {served.api_key_env} {found}: put the API key there.")
    return key


def _read(content: bytes, read: Callable[[Any], T]) -> T | _Trouble:
    try:
        return read(orjson.loads(content))
    except orjson.JSONDecodeError:
        return _Trouble("the answer is no JSON")
    except ValueError as error:
        return _Trouble(str(error))


def _message(content: bytes) -> str:
    """Find what a server says of an error: OpenAI's shape, others' shapes, or plain text."""
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError:
        return content[:4096].decode(errors="replace")
    inner = found.get("error", found) if isinstance(found, dict) else found
    if not isinstance(inner, dict):
        return str(inner)
    said = next((str(inner[key]) for key in ("message", "detail") if inner.get(key)), "")
    kind = next((k for k in (inner.get("code"), inner.get("type")) if isinstance(k, str) and _TOO_LONG.search(k)), "")
    return f"{kind} {said}".strip()


def _seconds(retry_after: str | None) -> float | None:
    """Read Retry-After: seconds, or a date; None where it is neither."""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _shown(url: str) -> str:
    """Give a URL without user, password and query."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _proxy(url: str) -> str | None:
    """Give the proxy that the environment names for this server."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
