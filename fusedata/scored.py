"""Scored responses, out of a run or a JSON-lines file, by the reward model that scored them."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

import orjson
import polars as pl

from fusedata.candidates import candidates, run_tables
from fusedata.errors import ConfigError
from fusedata.readers import recipe_of, settled
from fusedata.schema import KEY, REWARDS, prompt_id, text_id
from fusedata.store import Parts, Run, collect, read_prompts, read_run

_ROW = {
    "prompt_id": pl.String(),
    "source_model": pl.String(),
    "sample": pl.Int64(),
    "text_id": pl.String(),
    "passed": pl.Boolean(),
    "reward_model": pl.String(),
    "reward": pl.Float64(),
}


@dataclass(frozen=True)
class Scores:
    """Rewards by any number of models: a row a response and reward model.

    `rows`: prompt_id, source_model, sample, text_id, passed, reward_model (null: not told), reward (null: no score).
    `model` is the one in force, where there is one. `checked` says that `passed` decides between chosen and rejected.
    """

    path: Path
    rows: pl.DataFrame
    model: str | None
    checked: bool
    same_source_model: bool

    def models(self) -> list[str]:
        """List the reward models that are named, by name."""
        return sorted(self.rows["reward_model"].drop_nulls().unique())

    def of(self, model: str) -> pl.DataFrame:
        """Give the rows of one reward model, and those whose model is not told. Raises ConfigError for none."""
        rows = self.rows.filter(pl.col("reward_model").fill_null(model) == model)
        if not rows.height:
            known = ", ".join(self.models()) or "none"
            raise ConfigError(f"{self.path}: holds no rewards of {model} (it has those of: {known}).")
        return rows

    def chosen(self) -> str:
        """Name the reward model in force, or the only one. Raises ConfigError where that is not one."""
        names = self.models()
        if self.model in names:
            return str(self.model)
        if len(names) == 1:
            return names[0]
        found = f"has rewards of {', '.join(names)}" if names else "does not tell the reward model"
        raise ConfigError(f"{self.path}: {found}: say which one with --model.")


def read_scores(path: Path) -> Scores:
    """Read a run folder or a JSON-lines file. Raises RunError, ConfigError."""
    return settled(lambda: _of_run(read_run(path))) if path.is_dir() else _of_file(path)


def _of_run(run: Run) -> Scores:
    """Give the responses that count, with every reward in the run's folder: also those of a recipe before this one."""
    recipe, prompts = recipe_of(run), read_prompts(run)
    tables = run_tables(run, prompts)
    found = candidates(tables).drop("reward")
    found = found.filter(pl.col("flaw").is_null()) if tables.flaws else found
    found = found.cast({"prompt_id": pl.String, "source_model": pl.String})
    rows = found.join(_rewards(run, tables.rewards), on=[*KEY, "text_id"]).select(*_ROW).cast(_ROW)  # type: ignore[arg-type]
    scorer = recipe.reward.model if recipe.reward else None
    same = recipe.dpo is None or recipe.dpo.same_source_model
    return Scores(run.root, rows, scorer, recipe.correctness is not None, same)


def _rewards(run: Run, in_force: Sequence[Parts]) -> pl.DataFrame:
    """Read all tables of rewards in a run's folder; of one model's scores of a text, the one in force or the newest."""
    now = {parts.folder for parts in in_force}
    before = [folder for folder in (run.root / "rewards").glob("*/") if folder not in now]
    tables = [Parts(folder, REWARDS) for folder in sorted(before, key=lambda folder: folder.stat().st_mtime)]
    tables += in_force
    columns = [*KEY, "text_id", "reward_model", "reward"]
    if not tables:
        return pl.DataFrame(schema={name: REWARDS[name] for name in columns})
    rows = collect(pl.concat([table.scan("part").select(columns) for table in tables]), tables)
    return rows.unique(columns[:-1], keep="last", maintain_order=True)


def _of_file(path: Path) -> Scores:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        remedy = "name a run folder or a JSON-lines file"
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); {remedy}.") from error
    found = [(number, _row(path, number, line)) for number, line in enumerate(lines, start=1) if line.strip()]
    rows = [(_prompt(row), *_values(row, number)) for number, row in found]
    checked = any("passed" in row for _, row in found)
    return Scores(path, pl.DataFrame(rows, schema=_ROW, orient="row"), None, checked, same_source_model=True)


def _values(row: dict[str, Any], number: int) -> tuple[object, ...]:
    """Give the columns after the prompt; texts that are not told are taken to differ."""
    text = text_id(row["response"]) if "response" in row else f"line {number}"
    return row["source_model"], number, text, row.get("passed"), row.get("reward_model"), row["reward"]


def _row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """Read a line. Raises ConfigError where it is no row."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        row = orjson.loads(line)
        if isinstance(row, dict) and _prompt(row) and all(_fits(row, key, *kinds) for key, kinds in _KINDS.items()):
            return row
    wanted = "prompt_id (or prompt, or messages), source_model, reward (a number or null)"
    more = "passed (true, false or null), response and reward_model (texts) may be there"
    raise ConfigError(f"{path}, line {number}: is no scored response: it needs {wanted}; {more}.")


_KINDS: dict[str, tuple[bool, tuple[type, ...]]] = {
    "source_model": (True, (str,)),
    "reward": (True, (int, float, NoneType)),
    "passed": (False, (bool, NoneType)),
    "response": (False, (str,)),
    "reward_model": (False, (str, NoneType)),
}
"""What a line holds: whether it must, and of what kinds."""


def _fits(row: dict[str, Any], key: str, needed: bool, kinds: tuple[type, ...]) -> bool:
    return type(row[key]) in kinds if key in row else not needed


def _prompt(row: dict[str, Any]) -> str:
    """Identify the prompt of a line; "" where it has none. May raise TypeError or KeyError for wrong turns."""
    told, prompt = row.get("prompt_id"), row.get("prompt")
    if isinstance(told, str):
        return told
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else row.get("messages")
    return prompt_id(turns) if turns else ""
