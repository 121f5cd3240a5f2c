r"""Read an answer into a small tree, by a grammar of our own: nothing of the text is ever evaluated.

A node is a tuple whose first item names it:

    ("num", Fraction)  ("dec", Fraction, significant digits, decimal places)
    ("sym", name)  ("const", "pi"|"e"|"i"|"inf")  ("text", words)  ("base", digits, base)
    ("add", *terms)  ("mul", *factors)  ("div", a, b)  ("pow", a, b)  ("neg", a)  ("pm", a, b)  ("mp", a, b)
    ("fact", a)  ("abs", a)  ("pct", a)  ("deg", a)  ("unit", a, words)  ("fn", name, *arguments)
    ("rel", operands, signs)  ("ratio", *items)  ("seq", brackets, *items)  ("union", *items)  ("matrix", *rows)

`brackets` is "," for a bare list, "{}" for a set, else the two brackets as written: "()", "[]", "[)", "(]".
"""

import re
from fractions import Fraction
from typing import Final

from fusedata.verify.mathematics.atoms import CONSTANTS, NOT_SYMBOLS, Atoms
from fusedata.verify.mathematics.clean import clean, join_outside_brackets
from fusedata.verify.mathematics.cursor import MAX_DEPTH, joined
from fusedata.verify.mathematics.tokens import (
    DEGREE,
    FUNCTIONS,
    MULTIPLIERS,
    PERCENT,
    RELATIONS,
    Node,
    NotMathError,
    changes_value,
    is_short_unit,
    is_word,
    tokenise,
)

MAX_CHARS: Final = 4000
_ADDITIVE: Final = frozenset(("+", "-", r"\pm", r"\mp", r"\cup", r"\cap", r"\setminus"))


class _Parser(Atoms):
    """A recursive descent over the tokens of one answer."""

    # -- lists, relations ------------------------------------------------------------------------------------------

    def items(self, closing: str) -> tuple[list[Node], bool]:
        """Items up to (not past) a closing bracket or the end, and whether a separator stood between them."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise NotMathError("the answer is nested too deeply")
        found: list[Node] = []
        separated = False
        while not self._ends(closing):
            if self.peek().kind == "sep" or self.peek().value == r"\quad":
                separated |= self.take().kind == "sep"
                continue
            found.append(self.relation())
            if not self._ends(closing) and self.peek().kind != "sep" and self.peek().value != r"\quad":
                raise NotMathError("the answer is not one expression")
        self.depth -= 1
        return found, separated

    def _ends(self, closing: str) -> bool:
        token = self.peek()
        return token.kind == "end" or token.value == closing or (closing == ")]" and token.value in {")", "]"})

    def relation(self) -> Node:
        operands, signs = [self.ratio()], []
        while (sign := RELATIONS.get(self.peek().value)) and self.peek().kind in {"op", "cmd"}:
            self.take()
            signs.append(sign)
            operands.append(self.ratio())
        return ("rel", tuple(operands), tuple(signs)) if signs else operands[0]

    def ratio(self) -> Node:
        parts = [self.measured()]
        while self.peek().value == ":":
            self.take()
            parts.append(self.measured())
        if len(parts) > 1 and parts[0][0] == "text":
            return ("rel", (parts[0], parts[-1]), ("=",)) if len(parts) == 2 else parts[-1]  # noqa: PLR2004
        if len(parts) == 2 and parts[1][0] == "unit":  # noqa: PLR2004 - a time
            return ("unit", ("ratio", parts[0], parts[1][1]), parts[1][2])
        return ("ratio", *parts) if len(parts) > 1 else parts[0]

    # -- a value and its unit --------------------------------------------------------------------------------------

    def measured(self) -> Node:
        if self.peek().kind in {"text", "word"} and (words := self._prose()):
            return words
        money = self.peek().value == "¤"
        value = self.sum()
        if money and self.peek().kind not in {"text", "word"}:
            return ("unit", value, "¤")
        while self.peek().kind in {"text", "word"} or self.peek().value == "¤":
            value = self._unit(value)
        return value

    def _prose(self) -> Node | None:
        """Words before a value are dropped (`approximately 5`, `Area = 5`), words alone are the answer."""
        start = self.at
        words: list[str] = []
        while self.peek().kind == "text" or (self.peek().kind == "word" and self._wordy()):
            words.append(self.take().value)
        if words and (
            self.peek().kind in {"end", "sep"}
            or self.peek().value in RELATIONS
            or self.peek().value in {")", "]", "}", ":"}
        ):
            return ("text", " ".join(words))
        self.at = start
        return None

    def _wordy(self) -> bool:
        word = self.peek().value
        if is_short_unit(word) and self.peek(1).value == "^" and self.at:
            return self.tokens[self.at - 1].kind == "num"
        return (
            is_word(word) and word not in FUNCTIONS and word not in CONSTANTS and self.peek(1).value not in {"_", "^"}
        )

    def _unit(self, value: Node) -> Node:
        words: list[str] = []
        while (
            self.peek().kind in {"text", "word"}
            or self.peek().value == "¤"
            or (words and self.peek().value in {"/", "^", "*", "."})
        ):
            token = self.take()
            if token.value == "^":
                words.append("^" + self.raw_group())
            elif token.value != "¤":
                words.append(token.value)
        phrase = " ".join(" ".join(words).lower().split()).strip(" .")
        if changes_value(phrase):
            raise NotMathError("words after a number change it")
        if phrase in PERCENT:
            return ("pct", value)
        if phrase in DEGREE:
            return ("deg", value)
        first, _, rest = phrase.partition(" ")
        if first in MULTIPLIERS:
            value = ("mul", value, ("num", Fraction(MULTIPLIERS[first])))
            phrase = rest
        return ("unit", value, phrase) if phrase else value

    # -- arithmetic ------------------------------------------------------------------------------------------------

    def sum(self) -> Node:
        terms = [self.product()]
        while (sign := self.peek().value) in _ADDITIVE and self.peek().kind in {"op", "cmd"}:
            self.take()
            right = self.product()
            if sign in {"+", "-"}:
                terms.append(("neg", right) if sign == "-" else right)
            elif sign == r"\cup":
                terms = [("union", *_pieces(joined("add", terms)), *_pieces(right))]
            else:
                self.count_mark()
                terms = [(sign.strip("\\"), joined("add", terms), right)]
        return joined("add", terms)

    def product(self) -> Node:
        token = self.peek()
        if token.value in {"-", "+", r"\pm", r"\mp"}:
            self.take()
            right = self._deeper()
            if token.value in {r"\pm", r"\mp"}:
                return (token.value[1:], ("num", Fraction(0)), right)
            return ("neg", right) if token.value == "-" else right
        over, under = [self.factor()], list[Node]()
        while True:
            token = self.peek()
            if token.value in {"*", r"\times", "/"} and token.kind in {"op", "cmd"}:
                self.take()
                (under if token.value == "/" else over).append(self._signed_factor())
            elif self.continues():
                over.append(self.factor())
            else:
                value = joined("mul", over)
                return ("div", value, joined("mul", under)) if under else value

    def _deeper(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise NotMathError("the answer is nested too deeply")
        value = self.product()
        self.depth -= 1
        return value

    def _signed_factor(self) -> Node:
        sign = 1
        while self.peek().value in {"-", "+"}:
            sign = -sign if self.take().value == "-" else sign
        value = self.factor()
        return value if sign > 0 else ("neg", value)

    def continues(self) -> bool:
        """Whether the next token is a factor that is multiplied by standing beside."""
        token = self.peek()
        if token.kind == "cmd":
            return token.value not in NOT_SYMBOLS or token.value == r"\begin"
        if token.kind == "word":
            return not (self._wordy() and not self._called())
        return token.kind == "op" and (token.value in {"(", "{"} or (token.value == "|" and not self.bars))

    def _called(self) -> bool:
        return self.peek().value in FUNCTIONS and self.peek(1).value == "("

    def factor(self) -> Node:
        value = self.primary()
        for _ in range(MAX_DEPTH):
            token = self.peek()
            if token.value == "^":
                self.take()
                value = self._power(value)
            elif token.value == "_":
                self.take()
                value = self._subscript(value)
            elif token.value == "!" and value[0] != "fact":
                self.take()
                value = ("fact", value)
            elif token.value == "%":
                self.take()
                value = ("pct", value)
            elif token.value == "'" and value[0] == "sym":
                self.take()
                value = ("sym", value[1] + "'")
            else:
                return value
        raise NotMathError("the answer is nested too deeply")

    def _power(self, value: Node) -> Node:
        if self.peek().value in {r"\circ", r"\prime"} or (
            self.peek().value == "{" and self.peek(1).value in {r"\circ", r"\prime"}
        ):
            mark = self.raw_group()
            if mark == r"\prime":
                return ("sym", str(value[1]) + "'")
            if self.peek().kind == "word" and self.peek().value in {"C", "F"}:
                self.take()
            return ("deg", value)
        exponent = self.argument(whole=True)
        if self.peek().value == "^":
            self.take()
            exponent = ("pow", exponent, self.argument(whole=True))
        return ("pow", value, exponent)

    def _subscript(self, value: Node) -> Node:
        name = self.raw_group()
        if value[0] == "num" and value[1].denominator == 1:
            return ("base", str(value[1].numerator), name)
        if value[0] == "sym":
            return ("sym", f"{value[1]}_{name}")
        raise NotMathError("a subscript stands where none is known")


def _pieces(node: Node) -> tuple[Node, ...]:
    return node[1:] if node[0] == "union" else (node,)


_DECIMAL_COMMA: Final = re.compile(r"\d+,\d+")
_MIXED: Final = re.compile(r"(\d+) ?(?:\\text ?\{ ?and ?\}|and) ?(\d+/\d+|\\frac ?(?:\d\d|\{\d+\} ?\{\d+\}))")
_ENDS: Final = re.compile(r"[\s.,;:]+$")


def readings(text: str) -> list[Node]:
    """Every way an answer may be read, the usual one first: `1,234` may be a list, and `1,5` a decimal."""
    if len(text) > MAX_CHARS:
        raise NotMathError("the answer is too long")
    text = _ENDS.sub("", clean(text))
    found = [_tree(join_outside_brackets(text))]
    if mixed := _MIXED.fullmatch(text):
        found += [tree for tree in _tries(f"{mixed[1]} {mixed[2]}") if tree[0] == "num"]
    if "," not in text:
        return found
    if found[0][0] != "seq":
        found += [tree for tree in _tries(text) if tree not in found]
    elif _DECIMAL_COMMA.fullmatch(text.strip("- ¤")):
        found += _tries(text.replace(",", "."))
    return found


def _tries(text: str) -> list[Node]:
    try:
        return [_tree(text)]
    except NotMathError:
        return []


def _tree(text: str) -> Node:
    parser = _Parser(tokenise(text))
    found, separated = parser.items("")
    if parser.peek().kind != "end":
        raise NotMathError("unbalanced brackets")
    if not found:
        raise NotMathError("the answer is empty")
    return found[0] if len(found) == 1 and not separated else ("seq", ",", *found)
