"""Numbers and foreign text made fit for a terminal: distributions, bars, escaped control characters. Pure."""

import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
import polars as pl

_BLOCKS = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True)
class Summary:
    """What is known of a column of numbers: how many there are, and where they lie. All but `count` null: no number."""

    count: int
    min: float | None = None
    median: float | None = None
    mean: float | None = None
    max: float | None = None
    total: float | None = None


@dataclass(frozen=True)
class Distribution:
    """A summary with its histogram: (from, to, count), equal bins from the lowest number to the highest."""

    summary: Summary
    bins: tuple[tuple[float, float, int], ...] = ()


def summarise(values: pl.Series) -> Summary:
    """Summarise the finite numbers of a column."""
    numbers = _finite(values)
    if not len(numbers):
        return Summary(0)
    parts = (numbers.min(), numbers.median(), numbers.mean(), numbers.max(), numbers.sum())
    return Summary(len(numbers), *(float(part) for part in parts))  # type: ignore[arg-type]


def distribution(values: pl.Series, bins: int = 10) -> Distribution:
    """Count the finite numbers of a column in `bins` bins; equal numbers alone make one bin."""
    numbers, summary = _finite(values), summarise(values)
    if summary.min is None or summary.max is None:
        return Distribution(summary)
    if summary.max - summary.min < sys.float_info.min:  # equal, or so near that a processor may call it so
        return Distribution(summary, ((summary.min, summary.max, summary.count),))
    width = (summary.max - summary.min) / bins
    places = ((numbers - summary.min) / width).cast(pl.Int64).clip(0, bins - 1)
    found = dict(places.value_counts().iter_rows())
    edges = [*(summary.min + width * i for i in range(bins)), summary.max]
    return Distribution(summary, tuple((edges[i], edges[i + 1], found.get(i, 0)) for i in range(bins)))


def _finite(values: pl.Series) -> pl.Series:
    numbers = values.cast(pl.Float64).drop_nulls()
    return numbers.filter(numbers.is_finite())


def bars(counts: Sequence[int], width: int) -> list[str]:
    """Draw each count as a bar of at most `width` cells; a count above 0 is never invisible."""
    most = max([*counts, 1])
    eighths = [max(round(count * width * 8 / most), 1 if count else 0) for count in counts]
    return ["█" * (n // 8) + (_BLOCKS[n % 8] if n % 8 else "") for n in eighths]


_DIGITS = {1: "{:.4f}", 2: "{:.2f}", 3: "{:,.1f}"}
"""How numbers that are not whole are written, by their digits before the point."""


def number(value: float | None, step: float | None = None) -> str:
    """Write a number shortly; `step` is how far apart the numbers beside it are, so that they can be told apart."""
    if value is None:
        return "-"
    if value == int(value) and abs(value) < 1e15 and (step is None or step >= 1):  # noqa: PLR2004 - exact in a float
        return f"{int(value):,}"
    if step is None:
        return _DIGITS[min(3, len(str(int(abs(value)))))].format(value)
    decimals = next((d for d in range(9) if step * 10**d >= 1), 9) + 1 if step < 10 else 0  # noqa: PLR2004
    return f"{value:,.{decimals}f}"


def clean(text: str) -> str:
    r"""Text that a terminal can show: control and invisible characters escaped (`\x1b`), line ends and blanks kept."""
    if text.isprintable():
        return text
    return "".join(_shown(character) for character in text.replace("\r\n", "\n").expandtabs(4))


def one_line(text: str, limit: int | None = None) -> str:
    """Text on one line, blanks run together; of a longer one the first `limit` characters and a mark."""
    start = text if limit is None else text[: 4 * limit]
    flat = clean(" ".join(start.split()))
    return flat if limit is None or (len(flat) <= limit and len(start) == len(text)) else flat[: limit - 1] + "…"


def _shown(character: str) -> str:
    if character.isprintable() or character == "\n" or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape", "surrogatepass").decode()


def json_text(value: object) -> str:
    r"""JSON on one line, of which a terminal shows every character: control characters as `\uXXXX`."""
    text = orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    return text if text.isprintable() else "".join(_json_shown(character) for character in text)


def _json_shown(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))
