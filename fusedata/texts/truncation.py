"""Whether a response breaks off."""

# ruff: noqa: RUF001 - Chinese punctuation and typographic apostrophes are meant
import re
from typing import Final

from fusedata.snippets import blocks

_LONG = 200
"""Characters: a shorter answer may end as it likes (a name, a number, a heading)."""
_LETTERS: Final = re.compile(r"[^\W\d_]")
_LIST_OR_TABLE: Final = re.compile(r"\s*([-*+•·|#>]|\(?\w{1,3}[.)、:：]|\$\$|\\[\[\]])")
_DANGLING: Final = re.compile(
    r"(?:\b(?:the|an|of|to|and|or|with|for|from|by|in|that|which|is|are|was|were|be|as|at|your|their|its|this|these)"
    r"|[,，、:：(（\[{=]|\b(?:such as|because|if)|的|和|与|或|以及|因为|如果)$",
    re.IGNORECASE,
)


def truncation(text: str, finish_reason: str | None = None) -> str | None:
    """Say how a response breaks off; None: it does not.

    `finish_reason` "length" is a sure sign, and "stop" clears the text. With any other or none (carried texts) the text
    itself is read, and doubt clears it: breaking off is an open code block, or a last line of prose that ends on a
    comma, an opening bracket or a word that something must follow ("of", "the", 的).
    """
    if finish_reason in ("length", "stop"):
        return "it ended at the limit of tokens" if finish_reason == "length" else None
    text = text.rstrip()
    found = blocks(text)
    if found and not found[-1].closed:
        return "its last code block is open"
    last = text.rsplit("\n", 1)[-1]
    if len(text) < _LONG or _LIST_OR_TABLE.match(last) or not _LETTERS.search(last):
        return None
    end = _DANGLING.search(last)
    return f"it ends on {end[0]!r}" if end else None
