"""The atoms of an answer: numbers, symbols, functions, brackets, matrices. `parse` builds answers of them."""

from fractions import Fraction
from typing import Final

from fusedata.verify.mathematics.cursor import MAX_DEPTH, Cursor, joined
from fusedata.verify.mathematics.tokens import FUNCTIONS, Node, NotMathError, Token, is_word, number, repeating

_OPENING: Final[dict[str, str]] = {"(": ")]", "[": ")]", r"\{": r"\}", "{": "}"}
CONSTANTS: Final[dict[str, Node]] = {
    **dict.fromkeys((r"\pi", "pi"), ("const", "pi")),
    **dict.fromkeys((r"\infty", "inf", "infinity", "oo"), ("const", "inf")),
    "e": ("const", "e"),
    "i": ("const", "i"),
    r"\emptyset": ("seq", "{}"),
    r"\ldots": ("sym", "..."),
}
_ACCENTS: Final = frozenset(
    (r"\overline", r"\vec", r"\hat", r"\bar", r"\overrightarrow", r"\widehat", r"\tilde", r"\underline", r"\dot")
)
_STRUCTURAL: Final = (
    "sum prod int iint oint lim cup cap setminus bigcup bigcap begin end pmod bmod mod forall exists choose partial"
    " nabla over atop neg subset subseteq perp parallel le ge ne in approx equiv Rightarrow to pm mp times quad rfloor"
    " rceil | } \\"
)
NOT_SYMBOLS: Final = frozenset("\\" + name for name in _STRUCTURAL.split())


class Atoms(Cursor):
    """The rules for what cannot be taken apart further."""

    def argument(self, *, whole: bool = False) -> Node:
        r"""The argument of a command: a braced group, or one token (one digit of a number unless `whole`)."""
        token = self.peek()
        if token.value == "{":
            return self.group()
        if token.value in {"-", "+"} and whole:
            self.take()
            return ("neg", self.argument(whole=True)) if token.value == "-" else self.argument(whole=True)
        if token.kind == "num" and not whole and len(token.value) > 1 and token.value.isdigit():
            self.tokens[self.at] = Token("num", token.value[1:])
            return ("num", Fraction(token.value[0]))
        return self.primary()

    def group(self) -> Node:
        """The one expression in braces."""
        self.expect("{")
        found, _ = self.items("}")
        self.expect("}")
        if len(found) != 1:
            raise NotMathError("a group is not one expression")
        return found[0]

    def _boxed(self) -> Node:
        self.expect("{")
        found, separated = self.items("}")
        self.expect("}")
        return found[0] if len(found) == 1 and not separated else ("seq", ",", *found)

    # -- atoms -----------------------------------------------------------------------------------------------------

    def primary(self) -> Node:
        """An atom."""
        self.depth += 1
        if self.depth > 2 * MAX_DEPTH:
            raise NotMathError("the answer is nested too deeply")
        value = self._primary()
        self.depth -= 1
        return value

    def _primary(self) -> Node:  # noqa: PLR0911 - one line for each kind of atom
        token = self.take()
        if token.value == "¤":
            return self.primary() if self.peek().kind in {"num", "op"} and self.peek().value != "¤" else _fail(token)
        if token.kind == "num":
            return self._number(token.value)
        if token.kind == "word":
            return self._word(token.value)
        if token.kind == "cmd":
            return self._command(token.value)
        if token.value in _OPENING:
            return self._bracketed(token.value)
        if token.value == "|":
            return self._bars()
        return _fail(token)

    def _bars(self) -> Node:
        self.bars += 1
        found, _ = self.items("|")
        self.bars -= 1
        self.expect("|")
        if len(found) != 1:
            raise NotMathError("bars hold not one expression")
        return ("abs", found[0])

    def _number(self, digits: str) -> Node:
        value = number(digits)
        if value[0] == "num":
            return self._mixed(value)
        if self.peek().value in {r"\overline", r"\bar", r"\dot"}:
            self.take()
            repeat = self.raw_group()
            if not repeat.isdigit():
                raise NotMathError("a repeating decimal is malformed")
            return ("num", repeating(digits, repeat))
        return value

    def _mixed(self, whole: Node) -> Node:
        r"""`3 3/4` and `3\frac{3}{4}` with a proper fraction are one number."""
        start = self.at
        if self.peek().kind == "num" and self.peek(1).value == "/" and self.peek(2).kind == "num":
            top, bottom = self.peek().value, self.peek(2).value
            self.at += 3
        elif self.peek().value == r"\frac":
            self.take()
            saved = self.tokens[self.at : self.at + 1]
            top, bottom = (_digits(self.argument()), _digits(self.argument()))
            if not (top.isdigit() and bottom.isdigit() and 0 < int(top) < int(bottom)):
                self.at = start
                self.tokens[start + 1 : start + 2] = saved
                return whole
        else:
            return whole
        if not (top.isdigit() and bottom.isdigit() and 0 < int(top) < int(bottom)):
            raise NotMathError("two numbers stand side by side")
        return ("num", whole[1] + Fraction(int(top), int(bottom)))

    def _word(self, word: str) -> Node:
        if word in CONSTANTS:
            return CONSTANTS[word]
        if word in FUNCTIONS:
            return self._function(word)
        if len(word) == 1 or word.isupper():
            if len(word) == 1 and word.islower() and word in "fgh" and self.peek().value == "(":
                return self._applied(word)
            return ("sym", word)
        if is_word(word):
            raise NotMathError("words stand among the mathematics")
        for name in FUNCTIONS:
            if word.endswith(name) and len(word) > len(name):
                self.at -= 1
                head = word[: -len(name)]
                self.tokens[self.at : self.at + 1] = [Token("word", head), Token("word", name)]
                return self.primary()
        return joined("mul", [("const", letter) if letter in "ei" else ("sym", letter) for letter in word])

    def _applied(self, name: str) -> Node:
        self.take()
        found, _ = self.items(")]")
        self.expect(")")
        return ("fn", name, *found)

    def _bracketed(self, opening: str) -> Node:
        found, separated = self.items(_OPENING[opening])
        closing = self.take()
        if closing.kind == "end":
            raise NotMathError("the answer is unfinished")
        if opening in {r"\{", "{"}:
            return found[0] if opening == "{" and len(found) == 1 and not separated else ("seq", "{}", *found)
        brackets = opening + closing.value
        if len(found) == 1 and not separated:
            if brackets in {"(]", "[)"}:
                raise NotMathError("unbalanced brackets")
            return found[0]
        return ("seq", brackets, *found)

    def _command(self, command: str) -> Node:  # noqa: PLR0911 - one for each kind of command
        if command in CONSTANTS:
            return CONSTANTS[command]
        if command[1:] in FUNCTIONS:
            return self._function(command[1:])
        if command == r"\frac":
            top = self.argument()
            return ("div", top, self.argument())
        if command == r"\binom":
            top = self.argument()
            return ("fn", "binom", top, self.argument())
        if command in {r"\boxed", r"\fbox"}:
            return self._boxed()
        if command == r"\begin":
            return self._matrix()
        if command in {r"\lfloor", r"\lceil"}:
            closing = r"\r" + command[2:]
            found, _ = self.items(closing)
            self.expect(closing)
            return ("fn", command[2:], *found)
        if command in _OPENING:
            return self._bracketed(command)
        return self._symbol(command)

    def _symbol(self, command: str) -> Node:
        if command in _ACCENTS:
            return ("sym", command[1:] + " " + self.raw_group())
        if command in {r"\angle", r"\triangle", r"\measuredangle"}:
            return ("sym", "angle " + self.raw_group())
        if command in NOT_SYMBOLS or len(command) < 3:  # noqa: PLR2004 - a backslash and two letters
            raise NotMathError(f"{command} is not known here")
        return ("sym", command[1:])

    def _function(self, name: str) -> Node:
        index: Node | None = None
        power: Node | None = None
        if name == "sqrt" and self.peek().value == "[":
            self.take()
            found, _ = self.items(")]")
            self.expect("]")
            if len(found) != 1:
                raise NotMathError("a root has no single index")
            return ("pow", self.argument(whole=True), ("div", ("num", Fraction(1)), found[0]))
        if self.peek().value == "_":
            self.take()
            index = self.argument()
        if self.peek().value == "^" and name != "exp":
            self.take()
            power = self.argument(whole=True)
        inside = self._function_argument(name)
        value = _function(name, inside, index)
        if power == ("neg", ("num", Fraction(1))):
            return ("fn", "arc" + name, *inside)
        return ("pow", value, power) if power else value

    def _function_argument(self, name: str) -> tuple[Node, ...]:
        opening = self.peek().value
        if opening in {"(", "["}:
            self.take()
            found, _ = self.items(")]")
            self.expect(")" if opening == "(" else "]")
            return tuple(found)
        if opening == "{" or name == "sqrt":
            return (self.argument(whole=True),)
        factors = [self.factor()]
        while (
            self.continues() and self.peek().value[1:] not in FUNCTIONS and self.peek().value not in {"(", *FUNCTIONS}
        ):
            factors.append(self.factor())
        return (joined("mul", factors),)

    def _matrix(self) -> Node:
        kind = self.raw_group()
        if kind.rstrip("*") not in {"pmatrix", "bmatrix", "matrix", "array", "Bmatrix", "smallmatrix"}:
            raise NotMathError(f"the environment {kind} is not known here")
        if kind == "array":
            self.raw_group()
        rows: list[list[Node]] = [[]]
        while self.peek().value != r"\end":
            if self.peek().kind == "end":
                raise NotMathError("the answer is unfinished")
            if self.peek().value == "\\\\":
                self.take()
                rows.append([])
            elif self.peek().value == "&":
                self.take()
            else:
                rows[-1].append(self.relation())
        self.take()
        self.raw_group()
        return ("matrix", *(tuple(row) for row in rows if row))


def _fail(token: Token) -> Node:
    raise NotMathError("the answer is unfinished" if token.kind == "end" else "the answer is not one expression")


def _function(name: str, inside: tuple[Node, ...], index: Node | None) -> Node:
    if name == "sqrt" and len(inside) == 1:
        return ("pow", inside[0], ("div", ("num", Fraction(1)), ("num", Fraction(2))))
    if name == "exp" and len(inside) == 1:
        return ("pow", ("const", "e"), inside[0])
    if name == "abs" and len(inside) == 1:
        return ("abs", inside[0])
    return ("fn", name, *inside, *(() if index is None else (index,)))


def _digits(node: Node) -> str:
    return str(node[1].numerator) if node[0] == "num" and node[1].denominator == 1 else ""
