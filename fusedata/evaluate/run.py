"""An evaluation: benchmarks found, asked of each model, judged, and what came of it written beside the answers."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import polars as pl

from fusedata.contamination.benchmarks import NAMES
from fusedata.contamination.sources import Places, find_benchmarks, read_rows
from fusedata.errors import ConfigError, FusedataError
from fusedata.evaluate.handover import TOOLS, command
from fusedata.evaluate.harness import Backend, answer
from fusedata.evaluate.judge import Judge, Verdict
from fusedata.evaluate.tasks import TASKS, Question, taken
from fusedata.shares import difference, interval
from fusedata.store import first_line, writing

RECORD = "evaluation.json"
TRAINED = "train.json"


@dataclass(frozen=True)
class Score:
    """A model on a benchmark: right answers, those that could not be judged (not right), and a 95 % interval.

    LiveBench gives an answer parts of a point; the interval is that of whole ones, which is no narrower.
    """

    model: str
    right: float
    of: int
    unjudged: int
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Result:
    """A benchmark: what was read, a score a model, and how much the last one gains on the first, with an interval."""

    benchmark: str
    revision: str
    of: int
    scores: tuple[Score, ...]
    gain: tuple[float, float, float] | None


@dataclass
class Evaluation:
    """What came of it. `left_out` says why a benchmark was not asked; `handed_over` how its own tool goes on."""

    models: tuple[str, ...]
    backend: Backend
    limit: int | None
    results: list[Result] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    handed_over: dict[str, list[str]] = field(default_factory=dict)


def evaluate(
    models: Sequence[str],
    names: Sequence[str],
    places: Places,
    backend: Backend,
    out: Path,
    *,
    limit: int | None = None,
    said: Callable[[str], None] = lambda _: None,
) -> Evaluation:
    """Ask `models` (base first, trained last) the benchmarks `names`; none: all that need no judge.

    Answers and verdicts go to `out`/MODEL/BENCHMARK.parquet, the figures to `out`/evaluation.json. A run that was
    stopped goes on from the answers that it has. Raises ConfigError for a name that is not known or where nothing can
    be asked, EngineError, VerifierError, MissingExtraError.
    """
    if unknown := [name for name in names if name not in NAMES]:
        raise ConfigError(f"benchmark {unknown[0]}: there is none of this name; there are {', '.join(NAMES)}.")
    found = Evaluation(tuple(models), backend, limit)
    asked, revisions = _asked(names or tuple(TASKS), places, limit, found.left_out)
    if not asked:
        why = "; ".join(f"{name}: {reason}" for name, reason in found.left_out.items())
        raise ConfigError(f"No benchmark can be asked ({why}). Name a folder that holds them (--benchmarks).")
    marks: dict[str, list[list[float | None]]] = {name: [] for name in asked}
    with Judge([name for name in asked if name in TASKS]) as judge:
        for model in models:
            said(f"{model}: {sum(map(len, asked.values())):,} questions of {', '.join(asked)}")
            answers = answer(model, asked, backend, out / _folder(model))
            for name, questions in asked.items():
                if name in TASKS:
                    texts = [turns[0] for turns in answers[name]]
                    verdicts = judge.verdicts(name, questions, texts)
                    _write(out / _folder(model) / f"{name}.parquet", questions, texts, verdicts)
                    marks[name].append([verdict.passed for verdict in verdicts])
                else:
                    marks[name].append(_handed_over(name, model, questions, answers[name], out, found))
    for name, each in marks.items():
        if all(each):
            scores = tuple(map(_score, models, each))
            first, last = ([mark or 0.0 for mark in one] for one in (each[0], each[-1]))
            gain = difference(first, last) if len(each) > 1 else None
            found.results.append(Result(name, revisions[name], len(asked[name]), scores, gain))
    with writing(out / RECORD) as file:
        file.write(json.dumps(asdict(found), indent=1, ensure_ascii=False).encode())
    return found


def _asked(
    names: Sequence[str], places: Places, limit: int | None, left_out: dict[str, str]
) -> tuple[dict[str, list[Question]], Mapping[str, str]]:
    """Read the questions of each benchmark; of those that cannot be asked, why, into `left_out`."""
    shelf = find_benchmarks(names, places)
    left_out.update(shelf.unchecked)
    asked: dict[str, list[Question]] = {}
    for held in shelf.held:
        name = held.benchmark.name
        made = TASKS.get(name) or TOOLS[name]
        try:
            questions = [one for item, row in read_rows(held, made.columns) if (one := made.ask(item, row))]
        except FusedataError as error:
            left_out[name] = first_line(error)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            left_out[name] = f"its rows are not as the benchmark publishes them ({first_line(error)})"
        else:
            if questions:
                asked[name] = taken(questions, limit)
            else:
                left_out[name] = "its files hold no question"
    return asked, shelf.revisions()


def _handed_over(
    name: str, model: str, questions: Sequence[Question], answers: Sequence[Sequence[str]], out: Path, found: Evaluation
) -> list[float | None]:
    """Write answers as the benchmark's own tool reads them; give what it has scored them, if it has."""
    folder = out / "handed-over" / name
    TOOLS[name].write(folder, model, list(zip(questions, answers, strict=True)))
    scores = TOOLS[name].scores(folder, model, questions)
    if not scores:
        found.handed_over.setdefault(name, []).append(command(name, folder, model))
    return scores


def _score(model: str, marks: Sequence[float | None]) -> Score:
    right, of = sum(mark or 0 for mark in marks), len(marks)
    return Score(model, right, of, marks.count(None), right / of, *interval(right, of))


def _write(path: Path, questions: Sequence[Question], answers: Sequence[str], verdicts: Sequence[Verdict]) -> None:
    columns = {
        "item": pl.Series([question.item for question in questions], dtype=pl.String),
        "prompt": pl.Series([question.prompt for question in questions], dtype=pl.String),
        "answer": pl.Series(answers, dtype=pl.String),
        "passed": pl.Series([verdict.passed for verdict in verdicts], dtype=pl.Boolean),
        "detail": pl.Series([verdict.detail for verdict in verdicts], dtype=pl.String),
    }
    with writing(path) as file:
        pl.DataFrame(columns).write_parquet(file)


def _folder(model: str) -> str:
    return re.sub(r"[^\w.-]+", "-", model).strip("-.")


def trained_from(model: str) -> str | None:
    """Read what a folder was trained from: the first of its stages' models; None where nothing tells it."""
    seen = [model]
    while (record := Path(seen[-1]) / TRAINED).is_file() and seen.count(seen[-1]) == 1:
        seen.append(str(json.loads(record.read_bytes())["model"]))
    return seen[-1] if len(seen) > 1 else None
