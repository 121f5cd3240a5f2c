"""The language of a text, by py3langid; it can abstain."""

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from fusedata.texts.words import HAN, words

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

LANGUAGES: Final = (
    *("ar", "bg", "cs", "da", "de", "el", "en", "es", "et", "fa", "fi", "fr", "he", "hi", "hr", "hu", "id", "it", "ja"),
    *("ko", "lt", "lv", "nl", "no", "pl", "pt", "ro", "ru", "sk", "sl", "sv", "th", "tr", "uk", "vi", "zh"),
)
"""The languages (ISO 639-1) that are told apart: a choice among more errs more often on short texts."""

_LEAST_WORDS = 4
_LEAST_CONFIDENCE = 0.8
_CHARS = 2_000  # more of a text does not change its language
_CODE: Final = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+|\$\$?[^$]{1,400}\$\$?|\\[a-zA-Z]+", re.DOTALL)
_HAN: Final = re.compile(rf"[{HAN}]")
_KANA_HANGUL: Final = re.compile(r"[\u3040-\u30ff\uac00-\ud7af]")


def language(text: str) -> str | None:
    """Name the language of a text, ISO 639-1; None: it is too short, has no words, or could be several.

    Code in fences and backquotes, addresses and formulas are left out. Chinese characters with hardly any kana or
    hangul are Chinese, if they are at least a fifth of the words: Chinese prompts quote English, names and code.
    """
    plain = _CODE.sub(" ", text)[:_CHARS]
    found = words(plain)
    han = sum(1 for word in found if _HAN.match(word))
    if 5 * han >= len(found) > 0 and 10 * len(_KANA_HANGUL.findall(plain)) <= han:
        return "zh"
    letters = [word for word in found if not word.isdigit()]
    if len(letters) < _LEAST_WORDS:
        return None
    name, confidence = _identifier().classify(plain)
    return str(name) if confidence >= _LEAST_CONFIDENCE else None


@lru_cache(maxsize=1)
def _identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # noqa: PLC0415 - its model takes half a second to load

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(LANGUAGES)
    return identifier
