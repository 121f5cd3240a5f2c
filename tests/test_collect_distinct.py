"""The table of hashes that rows are known by."""

import numpy as np

from fusedata.collect.distinct import _Hashes


def test_a_set_of_hashes_lacks_just_what_was_never_added_though_all_of_them_want_the_same_places() -> None:
    draw = np.random.default_rng(3)
    crowded = np.unique(draw.integers(0, 2**40, 3_000, dtype=np.uint64)) << np.uint64(20)
    spread = np.unique(draw.integers(0, 2**64, 200_000, dtype=np.uint64))
    every = draw.permutation(np.unique(np.concatenate([crowded, spread])))
    known = _Hashes()
    half = len(every) // 2
    for some in np.array_split(every[:half], 20):
        assert known.lacks(some).all()
        known.add(some)
    assert not known.lacks(every[:half]).any()
    assert known.lacks(every[half:]).all()


def test_a_hash_of_zero_is_found_again() -> None:
    known = _Hashes()
    zero = np.zeros(1, np.uint64)
    assert known.lacks(zero).all()
    known.add(zero)
    assert not known.lacks(zero).any()
