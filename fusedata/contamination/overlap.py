"""An index of benchmark texts by their n-grams, and the longest text that another one shares with them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from sys import intern
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fusedata.contamination.normalise import Tokens, bare, is_unspaced, joined, tokens

Hashes = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

SHORT = 0.6
"""The least share of an n-gram that a benchmark text must have to be looked for inside others: 8 words of 13, 12
characters of 20. Shorter ones match a text that is the same from end to end."""
LEAST_EQUAL = 8
"""Letters, digits and operators of the shortest text that is matched as a whole; Chinese characters count twice."""
PHRASE = 0.4
"""The share of an n-gram that makes a phrase: 6 words of 13, 8 characters of 20."""
BOILERPLATE = 3
"""A phrase in so many items of one benchmark belongs to its format: its words tell nothing."""
TELLING = 0.5
"""The share of an n-gram that different pairs of neighbouring words must make up, a pair counted as a word: neither two
numbers nor two words of boilerplate. Formulas and programs tell something by how few words follow each other."""

_SPARSE = 32  # entries of a table of first bits for each hash: most n-grams are looked up no further
_BASE = 0x9E3779B97F4A7C15  # any odd number: it has an inverse modulo 2**64


class Item(NamedTuple):
    """A text of a benchmark, and what it is called there."""

    benchmark: str
    item: str
    text: str


@dataclass(frozen=True)
class Match:
    """Text that was found in a benchmark: the longest run of words in common, as it was compared."""

    benchmark: str
    item: str
    text: str
    words: int
    """How many words it has; a Chinese, Japanese or Korean character is one."""


class _Found(NamedTuple):
    length: int
    number: int  # of the item
    start: int  # in the text that was looked into


class Index:
    """Texts of benchmarks, held in memory.

    A text matches an item where they share `words` consecutive words or `characters` consecutive characters of scripts
    without spaces, or a mixture that adds up, and enough of them tell something (see TELLING), or the whole item is
    there. Items shorter than an n-gram are looked for whole; see SHORT and LEAST_EQUAL.
    """

    def __init__(self, items: Iterable[Item], *, words: int = 13, characters: int = 20) -> None:
        """Index `items`; texts that say the same as an earlier one of their benchmark are left out."""
        self._word, self._character, self._whole = characters, words, words * characters
        self._least = int(self._whole * SHORT)
        self._items: list[Item] = []
        self._tokens: list[list[str]] = []
        self._equal: dict[str, int] = {}
        self._phrases = _Phrases()
        long, short = _Postings(), _Postings()
        for number, item in enumerate(_distinct(items)):
            cut = tokens(item.text)
            self._items.append(item._replace(text=""))
            self._tokens.append(list(map(intern, cut.words)))
            hashed = self._hashed(cut)
            self._phrases.add(item, *hashed.grams(int(self._whole * PHRASE)), len(cut.words))
            grams, _ = hashed.grams(self._whole)
            first = hashed.grams(self._least)[0][:1]
            if grams.size:
                long.add(grams, number)
            elif first.size:
                short.add(first, number)
            else:
                self._equal.setdefault(bare(item.text), number)
        self._long, self._short = long.sorted(), short.sorted()
        self._phrases.count()
        self._longest_equal = max(map(len, self._equal), default=0)

    def __len__(self) -> int:
        """Count the distinct texts."""
        return len(self._items)

    def find(self, text: str) -> Match | None:
        """Give the longest text in common with a benchmark; of equal ones the first that was indexed."""
        cut = tokens(text)
        found = max(self._all(cut), key=lambda found: (found.length, -found.number), default=None)
        if found:
            shared = cut.words[found.start : found.start + found.length]
            return self._match(found.number, shared)
        if sum(map(len, cut.words)) > self._longest_equal:
            return None
        whole = bare(text)
        number = self._equal.get(whole) if _size(whole) >= LEAST_EQUAL else None
        return None if number is None else self._match(number, cut.words)

    def _match(self, number: int, shared: list[str]) -> Match:
        item = self._items[number]
        return Match(item.benchmark, item.item, joined(shared), len(shared))

    def _all(self, cut: Tokens) -> Iterator[_Found]:
        """Give every run of words in common that counts as a match."""
        ended: dict[tuple[int, int], int] = {}  # where the last run of an item ends that begins at such a distance
        hashed = self._hashed(cut)
        for postings, weight in ((self._long, self._whole), (self._short, self._least)):
            grams, ends = hashed.grams(weight)
            for start, number, place in postings.hits(grams):
                if start < ended.get((number, start - place), 0):
                    continue
                found, first = self._extended(cut.words, number, start, place)
                ended[number, start - place] = found.start + found.length
                whole = found.length == len(self._tokens[number])
                if whole or (weight == self._whole and self._tells(found, first, ends[start] - start)):
                    yield found

    def _tells(self, found: _Found, place: int, least: int) -> bool:
        """Say whether a run is as long as an n-gram, and has enough pairs of words that tell something."""
        words = self._tokens[found.number][place : place + found.length]
        plain = self._phrases.covered(found.number)[place : place + found.length]
        telling = {
            (word, after)
            for (word, after), common in zip(pairwise(words), pairwise(plain), strict=True)
            if not all(common) and not (word.isdecimal() and after.isdecimal())
        }
        weight = sum(self._character if is_unspaced(after) else self._word for _, after in telling)
        return found.length >= least and weight >= TELLING * self._whole

    def _extended(self, words: list[str], number: int, start: int, place: int) -> tuple[_Found, int]:
        """Give the longest run around a hit and its place in the item; of length 0 if only the hashes were equal."""
        item = self._tokens[number]
        end, last = start, place
        while end < len(words) and last < len(item) and words[end] == item[last]:
            end, last = end + 1, last + 1
        while start and place and end > start and words[start - 1] == item[place - 1]:
            start, place = start - 1, place - 1
        return _Found(end - start, number, start), place

    def _hashed(self, cut: Tokens) -> "_Hashed":
        weights = None if cut.unspaced is None else np.where(cut.unspaced, self._character, self._word)
        return _Hashed(cut.words, self._word, weights)


class _Hashed:
    """The words of a text as sums over all words before them, of hashes and of weights: n-grams are differences."""

    def __init__(self, words: list[str], weight: int, weights: Places | None) -> None:
        """Take the weight of every word, or `weights` where they differ."""
        self._sums = np.zeros(len(words) + 1, np.uint64)
        self._sums[1:] = np.fromiter(map(hash, words), np.int64, len(words)).view(np.uint64)
        powers, self._inverses = _powers(len(words) + 1)
        self._sums *= powers
        np.cumsum(self._sums, out=self._sums)
        self._weight = weight
        self._weights = None if weights is None else np.concatenate([[0], np.cumsum(weights)])

    def grams(self, weight: int) -> tuple[Hashes, Places]:
        """Hash the shortest run of at least `weight` from each word on that has one, and give where it ends."""
        if self._weights is None:
            ends = np.arange(-(-weight // self._weight), self._sums.size)
        else:
            ends = np.searchsorted(self._weights, self._weights[:-1] + weight)
            ends = ends[ends < self._sums.size]
        return (self._sums[ends] - self._sums[: ends.size]) * self._inverses[: ends.size], ends


class _Postings:
    """Where each hash occurs: numbers of items and places in them."""

    def __init__(self) -> None:
        self._parts: list[tuple[Hashes, npt.NDArray[np.int32], int]] = []
        self._hashes = np.empty(0, np.uint64)

    def add(self, grams: Hashes, number: int) -> None:
        """Add the n-grams of a text; of those that it repeats, the first."""
        hashes, places = np.unique(grams, return_index=True)
        self._parts.append((hashes, places.astype(np.int32), number))

    def sorted(self) -> "_Postings":
        """Bring the hashes in order: the index is whole."""
        if not self._parts:
            return self
        sizes = [hashes.size for hashes, _, _ in self._parts]
        hashes = np.concatenate([hashes for hashes, _, _ in self._parts])
        order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[order]
        self._numbers = np.repeat(np.array([number for *_, number in self._parts], np.int32), sizes)[order]
        self._places = np.concatenate([places for _, places, _ in self._parts])[order]
        self._parts.clear()
        bits = max(10, (hashes.size * _SPARSE).bit_length())
        self._shift = np.uint64(64 - bits)
        self._perhaps = np.zeros(1 << bits, np.bool_)
        self._perhaps[self._hashes >> self._shift] = True
        return self

    def hits(self, grams: Hashes) -> Iterator[tuple[int, int, int]]:
        """Give each position of `grams` that is held, with the items and the places where they have it."""
        if not self._hashes.size:
            return
        for position in np.flatnonzero(self._perhaps[grams >> self._shift]):
            low, high = (int(np.searchsorted(self._hashes, grams[position], side)) for side in ("left", "right"))
            for number, place in zip(self._numbers[low:high].tolist(), self._places[low:high].tolist(), strict=True):
                yield int(position), number, place


class _Phrases:
    """Which words of each text stand in phrases that several items of its benchmark share."""

    def __init__(self) -> None:
        self._texts: dict[str, list[tuple[Hashes, Places, int, int]]] = {}
        self._items: dict[tuple[str, str], int] = {}
        self._covered: list[Flags] = []

    def add(self, item: Item, grams: Hashes, ends: Places, words: int) -> None:
        number = self._items.setdefault((item.benchmark, item.item), len(self._items))
        self._texts.setdefault(item.benchmark, []).append((grams, ends, number, len(self._covered)))
        self._covered.append(np.zeros(words, np.bool_))

    def count(self) -> None:
        """Mark the words: all texts are there."""
        for texts in self._texts.values():
            common = _frequent([grams for grams, *_ in texts], [number for *_, number, _ in texts])
            for grams, ends, _, text in texts:
                starts = np.flatnonzero(_held(common, grams))
                edges = np.zeros(self._covered[text].size + 1, np.int32)
                np.add.at(edges, starts, 1)
                np.subtract.at(edges, ends[starts], 1)
                self._covered[text] = edges[:-1].cumsum() > 0
        self._texts.clear()

    def covered(self, text: int) -> Flags:
        """Tell of each word of a text whether it tells nothing."""
        return self._covered[text]


def _frequent(grams: list[Hashes], items: list[int]) -> Hashes:
    """Give the hashes that BOILERPLATE items or more have."""
    hashes = np.concatenate(grams)
    numbers = np.repeat(np.array(items), [each.size for each in grams])
    order = np.lexsort((numbers, hashes))
    hashes, numbers = hashes[order], numbers[order]
    new = np.ones(hashes.size, np.bool_)
    new[1:] = (hashes[1:] != hashes[:-1]) | (numbers[1:] != numbers[:-1])
    found, counts = np.unique(hashes[new], return_counts=True)
    return found[counts >= BOILERPLATE]


def _held(among: Hashes, grams: Hashes) -> Flags:
    """Tell of each hash whether it is `among` those, which are in order."""
    found = np.searchsorted(among, grams)
    return among.take(found, mode="clip") == grams if among.size else np.zeros(grams.size, np.bool_)


def _distinct(items: Iterable[Item]) -> Iterator[Item]:
    seen: set[tuple[str, str]] = set()
    for item in items:
        key = item.benchmark, bare(item.text)
        if key[1] and key not in seen:
            seen.add(key)
            yield item


def _size(text: str) -> int:
    return len(text) + sum(character > "\u2fff" for character in text)


_POWERS: tuple[Hashes, Hashes] = (np.ones(1, np.uint64), np.ones(1, np.uint64))


def _powers(count: int) -> tuple[Hashes, Hashes]:
    """Give the first powers of the base and of its inverse, modulo 2**64."""
    global _POWERS  # noqa: PLW0603 - a table of constants that grows with the longest text
    if _POWERS[0].size < count:
        size = max(4096, 2 * count)
        inverse = pow(_BASE, -1, 2**64)
        powers, inverses = (np.full(size, base, np.uint64) for base in (_BASE, inverse))
        powers[0] = inverses[0] = 1
        _POWERS = np.cumprod(powers, dtype=np.uint64), np.cumprod(inverses, dtype=np.uint64)
    return _POWERS[0][:count], _POWERS[1][:count]
