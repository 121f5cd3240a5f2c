"""Worker processes: late, dead, greedy and orphaned ones."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fusedata.errors import VerifierError
from fusedata.verify.math_answer import MathVerifier
from fusedata.verify.mathematics import pool as math_pool

SYMBOLIC = (r"\tan^2 y + 1", r"\sec^2 y")
ENDLESS = ("42", r"\prod_{n=1}^{\infty} n")


@pytest.fixture
def verifier():
    with MathVerifier(workers=1, timeout=1.0) as own:
        yield own


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_late_worker_is_killed_and_the_pair_unjudged(verifier):
    verifier.verify(*SYMBOLIC)
    verdict = verifier.verify(*ENDLESS)
    assert (verdict.passed, verdict.method) == (None, "symbolic")
    assert verdict.detail == "could not be judged: no verdict within 1 s"


def test_pair_after_a_late_one_is_judged(verifier):
    assert [v.passed for v in verifier.verify_many([ENDLESS, SYMBOLIC, ENDLESS, SYMBOLIC])] == [None, True, None, True]


def test_worker_killed_in_the_middle_is_replaced_and_nothing_is_lost(verifier):
    verifier.verify(*SYMBOLIC)
    verdicts = []
    for number, verdict in enumerate(verifier.verify_many([SYMBOLIC] * 60)):
        if number % 10 == 3:
            for pid in verifier._pool.pids():
                os.kill(pid, signal.SIGKILL)
        verdicts.append(verdict.passed)
    assert verdicts == [True] * 60


def test_worker_that_dies_twice_of_one_pair_leaves_it_unjudged(verifier):
    verifier.verify(*SYMBOLIC)
    stop = threading.Event()

    def kill_always():
        while not stop.is_set():
            for worker in list(verifier._pool._workers):
                if worker.ticket:
                    worker.process.kill()
            time.sleep(0.005)

    killer = threading.Thread(target=kill_always)
    killer.start()
    try:
        verdict = verifier.verify(*ENDLESS)
    finally:
        stop.set()
        killer.join()
    assert verdict.detail == "could not be judged: the worker died twice"


def test_memory_limit_holds_in_the_worker():
    with MathVerifier(workers=1, memory_mb=700) as verifier:
        verifier.verify(*SYMBOLIC)
        (pid,) = verifier._pool.pids()
        with open(f"/proc/{pid}/limits", encoding="ascii") as limits:  # noqa: PTH123
            line = next(line for line in limits if line.startswith("Max address space"))
        assert line.split()[3] == str(700 << 20)


def test_worker_out_of_memory_leaves_the_pair_unjudged_and_goes_on():
    with MathVerifier(workers=1, memory_mb=60, timeout=20.0) as verifier:
        verdict = verifier.verify("42", r"\sum_{k=1}^{3} k")  # math-verify needs more than this to be imported
        assert verdict.passed is None
        assert verdict.detail in {  # where the last byte is asked for decides which of them it is
            "could not be judged: MemoryError in a worker process",
            "could not be judged: the worker died twice",
        }
        assert verifier.verify(*SYMBOLIC).passed is True


def test_worker_that_cannot_start_is_one_clear_error():
    with MathVerifier(workers=1, memory_mb=8) as verifier, pytest.raises(VerifierError, match="8 MiB"):
        verifier.verify(*SYMBOLIC)


def test_missing_interpreter_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(math_pool.sys, "executable", "/nonexistent/python")
    with MathVerifier(workers=1) as verifier, pytest.raises(VerifierError, match="cannot start"):
        verifier.verify(*SYMBOLIC)


def test_close_ends_the_workers_and_a_later_pair_starts_new_ones(verifier):
    verifier.verify(*SYMBOLIC)
    (pid,) = verifier._pool.pids()
    verifier.close()
    assert not alive(pid)
    assert verifier.verify(*SYMBOLIC).passed is True


def test_workers_run_at_the_same_time():
    with MathVerifier(workers=2, timeout=5.0) as verifier:
        list(verifier.verify_many([SYMBOLIC] * 4))
        pids = verifier._pool.pids()
        assert len(pids) == 2
        before = [worked(pid) for pid in pids]
        thread = threading.Thread(target=lambda: list(verifier.verify_many([ENDLESS] * 2)))
        thread.start()
        while any(worked(pid) < ticks + 20 for pid, ticks in zip(pids, before, strict=True)):
            assert thread.is_alive()
            time.sleep(0.05)
        thread.join()


def worked(pid: int) -> int:
    """Give the processor time of a process that lives, in ticks of 10 ms."""
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))


def test_threads_may_share_a_verifier(verifier):
    verdicts = []
    threads = [
        threading.Thread(target=lambda: verdicts.extend(v.passed for v in verifier.verify_many([SYMBOLIC] * 10)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == [True] * 40


PARENT = r"""
import sys, time
from fusedata.verify.math_answer import MathVerifier
verifier = MathVerifier(workers=1, timeout=60.0)
verifier.verify(r"\tan^2 y + 1", r"\sec^2 y")
print(*verifier._pool.pids(), flush=True)
if sys.argv[1] == "busy":
    verifier.verify("42", r"\prod_{n=1}^{\infty} n")
time.sleep(60)
"""


def parent(tmp_path, state):
    script = tmp_path / "parent.py"
    script.write_text(PARENT, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(math_pool.Path(math_pool.fusedata.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, str(script), state], stdout=subprocess.PIPE, text=True, env=environment)
    return process, int(process.stdout.readline())


def test_idle_worker_dies_with_a_killed_parent(tmp_path):
    process, pid = parent(tmp_path, "idle")
    with process:
        assert alive(pid)
        process.kill()
    wait_until(lambda: not alive(pid))


def test_busy_worker_dies_with_a_killed_parent(tmp_path):
    process, pid = parent(tmp_path, "busy")
    with process:
        time.sleep(1.0)
        assert alive(pid)
        process.kill()
    wait_until(lambda: not alive(pid), seconds=10.0)


def test_interrupt_in_the_terminal_does_not_reach_the_worker(verifier):
    verifier.verify(*SYMBOLIC)
    (pid,) = verifier._pool.pids()
    assert os.getsid(pid) != os.getsid(0)
    os.kill(pid, signal.SIGINT)
    assert verifier.verify(*SYMBOLIC).passed is True
    assert verifier._pool.pids() == [pid]
