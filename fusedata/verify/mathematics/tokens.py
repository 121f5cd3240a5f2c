r"""Cut a cleaned answer into tokens, and say which words mean what.

A token is `(kind, value)`, kind one of `num`, `word` (a run of letters), `cmd` (a LaTeX command, with its
backslash), `text` (the content of `\text{...}`), `sep` (a comma, a semicolon, "and", "or") and `op` (all else).
"""

import re
from fractions import Fraction
from typing import Any, Final, NamedTuple

MAX_TOKENS: Final = 1500
LONGEST_PRODUCT: Final = 3  # letters: `xyz` is a product, `total` a word
MAX_DIGITS: Final = 2000
MAX_DECIMAL_EXPONENT: Final = 4000


Node = tuple[Any, ...]


class Token(NamedTuple):
    """One token of an answer."""

    kind: str
    value: str


class NotMathError(ValueError):
    """The text is not an answer this grammar knows, or passes a limit; the message says which."""


_FUNCTIONS_TABLE: Final = (
    "sin cos tan cot sec csc arcsin arccos arctan arccot sinh cosh tanh log ln lg exp sqrt abs gcd lcm"
    " max min det floor ceil"
)
FUNCTIONS: Final = frozenset(_FUNCTIONS_TABLE.split())
MULTIPLIERS: Final[dict[str, int]] = {
    "hundred": 10**2,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "dozen": 12,
    "万": 10**4,
    "亿": 10**8,
}
_CHANGING_TABLE: Final = (
    "ones tens hundreds thousands millions billions trillions dozens half halve halves third thirds quarter quarters"
    " fourth fourths fifth fifths sixth sixths seventh sevenths eighth eighths ninth ninths tenth tenths hundredth"
    " hundredths thousandth thousandths millionth millionths squared cubed factorial pi k score plus minus"
)
_CHANGING: Final = frozenset(_CHANGING_TABLE.split())
_DENYING: Final = re.compile(
    r"\b(?:half|not|never|neither|nor|wrong|incorrect|false|remainder|except|is|are|was|does|do|doesn't|isn't"
    r"|or (?:more|less|fewer|greater|higher|lower|above|below)|at (?:least|most)|out of)\b",
    re.IGNORECASE,
)
PERCENT: Final = frozenset(("percent", "percentage", "pct", "percents", "per cent"))
DEGREE: Final = frozenset(("degree", "degrees", "deg", "度"))
_SHORT_UNITS_TABLE: Final = (
    "cm mm km kg mg ml cl dl ft in lb lbs oz hr hrs min mins sec secs mph kph kmh yd yds mi rpm usd gb mb"
    " kb tb cc pts ms ns kw hz am pm cts sq cu kmph psi bps ton day days cup cups year way ways unit units"
    " mile miles foot feet inch hour"
)
_SHORT_UNITS: Final = frozenset(_SHORT_UNITS_TABLE.split())
_SHORT_WORDS_TABLE: Final = (
    "an the is are was of no yes not and or odd even one two six ten men man all for any non but nor none"
    " via per red day east west up down left top pm am if then so as by to true false sun mon tue wed thu"
    " fri sat jan feb may jun july june it"
)
_SHORT_WORDS: Final = frozenset(_SHORT_WORDS_TABLE.split())
RELATIONS: Final[dict[str, str]] = {
    **dict.fromkeys(("=", "==", r"\equiv"), "="),
    **dict.fromkeys(("<=", r"\le"), "<="),
    **dict.fromkeys((">=", r"\ge"), ">="),
    **dict.fromkeys(("!=", r"\ne"), "!="),
    **dict.fromkeys(("~=", r"\approx"), "~"),
    "<": "<",
    ">": ">",
    r"\in": "in",
    r"\Rightarrow": "=>",
    r"\to": "->",
}
_TOKEN: Final = re.compile(
    r"(?P<num>(?:\d+(?:\.\d+|\.(?=\\(?:overline|bar|dot)\b))?|\.\d+)(?:[eE][+-]?\d+(?![A-Za-z.]))?)|(?P<cmd>\\[A-Za-z]+|\\.)|(?P<word>[^\W\d_]+)"
    r"|(?P<op><=|>=|!=|==|~=|\S)",
    re.DOTALL,
)
_MEASURED: Final = re.compile(r"([-+]?\d[\d.,:/]{0,40}(?<=\d)) ?([^\d,;:]*[^\W\d_][^\d,;:]*)")
_GROUP_COMMA: Final = re.compile(r",(?=\d{3}(?!\d))")
_LETTER_UNITS: Final = frozenset("msghlLKNWJVtCF")


def is_short_unit(word: str) -> bool:
    """Whether a run of letters is the short name of a unit."""
    return word.lower() in _SHORT_UNITS


def is_word(letters: str) -> bool:
    """Whether a run of letters is a word of a language, rather than a product of one-letter symbols."""
    if not letters.isascii():
        return True
    low = letters.lower()
    if letters.isupper():
        return len(letters) > 1 and low in _SHORT_UNITS
    return len(letters) > 1 and (
        low in _SHORT_WORDS or low in _SHORT_UNITS or low in PERCENT or low in DEGREE or len(letters) > LONGEST_PRODUCT
    )


def changes_value(phrase: str) -> bool:
    """Whether the words after a number are more than its unit: `7 tens`, `18 or more`, `18 is wrong`."""
    return phrase.casefold().strip(" .").partition(" ")[0] in _CHANGING or bool(_DENYING.search(phrase))


def tokenise(text: str) -> list[Token]:
    """The tokens of a cleaned answer; raise `NotMathError` past a limit or at an unclosed text group."""
    tokens: list[Token] = []
    at = 0
    while match := _TOKEN.search(text, at):
        kind, value = str(match.lastgroup), match[0]
        at = match.end()
        if value == r"\text":
            value, at = _text_group(text, at)
            after_value = bool(tokens) and tokens[-1].value not in {"=", "+", "-", "*", "/", "(", "{", ","}
            tokens += [Token("text", value)] if after_value and value.strip() in _LETTER_UNITS else _text_tokens(value)
        else:
            if kind == "num" and len(value) > MAX_DIGITS:
                raise NotMathError("a number is too long")
            tokens += _tokens(kind, value)
        if len(tokens) > MAX_TOKENS:
            raise NotMathError("the answer is too long")
    return tokens


def _tokens(kind: str, value: str) -> list[Token]:
    """The token or tokens of one match: separators are told apart, and a unit is cut off `5cm`."""
    if kind == "word" and value.lower() in {"and", "or", "和", "或", "或者", "以及", "及"}:
        return [Token("sep", "and")]
    if value in {",", ";"}:
        return [Token("sep", value)]
    return [Token(kind, value)]


def _text_group(text: str, at: int) -> tuple[str, int]:
    r"""The content of a `\text` group that begins at or after `at`, and where it ends."""
    while at < len(text) and text[at] == " ":
        at += 1
    if at >= len(text):
        raise NotMathError("the answer is unfinished")
    if text[at] != "{":
        return text[at], at + 1
    depth, start = 0, at
    for at in range(start, len(text)):
        depth += (text[at] == "{") - (text[at] == "}")
        if not depth:
            return text[start + 1 : at], at + 1
    raise NotMathError("the answer is unfinished")


def _text_tokens(content: str) -> list[Token]:
    r"""A `\text` group: "and" separates, digits and single symbols are mathematics, words stay together."""
    content = " ".join(content.replace("\\text", " ").replace("{", " ").replace("}", " ").split())
    bare = content.strip(" .,:;()").lower()
    if bare in {"and", "or"}:
        return [Token("sep", "and")]
    if not bare:
        return []
    if len(bare) == 1 or not any(char.isalpha() for char in bare) or "\\" in content:
        return [Token(str(m.lastgroup), m[0]) for m in _TOKEN.finditer(content) if m[0] not in "{}"]
    if any(mark in f" {bare} " for mark in (" and ", " or ", ",")) and any(char.isdigit() for char in bare):
        return [token for m in _TOKEN.finditer(content) for token in _tokens(str(m.lastgroup), m[0])]
    if measured := _MEASURED.fullmatch(content):
        digits = _GROUP_COMMA.sub("", measured[1])
        return [*(Token(str(m.lastgroup), m[0]) for m in _TOKEN.finditer(digits)), Token("text", measured[2])]
    return [Token("text", content)]


def repeating(digits: str, repeat: str) -> Fraction:
    """The value of a decimal whose last digits go on for ever."""
    _, _, places = digits.partition(".")
    scale = 10 ** len(places)
    return Fraction(digits) + Fraction(int(repeat), (10 ** len(repeat) - 1) * scale)


def number(digits: str) -> Node:
    """A literal as a node; raise `NotMathError` where its decimal exponent is out of bounds."""
    mantissa, _, exponent = digits.lower().partition("e")
    if exponent and abs(int(exponent)) > MAX_DECIMAL_EXPONENT:
        raise NotMathError("an exponent is too large")
    if "." not in mantissa and not exponent:
        return ("num", Fraction(int(mantissa)))
    _, _, places = mantissa.partition(".")
    significant = len(mantissa.replace(".", "").lstrip("0"))
    return (
        "dec",
        Fraction(mantissa) * Fraction(10) ** int(exponent or 0),
        significant,
        len(places) - int(exponent or 0),
    )
