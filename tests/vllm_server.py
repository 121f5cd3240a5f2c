"""A real `vllm serve` on 127.0.0.1, on the CPU."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

START_SECONDS = 400


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def vllm_serve(folder: Path, log: Path, *arguments: str) -> Iterator[str]:
    """Serve the model in `folder` as `tiny`; its `/v1` URL, once it is healthy."""
    port = free_port()
    # What `vllm serve` runs; the command itself asks for the distribution `vllm`, which the CPU wheel does not go by.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
    command += ["--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--dtype", "float32", "--enforce-eager", *arguments]
    quiet = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **quiet},
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - a call of the kernel and nothing else
        )
        try:
            _wait(process, f"http://127.0.0.1:{port}/health", log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            _stop(process)


def _end_with_parent() -> None:
    """Let the kernel end the server when the tests are killed: PR_SET_PDEATHSIG."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, OSError):
            if process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"vllm serve did not start:\n{log.read_text()[-4000:]}") from None
            time.sleep(0.5)
        else:
            return


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server with its engine's processes: they are of its session."""
    process.send_signal(signal.SIGTERM)
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wider(tiny: Path, folder: Path, kind: str, **changes: object) -> Path:
    """`tiny_model` with heads as wide as vLLM's CPU kernels need them, as a model class of transformers."""
    import torch
    import transformers

    config = transformers.LlamaConfig.from_pretrained(tiny)
    for key, value in {"hidden_size": 128, "head_dim": 32, **changes}.items():
        setattr(config, key, value)
    torch.manual_seed(5)
    network = getattr(transformers, kind)(config)
    if network.can_generate():
        own = {"do_sample": True, "temperature": 0.01, "top_k": 1, "repetition_penalty": 9.0}
        network.generation_config = transformers.GenerationConfig(eos_token_id=0, pad_token_id=0, **own)
    network.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(tiny).save_pretrained(folder)
    return folder
