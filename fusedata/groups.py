"""Candidates in groups, those of a prompt or of one of its source models: what a group has, and where its ends stand.

Numbers of rows alone are sorted, and what then lies together is reduced: half the time of sorting whole rows.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, Literal, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

FLAGS = ("answered", "kept", "judged", "good", "bad")
_BIT = {flag: 1 << at for at, flag in enumerate(FLAGS)}


@dataclass(frozen=True)
class Ordered:
    """Candidates by prompt, model name and sample."""

    rows: pl.DataFrame
    """The candidates as they came."""
    told: Sequence[pl.Expr]
    """What is decided on: `flags` (their bits), `score` (NaN: none), `text` (a hash)."""
    at: NDArray[np.uint32]
    """The numbers of these rows, in order."""
    model: NDArray[Any]
    """For each of these, a number for its prompt and model, ascending."""
    models: int
    """How many numbers each prompt has."""

    def where(self, which: NDArray[np.bool_]) -> Self:
        """Give those of `which`, a value a row in order."""
        return replace(self, at=self.at[which], model=self.model[which])

    def groups(self, of: Literal["model", "prompt"], *, together: int = 500_000) -> pl.DataFrame:
        """Give, for each group in order, what it has and its ends.

        Columns: prompt_id, source_model (its first response's), FLAGS (has it such a response?), `varied` and
        `varied_scored` (do the texts of those kept, or scored too, differ?). `high` is the highest score of the good
        ones, `low` the lowest of the bad ones; `chosen` and `rejected` are the rows that have it, of several the first,
        `chosen_text` and `rejected_text` their texts: null where there is none. Threads reduce about `together` rows
        at a time, in memory that the next ones take over: fresh memory costs more than the work.
        """
        ends = [*range(together, len(self.at), together)]
        cuts = np.searchsorted(self.model, self.model[ends] // self.models * self.models)  # between prompts
        bounds = pairwise([0, *cuts.tolist(), len(self.at)])
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            return pl.concat(threads.map(partial(self._groups, of), (slice(start, end) for start, end in bounds)))

    def _groups(self, of: Literal["model", "prompt"], some: slice) -> pl.DataFrame:
        at, number = self.at[some], self.model[some] // (1 if of == "model" else self.models)
        told = self.rows.select({name for one in self.told for name in one.meta.root_names()})[at].select(self.told)
        flags, score, text = (one.to_numpy() for one in told)
        starts = np.flatnonzero(np.append(True, number[1:] != number[:-1])) if len(number) else number
        scored, kept = ~np.isnan(score), (flags & _BIT["kept"]) != 0
        first = pl.Series(at[starts])
        has = np.bitwise_or.reduceat(flags, starts)
        high, chosen = _end(np.where(scored & ((flags & _BIT["good"]) != 0), score, -np.inf), starts, np.maximum)
        low, rejected = _end(np.where(scored & ((flags & _BIT["bad"]) != 0), score, np.inf), starts, np.minimum)
        places = (("chosen", chosen), ("rejected", rejected))
        return pl.DataFrame(
            {
                "prompt_id": self.rows["prompt_id"].gather(first),
                "source_model": self.rows["source_model"].gather(first),
                **{flag: (has & bit) != 0 for flag, bit in _BIT.items()},
                "varied": _varied(text, kept, starts),
                "varied_scored": _varied(text, kept & scored, starts),
                "high": high,
                "low": low,
                **{side: pl.Series(at).gather(place) for side, place in places},
                **{f"{side}_text": told["text"].gather(place) for side, place in places},
            }
        )


def _end(score: NDArray[np.float64], starts: NDArray[np.int64], ufunc: np.ufunc) -> tuple[pl.Series, pl.Series]:
    """Give the end of each group, and the first place that has it; null where it is not finite."""
    end, count = ufunc.reduceat(score, starts), np.uint32(len(score))
    there = score == np.repeat(end, np.diff(starts, append=len(score)))
    first = pl.Series(np.minimum.reduceat(np.where(there, np.arange(count, dtype=np.uint32), count), starts))
    none = pl.Series(~np.isfinite(end))
    return pl.Series(end).set(none, None), first.set(none, None)


def _varied(text: NDArray[np.uint64], which: NDArray[np.bool_], starts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell of each group whether the texts of `which` differ."""
    least = np.minimum.reduceat(np.where(which, text, np.iinfo(np.uint64).max), starts)
    varied: NDArray[np.bool_] = least < np.maximum.reduceat(np.where(which, text, 0), starts)
    return varied


def ordered(rows: pl.DataFrame, flags: dict[str, pl.Expr], score: pl.Expr) -> Ordered:
    """Order candidates (prompt_id, source_model, sample, text_id, …); FLAGS are conditions, null: not met.

    Of score null is none. Whether texts differ is seen by 64-bit hashes of text_id, or by text_id where it is one.
    """
    bits = [flags[flag].fill_null(value=False).cast(pl.UInt8) * pl.lit(bit, pl.UInt8) for flag, bit in _BIT.items()]
    text = pl.col("text_id").fill_null(0) if rows["text_id"].dtype == pl.UInt64 else pl.col("text_id").hash()
    told = [
        pl.sum_horizontal(bits).cast(pl.UInt8).alias("flags"),
        score.fill_null(float("nan")).alias("score"),
        text.alias("text"),
    ]
    prompt, model, sample = (_code(rows[name]) for name in ("prompt_id", "source_model", "sample"))
    models, samples = (int(code.max(initial=0)) + 1 for code in (model, sample))
    most = (int(prompt.max(initial=0)) + 1) * models * samples
    place: Any = prompt.astype(np.uint32 if most < 1 << 32 else np.int64)
    for code, count in ((model, models), (sample, samples)):
        place *= place.dtype.type(count)
        place += code.astype(place.dtype)
    at, place = _sorted(place, most)
    place //= place.dtype.type(samples)
    return Ordered(rows, told, at, place, models)


def _code(names: pl.Series) -> NDArray[Any]:
    """Number what is there in its order; numbers are taken as they are."""
    if names.dtype.is_numeric():
        return names.to_numpy()
    if isinstance(names.dtype, pl.Enum):
        return names.to_physical().to_numpy()
    if names.dtype == pl.String:
        return names.cast(pl.Enum(names.unique().sort())).to_physical().to_numpy()
    there = names.unique()
    codes = there.to_physical().to_numpy()[there.cast(pl.String).arg_sort().to_numpy()]
    order = np.zeros(int(codes.max(initial=0)) + 1, np.uint32)
    order[codes] = np.arange(len(codes), dtype=np.uint32)
    found: NDArray[np.uint32] = order[names.to_physical().to_numpy()]
    return found


def _sorted(place: NDArray[Any], most: int) -> tuple[NDArray[np.uint32], NDArray[Any]]:
    """Give the order of rows with these places, and the places in it: where most are taken once, without a sort."""
    count = np.uint32(len(place))
    if most <= 2 * count:
        order = np.full(most, count, np.uint32)
        order[place] = np.arange(count, dtype=np.uint32)
        if most == count and not (order == count).any():
            return order, np.arange(most, dtype=place.dtype)
        taken = order != count
        order = order[taken]
        if len(order) == count:
            return order, np.arange(most, dtype=place.dtype)[taken]
    order = pl.Series(place).arg_sort().to_numpy()
    return order, place[order]
