"""A hostile server on 127.0.0.1, in a process of its own: chat completions, /classify and /pooling.

    with ChatServer() as server:
        server.url      # .../v1
        server.log()    # what it was asked, in order
        server.kill()   # as SIGKILL does it
        server.start()  # again, on the same port

What goes wrong stands in the last user turn, in braces, one fault a try: "{500 429:1 json} What is 2 + 2?" is answered
with status 500 first, then with 429 and Retry-After 1, then with broken JSON, then properly. The tries of a request
are counted by its turns and its seed, or, where `@` comes first, by its turns. A proper answer is "TURN seed SEED choice INDEX".
Faults: see `spoilt`; `late:S` waits and then answers properly; a number is a status, `:S` its Retry-After. `*` at the
end repeats the last fault for ever.
"""

import asyncio
import contextlib
import itertools
import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from email.utils import formatdate
from typing import Any, Self

FAULTS = re.compile(r"\{(.*?)\}")


class ChatServer:
    """The process, from outside."""

    def __init__(self, every: str = "") -> None:
        """`every` is the fault that all requests meet, each time."""
        self.port, self._every = 0, every

    def start(self) -> None:
        command = [sys.executable, __file__, str(self.port), self._every]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def log(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/log", timeout=10) as answer:
            found: list[dict[str, Any]] = json.load(answer)
        return found

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.kill()


tries: Counter[str] = Counter()
log: list[dict[str, Any]] = []
busy: set[int] = set()  # connections with a request on its way
connections = itertools.count()


def good(body: dict[str, Any], path: str) -> dict[str, Any]:
    turn, n = body["messages"][-1]["content"], body.get("n") or 1
    usage = {"prompt_tokens": len(turn), "completion_tokens": 7 * n}
    if path != "/v1/chat/completions":
        wanted = re.search(r"outputs=(\d+)", turn)
        outputs = [len(turn) + 0.5 * i for i in range(int(wanted[1]) if wanted else 1)]
        outputs[0] += 0.25 * (turn == "drift" and tries[f"{json.dumps(body['messages'])} None"] == 1)  # the first time
        data = {"probs": outputs} if path == "/classify" else {"data": [[9.0], outputs] if "token" in turn else outputs}
        return {"data": [{"index": 0, **data}], "usage": usage}
    texts = [f"{turn} seed {body['seed']} choice {i}" for i in range(n)]
    choices = [{"index": i, "finish_reason": "stop", "message": {"content": text}} for i, text in enumerate(texts)]
    return {"choices": choices, "usage": usage}


def spoilt(fault: str, answer: dict[str, Any]) -> bytes:  # noqa: C901, PLR0912 - a table of faults
    """The body of an answer of status 200 in which something is wrong."""
    choices = answer.get("choices", [])
    match fault.split("="):
        case ["json"]:
            return json.dumps(answer).encode()[:-9]
        case ["list"]:
            return b"[1]"
        case ["nothing"]:
            return b""
        case ["surrogate"]:
            return json.dumps(answer).replace('"content": "', '"content": "\\ud83d').encode()
        case ["empty"]:
            answer["choices"] = []
        case ["fewer"]:
            answer["choices"] = choices[: (len(choices) + 1) // 2]
        case ["more"]:
            answer["choices"] = choices * 2
        case ["null" | "blank" | "think" as how]:
            for choice in choices:
                choice["message"]["content"] = " \n" if how == "blank" else None
                choice["finish_reason"] = "length" if how == "think" else "stop"
            answer["usage"]["completion_tokens"] *= how == "think"
        case ["holes"]:
            for choice in choices[1:]:
                choice["message"]["content"] = ""
        case ["parts"]:
            choices[0]["message"]["content"] = [{"type": "text", "text": "x"}]
        case ["end", reason]:
            choices[0]["finish_reason"] = None if reason == "null" else reason
        case ["usage", value]:
            answer["usage"] = json.loads(value)
        case _:
            raise ValueError(fault)
    return json.dumps(answer).encode()


SAID = {
    "400": '{"error": {"message": "temperature is too hot\\nsecond line", "type": "BadRequestError", "code": 400}}',
    "422": '{"detail": "not so"}',
    "413": "plain text",
    "404": '{"error": {"message": "The model `x` does not exist."}}',
    "long": '{"error": {"message": "This model\'s maximum context length is 8 tokens. However, your prompt is longer."}}',
    "llama": '{"error": {"code": 400, "type": "exceed_context_size_error", "message": "the request is too big"}}',
}


async def reply(writer: asyncio.StreamWriter, status: int, body: bytes, *headers: str) -> None:
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", "Content-Type: application/json", *headers]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    await writer.drain()


async def misbehave(writer: asyncio.StreamWriter, fault: str, answer: dict[str, Any], key: str) -> None:
    kind, _, detail = fault.partition(":")
    whole = json.dumps(answer).encode()
    if kind == "late":
        await asyncio.sleep(float(detail))
        await reply(writer, 200, whole)
    elif kind in {"reset", "half", "cut"}:
        if kind == "half":
            await reply(writer, 200, whole[: len(whole) // 2], f"Content-Length: {len(whole)}")
        if kind == "cut":  # ends with the connection, half way
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + whole[: len(whole) // 2])
            await writer.drain()
            writer.close()
            return
        writer.transport.abort()
    elif kind == "echo":  # repeats the key, as some servers do
        await reply(writer, 400, json.dumps({"error": f"wrong key {key} of nobody"}).encode())
    elif kind in {"long", "llama"}:
        await reply(writer, 400, SAID[kind].encode())
    elif kind.isdigit():
        after = formatdate(time.time() + float(detail[4:]), usegmt=True) if detail.startswith("date") else detail
        headers = [f"Retry-After: {after}"] if detail else []
        await reply(writer, int(kind), SAID.get(kind, '{"error": {"message": "busy"}}').encode(), *headers)
    else:
        await reply(writer, 200, spoilt(fault, answer))


async def answer(writer: asyncio.StreamWriter, path: str, body: dict[str, Any], key: str) -> None:
    turn = next(m["content"] for m in reversed(body["messages"]) if m["role"] == "user")
    found = FAULTS.search(turn)
    faults = [sys.argv[2], "*"] if sys.argv[2] else found[1].split() if found else []
    who = f"{json.dumps(body['messages'])} {'' if faults[:1] == ['@'] else body.get('seed')}"
    faults = faults[faults[:1] == ["@"] :]
    for_ever = faults[-1:] == ["*"]
    faults = faults[: len(faults) - for_ever]
    number = tries[who]
    tries[who] += 1
    if for_ever and number >= len(faults):
        number = len(faults) - 1
    if number < len(faults):
        await misbehave(writer, faults[number], good(body, path), key)
    else:
        await reply(writer, 200, json.dumps(good(body, path)).encode())


async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    number = next(connections)
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split()[1]
            headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
            if path == "/log":
                await reply(writer, 200, json.dumps(log).encode())
                continue
            body = json.loads(await reader.readexactly(int(headers["content-length"])))
            key = re.sub("(?i).*authorization: (.*?)\r.*", r"\1", head, flags=re.DOTALL) if "uthoriz" in head else ""
            busy.add(number)
            log.append(
                {
                    "path": path,
                    "body": body,
                    "key": key,
                    "connection": number,
                    "busy": len(busy),
                    "time": time.monotonic(),
                }
            )
            try:
                await answer(writer, path, body, key)
            finally:
                busy.discard(number)
    writer.close()


async def main() -> None:
    server = await asyncio.start_server(connection, "127.0.0.1", int(sys.argv[1]), backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
