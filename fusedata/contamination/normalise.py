"""Texts as the words and characters that are compared: however a copy was set, it gives the same ones."""

import re
import sys
import unicodedata
from typing import NamedTuple

_DIGITS = {code: str(unicodedata.decimal(chr(code))) for code in range(128, sys.maxunicode) if chr(code).isdecimal()}
_INVISIBLE = dict.fromkeys([0xAD, *range(0x200B, 0x2010), *range(0x2060, 0x2065), 0xFEFF])
_TABLE = {**_DIGITS, **_INVISIBLE, 0x2019: "'"}
_UNSPACED = re.compile(
    "[\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
)
_LABEL = re.compile(r"^[ \t]*\(?[a-j][).:][ \t]+", re.MULTILINE)
_APOSTROPHE = re.compile(r"(?<=\w)'(?=\w)")
_NO_CENTS = re.compile(r"(?<=\d)[.,]0{1,2}(?![\d.,]\d|\d)")
_LAKHS = re.compile(r"(?<![\d,])\d{1,2}(?:,\d\d)+,(?=\d{3}(?![\d,]))")
_TOKEN = re.compile(r"\d{1,3}(?=(?:\d{3}){0,20}(?!\d))|[^\W\d_]+")
_MEANINGLESS = re.compile(r"[^\w+*/%<>=^|&-]|_")


class Tokens(NamedTuple):
    """A text cut up: `words`, and for each whether it is one character of a script without spaces."""

    words: list[str]
    unspaced: list[bool] | None
    """None: none of them is."""


def tokens(text: str) -> Tokens:
    """Cut a text into words; a Chinese, Japanese or Korean character is one by itself.

    Unicode NFKC, case, blanks, punctuation, invisible characters and the letters before choices ("B) …") make no
    difference. Numbers are cut into groups of three digits, and a fraction of one or two zeros is dropped: 1000,
    1,000, 1 000, 1.000,00 and their full-width forms are the same two words, 1,00,000 the two of 100,000. Of a longer
    row of digits than 63, the last 63 count.
    """
    text, spaced = folded(text), True
    if not text.isascii():
        spaced = _UNSPACED.search(text) is None
        text = text if spaced else _UNSPACED.sub(r" \g<0> ", text)
    text = _LABEL.sub("", text)
    if "'" in text:
        text = _APOSTROPHE.sub("", text)
    if ".0" in text or ",0" in text:
        text = _NO_CENTS.sub("", text)
    if "," in text:
        text = _LAKHS.sub(_together, text)
    words: list[str] = _TOKEN.findall(text)
    return Tokens(words, None if spaced else [is_unspaced(word) for word in words])


def _together(number: re.Match[str]) -> str:
    return number[0].replace(",", "")


def is_unspaced(word: str) -> bool:
    """Say whether a word of `tokens` is a character of a script without spaces."""
    return _UNSPACED.match(word) is not None


def folded(text: str) -> str:
    """Give a text in Unicode NFKC, without case, invisible characters and foreign digits."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", text).translate(_TABLE).casefold()


def bare(text: str) -> str:
    """Give a text as short ones are compared: folded, without blanks and punctuation, but with operators."""
    return _MEANINGLESS.sub("", folded(text))


def joined(words: list[str]) -> str:
    """Put words together to be read: blanks between those of scripts that have some."""
    text = " ".join(words)
    return re.sub(f"(?<={_UNSPACED.pattern}) (?={_UNSPACED.pattern})", "", text)
