"""Near duplicates: found by MinHash, decided by exact similarity."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusedata.texts.similar import NearDuplicates, jaccard, shingles
from fusedata.texts.words import words

STORY = "A farmer has seventeen sheep and sells all but nine of them at the market on a cold Monday in March"


def test_case_and_punctuation_make_no_difference():
    like = NearDuplicates(0.9).add([STORY, STORY.upper().replace(" ", ", ") + "!"])[1]
    assert like is not None
    assert (like.place, like.similarity) == (0, 1)


def test_a_chinese_text_is_compared_by_characters():
    text = "请写一篇关于春天的文章，描述花园里的花和鸟，并说明你为什么喜欢这个季节"
    assert NearDuplicates(0.7).add([text, text.replace("文章", "短文")])[1] is None
    assert NearDuplicates(0.5).add([text, text.replace("文章", "短文")])[1]


def test_the_threshold_means_exact_similarity():
    edited = STORY.replace("cold", "warm")
    exact = jaccard(*shingles([STORY, edited]))
    assert NearDuplicates(exact).add([STORY, edited])[1] is not None
    assert NearDuplicates(exact + 1e-6).add([STORY, edited])[1] is None


def test_what_was_dropped_is_resembled_by_nothing():
    chain = [STORY, STORY.replace("cold", "warm"), STORY.replace("cold", "warm").replace("farmer", "trader")]
    first, second, third = NearDuplicates(0.69).add(chain)
    assert (first, second and second.place) == (None, 0)
    assert third is None


def test_texts_without_words_are_never_alike():
    assert NearDuplicates(0.5).add(["", "!!!", "??", ""]) == [None] * 4


def test_many_copies_are_compared_with_one():
    found = NearDuplicates(0.8).add([STORY + "!" * count for count in range(6_000)])
    assert [like and like.place for like in found] == [None, *[0] * 5_999]


@settings(deadline=None, max_examples=20)
@given(cuts=st.lists(st.integers(0, 60), max_size=4), seed=st.integers(0, 5))
def test_batches_do_not_matter(cuts, seed):
    dice = random.Random(seed)
    texts = [" ".join(dice.choices(["red", "blue", "green"], k=8)) for _ in range(60)]
    whole = NearDuplicates(0.4).add(texts)
    parts = NearDuplicates(0.4)
    ends = [0, *sorted(cuts), 60]
    assert [like for a, b in pairwise(ends) for like in parts.add(texts[a:b])] == whole


def test_hashed_shingles_have_the_similarity_of_the_real_ones():
    dice = random.Random(1)
    for _ in range(200):
        a, b = (" ".join(dice.choices("abcd", k=dice.randrange(3, 30))) for _ in range(2))
        real = [{tuple(words(text)[i : i + 3]) for i in range(len(words(text)) - 2)} for text in (a, b)]
        expected = len(real[0] & real[1]) / len(real[0] | real[1])
        assert jaccard(*shingles([a, b])) == pytest.approx(expected)


def test_the_hashes_are_those_of_every_machine():
    assert shingles(["One, two: THREE four"])[0].tolist() == [15206251459202691279, 16863709271218674216]
