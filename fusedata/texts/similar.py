"""Near duplicates: MinHash and locality-sensitive hashing find candidates, exact Jaccard similarity decides."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from fusedata.texts.words import is_cjk, words

if TYPE_CHECKING:
    import numpy.typing as npt

    Numbers = npt.NDArray[np.uint64]

_PERMUTATIONS = 128
_SEED = 42
_MISSED = 0.02
"""The most pairs of just the threshold's similarity that the search may miss; of more similar ones it misses fewer."""
_WORDS, _CHARACTERS = 3, 5
_MULTIPLIERS: Final = np.array(
    [0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F], np.uint64
)
_BATCH = 5_000


def shingles(texts: Sequence[str]) -> list["Numbers"]:
    """Hash the distinct shingles of each text: runs of 3 words, or of 5 characters of Chinese, Japanese or Korean.

    Letter case, spaces and punctuation play no part. A shorter text is one shingle; a text without words has none.
    """
    from rensa import RMinHash  # noqa: PLC0415

    split = [words(text) for text in texts]
    hashed = RMinHash.hash_token_sets(split)
    sizes = [_CHARACTERS if is_cjk(tokens) else _WORDS for tokens in split]
    return [np.unique(_runs(np.array(numbers, np.uint64), size)) for numbers, size in zip(hashed, sizes, strict=True)]


def _runs(numbers: "Numbers", size: int) -> "Numbers":
    """Hash each run of `size` numbers; modulo 2**64 throughout."""
    size = min(size, len(numbers))
    if not size:
        return numbers
    ends = len(numbers) - size + 1
    mixed: Numbers = np.zeros(ends, np.uint64)
    for place in range(size):
        mixed = (mixed ^ (mixed >> np.uint64(29))) + numbers[place : place + ends] * _MULTIPLIERS[place]
    mixed *= _MULTIPLIERS[0]
    return mixed


def jaccard(a: "Numbers", b: "Numbers") -> float:
    """Give the similarity, 0 to 1, of two sets of shingles: what they share over what either has."""
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return float(shared) / max(len(a) + len(b) - shared, 1)


class Likeness(NamedTuple):
    """An earlier text that a text resembles: its place among all that were given, and the Jaccard similarity."""

    place: int
    similarity: float


class NearDuplicates:
    """Remembers the texts that were kept: those that resemble no earlier kept one.

    `threshold`: the least Jaccard similarity of the shingles, above 0 and below 1, that makes a near duplicate. What
    is named one always is; of pairs of just this similarity 2 in 100 are missed, of more similar ones fewer. Memory:
    about 1.8 kB a kept text of 250 characters.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.rows = _rows_per_band(threshold)
        self.bands = _PERMUTATIONS // self.rows
        self._given = 0
        self._kept: list[int] = []  # places among all that were given
        self._ends = [0]
        self._shingles = _Growing()
        self._index = [_Band() for _ in range(self.bands)]

    def add(self, texts: Sequence[str]) -> list[Likeness | None]:
        """Say for each text, in order, which kept text it resembles; None: it is kept itself."""
        found: list[Likeness | None] = []
        for start in range(0, len(texts), _BATCH):
            found += self._add(texts[start : start + _BATCH])
        return found

    def _add(self, texts: Sequence[str]) -> list[Likeness | None]:
        sets = shingles(texts)
        bands = self._bands(sets)
        earlier = _earlier([band.find(column) for band, column in zip(self._index, bands.T, strict=True)])
        beside = [defaultdict[int, list[int]](list) for _ in self._index]  # kept texts of this batch
        found: list[Likeness | None] = []
        kept: dict[int, int] = {}  # row of this batch: number among the kept
        for row, (own, hashes) in enumerate(zip(sets, bands.tolist(), strict=True)):
            numbers = earlier[row].union(*(band.get(mark, ()) for band, mark in zip(beside, hashes, strict=True)))
            found.append(self._resembled(own, numbers) if len(own) else None)
            if len(own) and found[-1] is None:
                kept[row] = self._keep(self._given + row, own)
                for band, mark in zip(beside, hashes, strict=True):
                    band[mark].append(kept[row])
        rows = np.array(list(kept), np.int64)
        for index, column in zip(self._index, bands.T, strict=True):
            index.insert(column[rows], np.array(list(kept.values()), np.uint32))
        self._given += len(texts)
        return found

    def _keep(self, place: int, own: "Numbers") -> int:
        self._kept.append(place)
        self._shingles.append(own)
        self._ends.append(self._ends[-1] + len(own))
        return len(self._kept) - 1

    def _resembled(self, own: "Numbers", numbers: Iterable[int]) -> Likeness | None:
        """Give the most similar of the kept texts with these numbers, the earliest of equals."""
        best: Likeness | None = None
        for number in sorted(set(numbers)):
            similarity = jaccard(own, self._shingles.part(self._ends[number], self._ends[number + 1]))
            if similarity >= max(self.threshold, best.similarity + 1e-9 if best else 0):
                best = Likeness(self._kept[number], similarity)
        return best

    def _bands(self, sets: list["Numbers"]) -> "Numbers":
        """Hash the bands of each set's MinHash: an array (texts, bands)."""
        from rensa import RMinHash  # noqa: PLC0415

        offsets = np.cumsum([0, *map(len, sets)]).tolist()
        flat = np.concatenate(sets) if sets else np.zeros(0, np.uint64)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(flat, offsets, _PERMUTATIONS, _SEED)
        digests = np.array(matrix.to_rows(), np.uint64).reshape(len(sets), _PERMUTATIONS)
        used = digests[:, : self.bands * self.rows].reshape(len(sets), self.bands, self.rows)
        mixed = np.zeros(used.shape[:2], np.uint64)
        for row in range(self.rows):
            mixed = ((mixed ^ (mixed >> np.uint64(31))) + used[:, :, row] + np.uint64(1)) * _MULTIPLIERS[0]
        return mixed


def _rows_per_band(threshold: float) -> int:
    """Give the longest bands that still miss few enough pairs of just this similarity: they collide least by chance."""
    missed = {rows: (1 - threshold**rows) ** (_PERMUTATIONS // rows) for rows in range(1, 33)}
    return max((rows for rows, share in missed.items() if share <= _MISSED), default=1)


class _Growing:
    """Shingles of the kept texts, one after the other."""

    def __init__(self) -> None:
        self._held = np.zeros(1 << 16, np.uint64)
        self._size = 0

    def append(self, numbers: "Numbers") -> None:
        if self._size + len(numbers) > len(self._held):
            self._held = np.concatenate([self._held, np.zeros(max(len(self._held) // 2, len(numbers)), np.uint64)])
        self._held[self._size : self._size + len(numbers)] = numbers
        self._size += len(numbers)

    def part(self, start: int, end: int) -> "Numbers":
        return self._held[start:end]


_Hits = tuple["npt.NDArray[np.int64]", "npt.NDArray[np.int64]"]


class _Band:
    """Which kept texts have which hash in one band: sorted hashes, and new ones merged into them a batch at a time."""

    def __init__(self) -> None:
        self._hashes = np.zeros(0, np.uint64)
        self._numbers = np.zeros(0, np.uint32)

    def insert(self, hashes: "Numbers", numbers: "npt.NDArray[np.uint32]") -> None:
        order = np.argsort(hashes, kind="stable")
        places = np.searchsorted(self._hashes, hashes[order], side="right")
        self._hashes = np.insert(self._hashes, places, hashes[order])
        self._numbers = np.insert(self._numbers, places, numbers[order])

    def find(self, hashes: "Numbers") -> _Hits:
        """Give rows of `hashes` and the numbers of the kept texts that have the same hash."""
        first = np.searchsorted(self._hashes, hashes, side="left")
        last = np.searchsorted(self._hashes, hashes, side="right")
        counts = last - first
        rows = np.repeat(np.arange(len(hashes)), counts)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        return rows, self._numbers[np.repeat(first, counts) + within].astype(np.int64)


def _earlier(hits: Sequence[_Hits]) -> dict[int, set[int]]:
    """Collect over all bands the numbers of the kept texts that each row shares a hash with."""
    found = defaultdict[int, set[int]](set)
    for rows, numbers in hits:
        for row, number in zip(rows.tolist(), numbers.tolist(), strict=True):
            found[row].add(number)
    return found
