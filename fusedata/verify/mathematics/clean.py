# ruff: noqa: RUF001 - the signs that models write are the matter of this module
r"""Bring the spelling of an answer to one form: Unicode signs, LaTeX spacing, wrappers and digit groups.

Only spelling is touched here; what an answer means is for `mathematics.parse`. Every pass is linear in the text, and
callers bound the length first (`mathematics.parse.MAX_CHARS`).
"""

import re
import unicodedata
from typing import Final

_SIGNS: Final[dict[int, str]] = {
    ord(sign): text
    for signs, text in {
        "−–—﹣－‐‑": "-",
        "×✕⨯": r"\times ",
        "÷": "/",
        "·⋅∙•∗": "*",
        "√": r"\sqrt ",
        "π": r"\pi ",
        "∞": r"\infty ",
        "≤⩽≦": r"\le ",
        "≥⩾≧": r"\ge ",
        "≠": r"\ne ",
        "≈≃≅": r"\approx ",
        "∪": r"\cup ",
        "∩": r"\cap ",
        "∈": r"\in ",
        "±": r"\pm ",
        "∓": r"\mp ",
        "°º˚": r"^\circ ",
        "∅": r"\emptyset ",
        "ℝ": r"\mathbb{R}",
        "θ": r"\theta ",
        "φϕ": r"\phi ",
        "α": r"\alpha ",
        "β": r"\beta ",
        "γ": r"\gamma ",
        "λ": r"\lambda ",
        "∠": r"\angle ",
        "⁄∕": "/",
        "′’‘`": "'",
        "，、﹐": ",",
        "；": ";",
        "：∶": ":",
        "（": "(",
        "）": ")",
        "【": "[",
        "】": "]",
        "％": "%",
        "＄": "$",
        "⟨": r"\langle ",
        "⟩": r"\rangle ",
        "…": r"\ldots ",
        "。": ".",
        "⁺": "^+",
        "€£¥₹₽₩₫฿₴₺": r"\$",
    }.items()
    for sign in signs
}
_SUPERSCRIPTS: Final[dict[int, int]] = {ord(c): ord(d) for c, d in zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-", strict=True)}
_SUBSCRIPTS: Final[dict[int, int]] = {ord(c): ord(d) for c, d in zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True)}
_SUPERSCRIPT_RUN: Final = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
_SUBSCRIPT_RUN: Final = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")

_DROPPED: Final = re.compile(
    r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|scriptstyle|limits|nolimits|hspace\{[^{}]*\}|phantom\{[^{}]*\}"
    r"|label\{[^{}]*\}|tag\{[^{}]*\}|hfill|allowbreak|mathstrut|hline|rm|bf|it)(?![A-Za-z])\.?"
)
_RENAMED: Final = re.compile(
    r"\\(dfrac|tfrac|cfrac|leq|geq|leqslant|geqslant|neq|lt|gt|cdot|ast|div|mathbf|mathrm|textbf|textit|textrm|textnormal"
    r"|textup|texttt|textsf|emph|mathit|mathsf|mathbb|mathcal|boldsymbol|operatorname\*?|mbox|hbox|dbinom|tbinom|lbrace|rbrace|lbrack|rbrack"
    r"|colon|dots|cdots|dotsc|dotsb|degree|pounds|euro|varnothing|implies|Rightarrow|lvert|rvert|vert|mid|land|lor|wedge|vee"
    r"|simeq|sim|cong|doteq|varphi|varepsilon|langle|rangle|to|infin|to|exp|imath|jmath|mathord|quad|qquad|enspace|thinspace|space)(?![A-Za-z])"
)
_NAMES: Final[dict[str, str]] = {
    **dict.fromkeys(("dfrac", "tfrac", "cfrac"), r"\frac"),
    **dict.fromkeys(("dbinom", "tbinom"), r"\binom"),
    **dict.fromkeys(("leq", "leqslant"), r"\le "),
    **dict.fromkeys(("geq", "geqslant"), r"\ge "),
    **dict.fromkeys(("simeq", "sim", "cong", "doteq"), r"\approx "),
    **dict.fromkeys(("dots", "cdots", "dotsc", "dotsb"), r"\ldots "),
    **dict.fromkeys(("lvert", "rvert", "vert", "mid"), "|"),
    **dict.fromkeys(("land", "wedge"), r"\text{ and }"),
    **dict.fromkeys(("lor", "vee"), r"\text{ or }"),
    **dict.fromkeys(("pounds", "euro"), r"\$"),
    **dict.fromkeys(("quad", "qquad"), r" \quad "),
    **dict.fromkeys(("enspace", "thinspace", "space"), " "),
    **dict.fromkeys(("langle",), "("),
    **dict.fromkeys(("rangle",), ")"),
    "neq": r"\ne ",
    "lt": "<",
    "gt": ">",
    "cdot": "*",
    "ast": "*",
    "div": "/",
    "lbrace": r"\{",
    "rbrace": r"\}",
    "lbrack": "[",
    "rbrack": "]",
    "colon": ":",
    "degree": r"^\circ ",
    "varnothing": r"\emptyset ",
    "varphi": r"\phi ",
    "varepsilon": r"\epsilon ",
    "infin": r"\infty ",
    "implies": r"\Rightarrow ",
    "Rightarrow": r"\Rightarrow ",
    "exp": "exp",
    "imath": "i",
    "jmath": "j",
    "to": r"\to ",
}
_DIGIT_GROUPS: Final = re.compile(
    r"(?<![\d.])\d{1,3}"
    r"(?:(?:\s?\{\s?,\s?\}\s?|,\s?\\!\s?|\\!\s?,\s?|\\,\s?|\\!\s?|\\ |~|(?<=\d)['_](?=\d{3}))\d{3})+(?!\d)"
)
_SPACE_GROUPS: Final = re.compile(r"(?<![\w.,/^\\}])\d{1,3}(?:[ \u00a0\u2009\u202f]\d{3})+(?![\d/\w]| \d)")
_LONE_GROUPS: Final = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:,\d{3})+(?![\d,])")
_REALS: Final = re.compile(r"\\mathbb\s?(?:R(?![A-Za-z])|\{\s?R\s?\})")
_NOT_A_DIGIT: Final = re.compile(r"\D")
_DOUBLED: Final = re.compile(r"\\\\(?=[A-Za-z]{2}|[!,;%${])")
_SPACING: Final = re.compile(r"\\[,;:!>/ ]|~|\s")
_CLOCK: Final = re.compile(r"(?<=\d) ?([aApP])(?:\. ?[mM]\.?|M)$")
_RATE: Final = re.compile(r"(?<=\d) (m/s(?:\^\{?2\}?)?|m/min|m/h)$")
_DOLLAR: Final = re.compile(r"\$\s?\d")
_BLANKS: Final = re.compile(r" {2,}")
_TABULAR: Final = re.compile(r"\\begin\s*\{")


def ascii_signs(text: str) -> str:
    """Spell Unicode mathematics in ASCII and LaTeX, and drop what has no width (controls, marks of direction)."""
    if text.isascii():
        return text.replace("\0", "")
    text = _SUPERSCRIPT_RUN.sub(lambda run: "^{" + run[0].translate(_SUPERSCRIPTS) + "}", text)
    text = _SUBSCRIPT_RUN.sub(lambda run: "_{" + run[0].translate(_SUBSCRIPTS) + "}", text)
    text = "".join(_vulgar(sign) for sign in text.translate(_SIGNS))
    return unicodedata.normalize("NFKC", text).translate(_SIGNS)


def _vulgar(sign: str) -> str:
    """One character: `½` becomes ` 1/2`, any Unicode digit its ASCII twin, the invisible nothing."""
    if sign < "\x80":
        return sign if sign >= " " or sign in "\n\t" else ""
    category = unicodedata.category(sign)
    if category == "Nd":
        return str(unicodedata.decimal(sign))
    if (
        category == "No"
        and "FRACTION" in unicodedata.name(sign, "")
        and "⁄" in (both := unicodedata.normalize("NFKC", sign))
    ):
        return " " + both.replace("⁄", "/")
    return "" if category in {"Cf", "Cc", "Cs", "Co", "Cn"} else sign


def _joined(match: re.Match[str]) -> str:
    return _NOT_A_DIGIT.sub("", match[0])


def clean(text: str) -> str:
    r"""The answer in one spelling: no `$`, no `\left`, one name for each command, digit groups closed up.

    Blanks survive (as single ones), because `3 3/4` is a mixed number.
    """
    text = ascii_signs(text)
    if "\\" in text:
        if not _TABULAR.search(text):
            text = _DOUBLED.sub(r"\\", text)
        text = _DIGIT_GROUPS.sub(_joined, text)
        text = _DROPPED.sub(" ", text)
        text = _REALS.sub(r"(-\\infty,\\infty)", text)
        text = _RENAMED.sub(lambda m: _NAMES.get(m[1], r"\text"), text)
        text = text.replace("\\(", " ").replace("\\)", " ").replace("\\[", " ").replace("\\]", " ")
        text = text.replace("\\$", " \u00a4").replace("\\%", "%").replace("\\#", "#").replace("\\&", " and ")
    elif "{" in text or "'" in text or "_" in text:
        text = _DIGIT_GROUPS.sub(_joined, text)
    if text.count("$") == 1 and _DOLLAR.search(text):
        text = text.replace("$", " ¤")
    text = text.replace("$", " ")
    text = _SPACE_GROUPS.sub(_joined, text)
    text = _spaced(text)
    text = _RATE.sub(r" \\text{\1}", _CLOCK.sub(r" \\text{\1m}", text))
    return text.strip().rstrip("\\ ")


def _spaced(text: str) -> str:
    """Single blanks for every kind of space, with the row ends of a matrix kept."""
    text = "\\\\".join(_SPACING.sub(" ", row) for row in text.split("\\\\"))
    return _BLANKS.sub(" ", text).replace("**", "^")


def _join_commas(text: str) -> str:
    """`1,234,567` as `1234567`; commas that do not stand before groups of three are left."""
    return _LONE_GROUPS.sub(_joined, text)


def join_outside_brackets(text: str) -> str:
    """Digit groups closed up, but not between brackets: `(1,234)` is a pair."""
    if "," not in text:
        return text
    if not any(bracket in text for bracket in "([{"):
        return _join_commas(text)
    parts, depth, start = [], 0, 0
    for at, char in enumerate(text):
        if char in "([{":
            if not depth:
                parts.append(_join_commas(text[start:at]))
                start = at
            depth += 1
        elif char in ")]}" and depth:
            depth -= 1
            if not depth:
                parts.append(text[start : at + 1])
                start = at + 1
    return "".join(parts) + (_join_commas(text[start:]) if not depth else text[start:])
