"""Requests a second with durable parts, against an echo server on loopback that is a process of its own.

    python benchmarks/openai_engine.py [--peer PYTHON]

`--peer` is the Python of an environment with datatrove and what its inference needs (pip install datatrove aiosqlite
aiofiles httpx orjson xxhash); its InferenceRunner asks the same server for like prompts, with and without checkpoints.
Pass marks: at least 10 times datatrove with checkpoints (1,500 to 149 where it was first measured) beside that peer,
and without it at least 0.5 of a bare aiohttp loop that keeps nothing.
"""

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from fusedata.profile import OpenaiEngine as Host
from fusedata.recipe import SourceModel
from fusedata.sample.openai_engine import OpenaiEngine
from fusedata.sample.stage import sample
from fusedata.schema import PROMPTS, RESPONSES, prompt_id
from fusedata.store import Parts, count

REQUESTS, SAMPLES, IN_FLIGHT = 20_000, 5, 256
PEER_DOCUMENTS = 2_000
TEXT = "The answer is 42. " * 10
RATIO, FLOOR_RATIO = 10.0, 0.5
ANSWER = (
    '{"id":"x","object":"chat.completion","model":"echo","choices":[{"index":0,"finish_reason":"stop","message":'
    f'{{"role":"assistant","content":"{TEXT}"}}}}],"usage":{{"prompt_tokens":30,"completion_tokens":45,'
    '"total_tokens":75}}'
)


class Echo(asyncio.Protocol):
    """HTTP as far as it takes to answer every request with the same completion."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._got = transport, b""

    def data_received(self, data: bytes) -> None:
        self._got += data
        while (end := self._got.find(b"\r\n\r\n")) >= 0:
            asked = self._got[:end].lower()
            length = re.search(rb"content-length: (\d+)", asked)
            size = end + 4 + (int(length[1]) if length else 0)
            if len(self._got) < size:
                return
            self._got = self._got[size:]
            closing = b"connection: close" in asked
            kept = "close" if closing else "keep-alive"
            head = f"HTTP/1.1 200 OK\r\nConnection: {kept}\r\nContent-Type: application/json"
            self._transport.write(f"{head}\r\nContent-Length: {len(ANSWER)}\r\n\r\n{ANSWER}".encode())
            if closing:
                self._transport.close()


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def echo_server() -> Iterator[str]:
    process = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def prompts(number: int) -> pl.DataFrame:
    turns = [[{"role": "user", "content": f"What is {n} plus {n}? " + "Think of it. " * 15}] for n in range(number)]
    columns = {
        "prompt_id": [prompt_id(t) for t in turns],
        "corpus": "made",
        "corpus_row": range(number),
        "messages": turns,
        "sampled": True,
        "chars": [len(t[0]["content"]) for t in turns],
    }
    return pl.DataFrame({name: columns.get(name) for name in PROMPTS}, schema=PROMPTS)


def ours(url: str) -> float:
    model, host = SourceModel(id="echo"), Host(engine="openai", base_urls=(f"{url}/v1",), in_flight=IN_FLIGHT)
    table, engine = prompts(REQUESTS // SAMPLES), OpenaiEngine(model, host)
    with tempfile.TemporaryDirectory() as folder:
        parts = Parts(Path(folder) / "parts", RESPONSES)
        began = time.perf_counter()
        sample(table, model.id, SAMPLES, engine, parts, seed=1, advance=lambda _: None)
        engine.close()
        seconds = time.perf_counter() - began
        assert count(parts.scan("part").filter(text=TEXT), parts) == REQUESTS
    return REQUESTS / seconds


def bare(url: str) -> float:
    async def run() -> None:
        import aiohttp

        turns = iter(prompts(REQUESTS // SAMPLES)["messages"].to_list() * SAMPLES)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def place() -> None:
                for messages in turns:
                    async with session.post(f"{url}/v1/chat/completions", json={"messages": messages}) as response:
                        assert (await response.json())["choices"]

            await asyncio.gather(*(place() for _ in range(IN_FLIGHT)))

    began = time.perf_counter()
    asyncio.run(run())
    return REQUESTS / (time.perf_counter() - began)


PEER = """
import sys, tempfile, time
from loguru import logger
logger.remove()
from datatrove.data import Document
from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceRunner
from datatrove.pipeline.writers import JsonlWriter
url, number, durable = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "durable"
texts = [f"What is {n} plus {n}? " + "Think of it. " * 15 for n in range(number)]
documents = [Document(text=text, id=str(n)) for n, text in enumerate(texts)]
async def rollout(document, generate):
    result = await generate({"messages": [{"role": "user", "content": document.text}], "temperature": 0.8})
    return {"text": result.text, "finish_reason": result.finish_reason}
with tempfile.TemporaryDirectory() as folder:
    config = InferenceConfig("endpoint", "echo", endpoint_url=url, max_concurrent_generations=256,
                             server_ready_delay_sec=0.1)
    writer = JsonlWriter(folder + "/out", output_filename="${rank}_${chunk_index}.jsonl", compression=None)
    kept = {"checkpoints_local_dir": folder + "/kept", "records_per_chunk": 512} if durable else {}
    began = time.perf_counter()
    InferenceRunner(rollout, config, writer, **kept).run(iter(documents))
    print(number / (time.perf_counter() - began))
"""


def peer(python: str, url: str, how: str) -> float:
    command = [python, "-c", PEER, url, str(PEER_DOCUMENTS), how]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer")
    parser.add_argument("--serve", action="store_true")
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
    with echo_server() as url:
        rows: dict[str, Callable[[], float]] = {
            "fusedata, durable": lambda: ours(url),
            "aiohttp, bare": lambda: bare(url),
        }
        if options.peer:
            for how in ("durable", "plain"):
                rows[f"datatrove, {how}"] = lambda how=how: peer(options.peer, url, how)
        rates = {name: rate() for name, rate in rows.items()}
    for name, rate in rates.items():
        print(f"{name:<20} {rate:>8,.0f} requests/s   {rates['fusedata, durable'] / rate:>6.2f}")
    against, least = ("datatrove, durable", RATIO) if options.peer else ("aiohttp, bare", FLOOR_RATIO)
    passed = rates["fusedata, durable"] >= least * rates[against]
    absent = "" if options.peer else "; datatrove is absent: --peer names the Python that has it"
    print("PASS" if passed else "FAIL", f"(at least {least:g} times {against}{absent})")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
