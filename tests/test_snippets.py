"""Parsing programs in several threads at once."""

import ast
import gc
import threading
import time
from collections.abc import Callable

from fusedata.snippets import compiled, parsed

CODE = "\n".join(f"assert f('{number}', [1, 2]) == g({number})" for number in range(50))


def deep(frames: int, call: Callable[[], object]) -> object:
    return deep(frames - 1, call) if frames else call()


def failures(call: Callable[[], object]) -> list[BaseException]:
    """What two threads raise that call at different depths while the collector lets one interrupt the other."""
    raised: list[BaseException] = []

    def work(frames: int) -> None:
        for _ in range(300):
            try:
                deep(frames, call)
            except SystemError as error:
                raised.append(error)

    def yields(*_: object) -> None:
        time.sleep(0)

    thresholds = gc.get_threshold()
    gc.callbacks.append(yields)
    gc.set_threshold(50)
    try:
        threads = [threading.Thread(target=work, args=(frames,)) for frames in (3, 100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(yields)
    return raised


def test_threads_parse_and_compile_at_once():
    tree = ast.parse(CODE)
    assert failures(lambda: parsed(CODE)) == []
    assert failures(lambda: compiled(tree)) == []
