"""How much of a text is repetition of itself."""

from fusedata.texts.words import is_cjk, words

_WORDS, _CHARACTERS = 5, 10


def repetition(text: str) -> float:
    """Give the share, 0 to 1, of a text's letters that stand in an n-gram which stood earlier in the text.

    n is 5 words, or 10 characters where most words are Chinese, Japanese or Korean. This is the "duplicate n-gram
    character fraction" of Gopher (Rae et al. 2021, arXiv 2112.11446, table A1, where 0.15 is the limit for 5-grams of
    web pages), with overlapping n-grams counted once and the first of equal ones not counted: a text that stands
    twice has 0.5. Spaces, punctuation and letter case play no part.
    """
    found = words(text)
    n = _CHARACTERS if is_cjk(found) else _WORDS
    seen: set[tuple[str, ...]] = set()
    repeated, counted = 0, 0  # words before `counted` have been looked at
    for start in range(len(found) - n + 1):
        gram = tuple(found[start : start + n])
        if gram in seen:
            first = max(start, counted)
            repeated += sum(map(len, found[first : start + n]))
            counted = start + n
        seen.add(gram)
    return repeated / max(sum(map(len, found)), 1)
