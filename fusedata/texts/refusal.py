"""Whether a response refuses, or speaks of itself as an AI."""

# ruff: noqa: RUF001 - Chinese punctuation and typographic apostrophes are meant
import re
from typing import Final

_OPENING = 300
"""Characters: a refusal stands at the beginning; further on "I cannot" is as a rule part of an answer."""

_SELF: Final = re.compile(
    r"\bas an? (?:ai\b|artificial intelligence|(?:large )?language model|(?:virtual|digital) assistant|chatbot)"
    r"|\bi(?: a|['’])m (?:just |only |merely |sorry, )?an? (?:ai\b|artificial intelligence|(?:large )?language model)"
    r"|作[为為](?:一[个個名款位])?(?:AI|人工智[能慧]|大?(?:型)?[语語]言模型|智能助[手理])"
    r"|我(?:只)?是(?:一[个個名款位])?(?:AI|人工智[能慧]|大?(?:型)?[语語]言模型|智能助[手理])",
    re.IGNORECASE,
)
_LETTER: Final = re.compile(
    r"\W*(?:dear\b|(?:subject|to|from): |hi [A-Z]\w+,|[尊敬亲爱愛親]{2}的|主[题題][:：])", re.IGNORECASE
)
_QUOTED: Final = re.compile(r'"[^"\n]*(?:"|$)|“[^”\n]*(?:”|$)|「[^」\n]*(?:」|$)|『[^』\n]*(?:』|$)', re.MULTILINE)
_REFUSES: Final = re.compile(
    r"\bi(?:['’]m| am) (?:really |very |so )?sorry,? (?:but |i )[^.!?\n]{0,30}?"
    r"(?:can(?:no|['’])t|can not|unable|not able)(?! (?:to )?(?:come|attend|join|meet|make it|be)\b)"
    r"|\bi(?:['’]m| am) (?:sorry,? but i['’]m |currently )?(?:unable|not able) to (?:assist|help|provide|fulfil|access"
    r"|comply|complete|create|generate|write|answer|browse|open|view|see|watch|directly)"
    r"|\bi (?:can(?:no|['’])t|can not|won['’]t|will not|must decline|don['’]t have the (?:ability|capability)) "
    r"(?:assist|help|provide|fulfil|comply|complete|create|generate|write|answer|engage|support|participate|browse"
    r"|access|to (?:assist|help|provide|access|browse)"
    r"|(?:open|view|see|watch) [^.!?\n]{0,20}?(?:image|picture|photo|video|file|link|attachment|document|url|web|page))"
    r"|\bi(?:['’]d| would) (?:rather|prefer) not (?:to )?(?:assist|help|answer|discuss|say)"
    r"|(?:[很非]?[抱常]?[抱对對]?[歉不]起?[，,]?.{0,12})?我(?:无法|無法|不能|不可以|没有办法|沒有辦法|没法)"
    r"(?:直接|为[您你]|為[您你]|向[您你]|给[您你]|給[您你]|帮助?[您你]|幫助?[您你])?"
    r"(?:提供|回答|协助|協助|帮助|幫助|满足|滿足|生成|访问|訪問|完成|执行|執行|查看|打开|打開|写|寫|播放|参与|參與|支持)",
    re.IGNORECASE,
)


def refusal(text: str) -> str | None:
    """Give the words by which a response refuses or calls itself an AI at its beginning; None: it does neither.

    English and Chinese. What stands in quotes or further on is not looked at, and a letter may refuse.
    """
    opening = _QUOTED.sub("", text.lstrip()[:_OPENING])
    found = _SELF.search(opening) or (None if _LETTER.match(opening) else _REFUSES.search(opening))
    return found[0].strip() if found else None
