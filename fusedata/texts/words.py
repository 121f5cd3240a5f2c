"""Texts into words: Latin and other words whole, Chinese, Japanese and Korean characters one by one."""

import re
from typing import Final

HAN: Final = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""The inside of a character class: Chinese characters, simplified and traditional."""
CJK: Final = HAN + "\u3040-\u30ff\uac00-\ud7af"
"""The same with kana and hangul."""

_LONGEST = 24  # a longer run of letters is no word: in pieces its repetition can be seen
_WORD: Final = re.compile(rf"[{CJK}]|[^\W_{CJK}]{{1,{_LONGEST}}}")
_CJK: Final = re.compile(rf"[{CJK}]")


def words(text: str) -> list[str]:
    """List the words of a text in lower case; what is neither letter nor digit parts them and is left out."""
    return _WORD.findall(text.lower())


def is_cjk(words: list[str]) -> bool:
    """Whether at least half of these words are single Chinese, Japanese or Korean characters."""
    return 2 * sum(1 for word in words if _CJK.match(word)) >= max(len(words), 1)
