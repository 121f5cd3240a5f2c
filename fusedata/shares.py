"""Shares with what chance leaves of them: of one sample, and of two that were asked the same questions."""

import math
from collections.abc import Sequence

Z = 1.96
"""Of a 95 % interval."""


def interval(hits: int, of: int, z: float = Z) -> tuple[float, float]:
    """Give the Wilson interval of a share: where it may lie, given `hits` of `of`."""
    share, square = hits / of, z * z / of
    middle = (share + square / 2) / (1 + square)
    reach = z / (1 + square) * math.sqrt(share * (1 - share) / of + square / (4 * of))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def difference(before: Sequence[bool], after: Sequence[bool], z: float = Z) -> tuple[float, float, float]:
    """Give how much larger the share after is, and the ends of its interval, in [-1, 1].

    Both hold one entry a question, in the same order. The interval is the one for paired shares by Agresti and Min
    (Statistics in Medicine 24, 2005): a Wald interval with half a question added to each of the four outcomes.
    """
    pairs = list(zip(before, after, strict=True))
    gained, lost = pairs.count((False, True)), pairs.count((True, False))
    of = len(pairs) + 2
    middle = (gained - lost) / of
    reach = z * math.sqrt(gained + lost + 1 - (gained - lost) ** 2 / of) / of
    return (gained - lost) / len(pairs), max(-1.0, middle - reach), min(1.0, middle + reach)
