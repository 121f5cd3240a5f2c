"""Shares with what chance leaves of them: of one sample, and of two that were asked the same questions."""

import math
from collections.abc import Sequence

Z = 1.96
"""Of a 95 % interval."""


def interval(hits: float, of: int, z: float = Z) -> tuple[float, float]:
    """Give the Wilson interval of a share: where it may lie, given `hits` of `of`."""
    share, square = hits / of, z * z / of
    middle = (share + square / 2) / (1 + square)
    reach = z / (1 + square) * math.sqrt(share * (1 - share) / of + square / (4 * of))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def difference(before: Sequence[float], after: Sequence[float], z: float = Z) -> tuple[float, float, float]:
    """Give how much larger the share after is, and the ends of its interval, in [-1, 1].

    Both hold one entry a question, from 0 to 1, in the same order. The interval is the one for paired shares by Agresti
    and Min (Statistics in Medicine 24, 2005): a Wald interval with half a question added to each of the four outcomes.
    """
    gains = [two - one for one, two in zip(before, after, strict=True)]
    total, of = sum(gains), len(gains) + 2
    reach = z * math.sqrt(sum(gain * gain for gain in gains) + 1 - total**2 / of) / of
    return total / len(gains), max(-1.0, total / of - reach), min(1.0, total / of + reach)
