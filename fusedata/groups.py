"""Candidates in groups, those of a prompt or of one of its source models: what a group has, and where its ends stand.

Numbers of rows alone are sorted, and what then lies together is reduced: a fifth of the time of sorting whole rows.
"""

from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

FLAGS = ("answered", "kept", "judged", "good", "bad")
_BIT = {flag: 1 << at for at, flag in enumerate(FLAGS)}


@dataclass(frozen=True)
class Ordered:
    """Candidates by prompt, model name and sample, one value of each array a row."""

    rows: pl.DataFrame
    """The candidates as they came."""
    at: NDArray[np.uint32]
    """The numbers of these rows, in order."""
    model: NDArray[np.int64]
    """Numbers a prompt's models, on from those of the prompt before."""
    models: int
    """How many numbers a prompt has."""
    flags: NDArray[np.uint8]
    score: NDArray[np.float64]
    """NaN: none."""
    text: NDArray[np.uint64]

    def where(self, which: NDArray[np.bool_]) -> Self:
        """Give those of `which`, a value a row in order."""
        flags, score, text = self.flags[which], self.score[which], self.text[which]
        return replace(self, at=self.at[which], model=self.model[which], flags=flags, score=score, text=text)

    def groups(self, of: Literal["model", "prompt"]) -> pl.DataFrame:
        """Give, for each group in order, what it has and its ends.

        Columns: prompt_id, source_model (its first response's), FLAGS (has it such a response?), `varied` and
        `varied_scored` (do the texts of those kept, or scored too, differ?). `high` is the highest score of the good
        ones, `low` the lowest of the bad ones; `chosen` and `rejected` are the rows that have it, of several the first,
        `chosen_text` and `rejected_text` their texts: null where there is none.
        """
        number = self.model if of == "model" else self.model // self.models
        starts = np.flatnonzero(np.append(True, number[1:] != number[:-1])) if len(number) else number
        flags = np.bitwise_or.reduceat(self.flags, starts)
        kept = (self.flags & _BIT["kept"]) != 0
        scored = kept & ~np.isnan(self.score)
        first = pl.Series(self.at[starts])
        high, chosen = self._end("good", starts, np.maximum, -np.inf)
        low, rejected = self._end("bad", starts, np.minimum, np.inf)
        at, text = pl.Series(self.at), pl.Series(self.text)
        return pl.DataFrame(
            {
                "prompt_id": self.rows["prompt_id"].gather(first),
                "source_model": self.rows["source_model"].gather(first),
                **{flag: (flags & bit) != 0 for flag, bit in _BIT.items()},
                "varied": self._varied(kept, starts),
                "varied_scored": self._varied(scored, starts),
                "high": high,
                "low": low,
                **{f"{side}": at.gather(place) for side, place in (("chosen", chosen), ("rejected", rejected))},
                **{f"{side}_text": text.gather(place) for side, place in (("chosen", chosen), ("rejected", rejected))},
            }
        )

    def _end(self, flag: str, starts: NDArray[np.int64], ufunc: np.ufunc, none: float) -> tuple[pl.Series, pl.Series]:
        """Give the end of each group among its scored ones that have `flag`, and the place of the first there."""
        score = np.where(((self.flags & _BIT[flag]) != 0) & ~np.isnan(self.score), self.score, none)
        end = ufunc.reduceat(score, starts)
        count = np.uint32(len(score))
        there = (score == np.repeat(end, np.diff(starts, append=len(score)))) & (score != none)
        first = pl.Series(np.minimum.reduceat(np.where(there, np.arange(count, dtype=np.uint32), count), starts))
        return pl.Series(end).set(pl.Series(end == none), None), first.set(first == count, None)

    def _varied(self, which: NDArray[np.bool_], starts: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell of each group whether the texts of `which` differ."""
        least = np.minimum.reduceat(np.where(which, self.text, np.iinfo(np.uint64).max), starts)
        varied: NDArray[np.bool_] = least < np.maximum.reduceat(np.where(which, self.text, 0), starts)
        return varied


def ordered(rows: pl.DataFrame, flags: dict[str, pl.Expr], score: pl.Expr) -> Ordered:
    """Order candidates (prompt_id, source_model, sample, text_id, …); FLAGS are conditions, null: not met.

    Of score null is none. Whether texts differ is seen by 64-bit hashes of text_id.
    """
    bits = [flags[flag].fill_null(value=False).cast(pl.UInt8) * pl.lit(bit, pl.UInt8) for flag, bit in _BIT.items()]
    told = rows.select(
        flags=pl.sum_horizontal(bits).cast(pl.UInt8), score=score.fill_null(float("nan")), text=pl.col("text_id").hash()
    )
    prompt, model, sample = (_code(rows[name]) for name in ("prompt_id", "source_model", "sample"))
    models, samples = (int(code.max(initial=0)) + 1 for code in (model, sample))
    place = prompt.astype(np.int64)
    for code, count in ((model, models), (sample, samples)):
        place *= count
        place += code
    at, place = _sorted(place)
    told = told[at]
    return Ordered(rows, at, place // samples, models, *(told[name].to_numpy() for name in ("flags", "score", "text")))


def _code(names: pl.Series) -> NDArray[np.int64]:
    """Number what is there in its order; numbers are taken as they are."""
    if names.dtype.is_numeric():
        return names.to_numpy()
    if isinstance(names.dtype, pl.Enum):
        return names.to_physical().to_numpy()
    if names.dtype == pl.String:
        return names.cast(pl.Enum(names.unique().sort())).to_physical().to_numpy()
    there = names.unique()
    codes = there.to_physical().to_numpy()[there.cast(pl.String).arg_sort().to_numpy()]
    order = np.zeros(int(codes.max(initial=0)) + 1, np.int64)
    order[codes] = np.arange(len(codes))
    found: NDArray[np.int64] = order[names.to_physical().to_numpy()]
    return found


def _sorted(place: NDArray[np.int64]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Give the order of rows with these places, and the places in it: where most are taken once, without a sort."""
    count = np.uint32(len(place))
    most = int(place.max(initial=0)) + 1
    if most <= 2 * count:
        order = np.full(most, count, np.uint32)
        order[place] = np.arange(count, dtype=np.uint32)
        taken = np.flatnonzero(order != count)
        if len(taken) == count:
            return order[taken], taken
    order = pl.Series(place).arg_sort().to_numpy()
    return order, place[order]
