"""A small real build, measured: what `--dry-run --calibrate N` reckons a large one from."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from fusedata.dataset import Counts
from fusedata.plan import Advance, Reporter
from fusedata.recipe import Recipe
from fusedata.schema import RESPONSES, REWARDS
from fusedata.store import Run, read_prompts, read_run


@dataclass(frozen=True)
class Measured:
    """What a calibration found of one model: rows, mean tokens a row, and rows a second."""

    rows: int
    prompt_tokens: float
    completion_tokens: float
    rows_per_second: float | None


@dataclass(frozen=True)
class Trial:
    """A small real build, and what it says of a large one."""

    prompts: int
    models: Mapping[str, Measured]
    reward: Measured | None
    disk_bytes: int
    sft_rows: int
    dpo_pairs: int


@dataclass
class Stopwatch:
    """A reporter that passes on what it hears, and keeps the rows a second of each stage.

    Time counts from a stage's first finished rows, where it has more than one lot of them: loading a model is left
    out.
    """

    inner: Reporter
    rates: dict[str, float] = field(default_factory=dict)

    def changed(self, fields: Sequence[tuple[str, object, object]], redone: Sequence[str]) -> None:
        """Pass it on."""
        self.inner.changed(fields, redone)

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[Advance]:
        """Time one stage."""
        began, lots = time.perf_counter(), []
        with self.inner.stage(name, total) as advance:

            def note(rows: int) -> None:
                lots.append((time.perf_counter(), rows))
                advance(rows)

            yield note
        if len(lots) == 1:
            self.rates[name] = lots[0][1] / (lots[0][0] - began)
        elif lots:
            self.rates[name] = sum(rows for _, rows in lots[1:]) / (lots[-1][0] - lots[0][0])


def read_trial(root: Path, recipe: Recipe, rates: Mapping[str, float], counts: Counts) -> Trial:
    """Read what a small build in `root` found: `rates` by stage, `counts` of its rows. Raises RunError."""
    run = read_run(root)
    models = {m.id: _measured(run, "responses", m.id, rates.get(f"sample {m.id}")) for m in recipe.source_models}
    scored = [_measured(run, "rewards", label, rates.get(f"rewards of {label}")) for label in run.labels("rewards")]
    return Trial(
        prompts=read_prompts(run).height,
        models={model: found for model, found in models.items() if found},
        reward=max((s for s in scored if s), key=lambda s: s.rows_per_second or 0.0, default=None),
        disk_bytes=sum(p.stat().st_size for s in ("responses", "verdicts", "rewards") for p in root.glob(f"{s}/*/*")),
        sft_rows=sum(counts["sft"].values()),
        dpo_pairs=sum(counts["dpo"].values()),
    )


def _measured(run: Run, stage: str, label: str, rate: float | None) -> Measured | None:
    """Mean tokens of a table's rows; a reward model reads all of a row at once."""
    parts = run.parts(stage, label, RESPONSES if stage == "responses" else REWARDS)
    read, written = ("prompt_tokens", "completion_tokens") if stage == "responses" else ("tokens", None)
    rows = parts.scan("part").select(pl.len(), pl.mean(read), pl.mean(written) if written else pl.lit(0.0))
    number, read_mean, written_mean = rows.collect().row(0)
    return Measured(number, read_mean, written_mean, rate) if number else None
