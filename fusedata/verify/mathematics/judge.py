"""The judge of single values by exact arithmetic. Never compares floats."""

from fractions import Fraction

from fusedata.verify.mathematics.exact import Polynomial, is_transparent, product, quotient
from fusedata.verify.mathematics.rational import UndecidedError, decimal, is_too_big, rational_or_none, rounds
from fusedata.verify.mathematics.tokens import Node


class ExactJudge:
    """Decides by exact arithmetic, and says None for the rest. Never compares floats."""

    def same(self, left: Node, right: Node) -> bool | None:
        """Whether two values are equal."""
        try:
            return self._same(left, right)
        except UndecidedError:
            return None

    def _same(self, left: Node, right: Node) -> bool | None:
        if left == right:
            return True
        values = [rational_or_none(left), rational_or_none(right)]
        if values[0] is not None and values[1] is not None:
            return values[0] == values[1] or rounds(left, right, values[1]) or rounds(right, left, values[0])
        if (values[1] is not None and is_too_big(left)) or (values[0] is not None and is_too_big(right)):
            return False
        quotients = quotient(left), quotient(right)
        crossed = [product(quotients[0][0], quotients[1][1]), product(quotients[1][0], quotients[0][1])]
        if crossed[0] == crossed[1]:
            return True
        if decimal(left) or decimal(right):
            return None
        return False if is_transparent(*quotients) else None

    def proportion(self, left: Node, right: Node) -> int | None:
        """The sign of c where left = c * right, 0 where no c can be, None where that is not known."""
        try:
            values = quotient(left), quotient(right)
        except UndecidedError:
            return None
        (over, under), (other, other_under) = values
        if not over or not other or under != other_under:
            return None
        mono = min(over)
        scale = over[mono] / other[mono] if mono in other else Fraction(0)
        if scale and {m: v * scale for m, v in other.items()} == over:
            return 1 if scale > 0 else -1
        return 0 if is_transparent(*values) and all(_linear(side) for side in (over, other)) else None


def _linear(side: Polynomial) -> bool:
    return all(
        sum(abs(exponent) for _, exponent in mono) <= 1 and "#" not in "".join(a for a, _ in mono) for mono in side
    )
