"""The guard of vLLM's processes, with processes that only sleep in their place: no vLLM is needed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fusedata

psutil = pytest.importorskip("psutil")

HOLDER = """
import subprocess, sys, time
from fusedata.sample.vllm_guard import Guard

def begun(*command):
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid

end = sys.argv[1]
others = [begun("sleep", "99")]
time.sleep(0.1)
guard = Guard()
time.sleep(0.1)
engine = begun("sh", "-c", "sleep 99 & wait")
others.append(begun(sys.executable, "-c", "import time; time.sleep(99)", "multiprocessing.resource_tracker"))
time.sleep(3)
if end != "killed while it loads":
    guard.loaded()
    time.sleep(2)
    others.append(begun("sleep", "99"))
if end == "closed":
    guard.close()
print(engine, *others, flush=True)
time.sleep(2 if end == "ends" else 99)
"""


def alive(process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("end", ["killed while it loads", "killed", "ends", "closed"])
def test_what_an_engine_began_ends_with_its_holder_and_nothing_else_does(end):
    where = {**os.environ, "PYTHONPATH": str(Path(fusedata.__file__).parents[1])}
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLDER, end], stdout=pipe, stderr=pipe, env=where) as holder:
        engine, *others = (psutil.Process(int(pid)) for pid in holder.stdout.readline().split())
        below = engine.children()
        guards = [p for p in psutil.Process(holder.pid).children() if "vllm_guard" in " ".join(p.cmdline())]
        try:
            if end != "ends":
                holder.send_signal(signal.SIGKILL)
            holder.wait()
            gone = [*guards] if end == "closed" else [engine, *below, *guards]
            until = time.monotonic() + 20
            while any(map(alive, gone)) and time.monotonic() < until:
                time.sleep(0.1)
            assert not [process for process in gone if alive(process)]
            assert all(map(alive, others))
            assert len(guards) == (end != "closed")
            assert alive(engine) == (end == "closed")
        finally:
            for process in filter(alive, [engine, *below, *others]):
                process.kill()
        assert holder.stderr.read() == b""
