"""Real runs for the tests of the readers: small corpora, the twins of engine and reward model, stops at will."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from click.testing import CliRunner

from fusedata.build import Build, Silent
from fusedata.cli import cli
from fusedata.config import validate
from fusedata.plan import Advance
from fusedata.profile import Profile, RewardHost
from fusedata.recipe import Recipe
from fusedata.sample.protocol import Completion, Request
from fusedata.testing import EchoEngine, HashReward

MODEL = "test/echo-model"
CORPUS = "test/sums"
CARRIED = "test/carried"
NASTY = "\x1b[31mred\x1b[0m [bold]markup[/bold] \x9b2J \u202eright to left 你好，世界"
SUMS = 12


class Stopped(Exception):  # noqa: N818 - what Ctrl-C or a kill does to a build
    """The build was stopped here."""


class Stopper(Silent):
    """Stops a build in the stage whose name begins with `stage`, after `rows` rows of it."""

    def __init__(self, stage: str, rows: int = 0) -> None:
        self.name, self.left = stage, rows

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[Advance]:
        hit = name.startswith(self.name)
        if hit and not self.left:
            raise Stopped

        def advance(count: int) -> None:
            self.left -= count if hit else 0
            if hit and self.left <= 0:
                raise Stopped

        yield advance


class Engine(EchoEngine):
    """A right and a wrong answer to each sum; what `say` gives for a prompt and a sample stands instead, if anything."""

    def __init__(self, say: Callable[[str, int], Completion | str | None] = lambda *_: None) -> None:
        super().__init__(batch_size=4)
        self._say = say

    def _answer(self, request: Request) -> Completion:
        prompt = request.messages[-1]["content"]
        words = prompt.rstrip("?").split()
        said = self._say(prompt, request.sample)
        text = said or f"The answer is {int(words[2]) + int(words[4]) + request.sample % 2}."
        return text if isinstance(text, Completion) else Completion(text, "stop", len(prompt), len(text))


def fails(part: str) -> Engine:
    """An engine that cannot answer the prompts that hold `part`; its error tells a number that varies."""

    def say(prompt: str, sample: int) -> Completion | None:
        error = f"the prompt has {len(prompt) + sample} tokens, and the model's context is 4"
        return Completion(None, "error", 9, error=error) if part in prompt else None

    return Engine(say)


def nasty() -> Engine:
    """An engine that writes control characters and markup before its answer."""
    return Engine(lambda prompt, sample: f"{NASTY} The answer is {int(prompt.split()[2]) * 2 + 1 + sample}.")


def recipe(folder: Path, **changes: object) -> Recipe:
    """A recipe of two corpora in `folder`: sums that the model answers, and a problem with a carried answer."""
    rows = [{"q": f"What is {i} + {i + 1}?", "a": str(2 * i + 1)} for i in range(SUMS)]
    rows += [rows[0], {"q": "", "a": "1"}, {"q": "What is 90 + 9?", "a": ""}]
    carried = [{"q": "三加四等于多少？", "a": "7", "s": f"答案是7。{NASTY}"}]
    for name, content in (("sums", rows), ("carried", carried)):
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in content))
    base = {"prompt": "q", "answer": "a", "license": "mit"}
    carry = {"responses": {"column": "s", "source_model": "human"}, "sampled": False}
    data: dict[str, object] = {
        "name": "sums",
        "description": "Sums [and] more.",
        "corpora": [
            {"id": CORPUS, "path": str(folder / "sums.jsonl"), **base},
            {"id": CARRIED, "path": str(folder / "carried.jsonl"), **base, **carry},
        ],
        "source_models": [{"id": MODEL, "samples": 2, "max_tokens": 8}],
        "correctness": {"check": "math_answer"},
        "reward": {"model": "fusedata/hash-reward"},
        "dpo": {"reward_gap": [-1.0, 1.0], "reward_gap_model": "fusedata/hash-reward"},
        "split": {"test": 0.2},
    }
    return validate(Recipe, data | changes, "recipe")


def built(
    folder: Path,
    *,
    out: str = "run",
    engine: Engine | None = None,
    scorer: HashReward | None = None,
    stop: Stopper | None = None,
    limit: int | None = None,
    force: Sequence[str] = (),
    **changes: object,
) -> Path:
    """Build a run in `folder`/`out` with the twins, and give its path; where `stop` says so it is left unfinished."""
    build = Build(
        recipe(folder, **changes),
        Profile(name="test", reward=RewardHost(batch_size=16)),
        make_engine=lambda *_: engine or Engine(),
        make_reward=lambda *_: scorer or HashReward(),
        reporter=stop or Silent(),
    )
    try:
        build.run(folder / out, limit=limit, force=force)
    except Stopped:
        assert stop
    return folder / out


def invoke(*arguments: object, columns: int = 100) -> str:
    """Run a command of the command line in this process, and give what it printed. Raises what it raises."""
    words = [str(argument) for argument in arguments]
    result = CliRunner().invoke(
        cli, words, env={"COLUMNS": str(columns)}, catch_exceptions=False, standalone_mode=False
    )
    return result.output
