"""Ids, ranks, seeds and fingerprints: the same on every machine and version, and nothing collides."""

import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusedata.schema import (
    DROPPED,
    KEY,
    PROMPTS,
    RESPONSES,
    REWARDS,
    VERDICTS,
    digest,
    fingerprint,
    normalise,
    prompt_id,
    rank,
    sample_seed,
    text_prompt_ids,
)

TEXT = st.text(st.characters() | st.characters(categories=["Cs"]), max_size=20)


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


# --- prompts --------------------------------------------------------------------------------------------------


@given(st.lists(st.text(" a1é\u0301\r\n\x1f\u3000", max_size=6)))
def test_prompt_ids_of_texts_are_those_of_their_messages(texts):
    assert text_prompt_ids(texts) == [prompt_id(user(text)) for text in texts]


def test_prompt_ids_never_change():
    assert prompt_id(user("What is 2 + 2?")) == "cfdff598318aa7162effcff3"
    assert prompt_id([{"role": "system", "content": "数学"}, *user("é")]) == "ea4a8b41c70d3706c567808d"
    assert digest("a", "b") == "37a6c24dff3292b242236318"


@pytest.mark.parametrize(
    "text", ["caf\u00e9\nx", "cafe\u0301\nx", "  caf\u00e9\r\nx\t\n", "caf\u00e9\rx", "\u2003cafe\u0301\r\nx"]
)
def test_unicode_form_line_ends_and_outer_blanks_make_no_other_prompt(text):
    assert prompt_id(user(text)) == prompt_id(user("caf\u00e9\nx"))


@pytest.mark.parametrize("text", ["cafe", "Café", "ca fé", "café\n\nx", "café x", "cafe\u0300"])
def test_other_texts_are_other_prompts(text):
    assert prompt_id(user(text)) != prompt_id(user("café\nx"))


def test_the_role_matters():
    assert prompt_id(user("x")) != prompt_id([{"role": "system", "content": "x"}])


def test_turns_cannot_be_cut_otherwise_into_the_same_prompt():
    cuts = [
        [*user("ab"), *user("c")],
        [*user("a"), *user("bc")],
        user("abc"),
        [*user("abc"), *user("")],
        user("auserbc"),
        [*user(""), *user("abc")],
    ]
    assert len({prompt_id(cut) for cut in cuts}) == len(cuts)


@given(st.lists(TEXT, max_size=4), st.lists(TEXT, max_size=4))
def test_lists_of_strings_have_one_digest_just_where_they_are_equal(one, other):
    assert (digest(*one) == digest(*other)) == (one == other)
    assert len(digest(*one)) == 24


@given(TEXT)
def test_normalising_twice_changes_nothing(text):
    once = normalise(text)
    assert normalise(once) == once
    assert "\r" not in once
    assert once == once.strip()
    assert unicodedata.is_normalized("NFC", once)


@given(TEXT)
def test_no_text_is_refused_an_id_a_rank_a_seed_or_a_fingerprint(text):
    assert len(prompt_id(user(text))) == 24
    assert rank("take", 1, [digest(text)])[0] < 2**64
    assert sample_seed(1, text, text, 0) < 2**31
    assert len(fingerprint({"text": text, text: 1})) == 16


# --- ranks ----------------------------------------------------------------------------------------------------

IDS = [digest(str(number)) for number in range(2_000)]


def test_ranks_never_change():
    assert rank("take", 42, [digest("a"), digest("b")]).to_list() == [10516498042559448413, 7352211368716047548]


def test_a_rank_depends_on_its_id_alone():
    ranks = dict(zip(IDS, rank("take", 42, IDS), strict=True))
    assert [ranks[i] for i in reversed(IDS)] == rank("take", 42, reversed(IDS)).to_list()
    assert rank("take", 42, []).to_list() == []


def test_an_id_of_another_form_ranks_as_its_digest():
    other = ["", "q7", "Ünicode", "f" * 23, "g" * 24, "7", "\u0660" * 24]
    mixed = [other[0], IDS[0], *other[1:], IDS[1]]
    as_digests = [digest(value) for value in mixed]
    as_digests[1], as_digests[-1] = IDS[:2]
    assert rank("take", 42, mixed).to_list() == rank("take", 42, as_digests).to_list()


@pytest.mark.parametrize(("purpose", "seed"), [("split", 42), ("take", 43), ("take", -42)])
def test_another_purpose_or_seed_gives_an_independent_order(purpose, seed):
    first = set(sorted(IDS, key=dict(zip(IDS, rank("take", 42, IDS), strict=True)).get)[:1_000])
    other = set(sorted(IDS, key=dict(zip(IDS, rank(purpose, seed, IDS), strict=True)).get)[:1_000])
    assert 430 < len(first & other) < 570  # 500 by chance, standard deviation 11


def test_ranks_are_spread_evenly():
    quarter = sum(r < 2**62 for r in rank("take", 42, IDS))
    assert 400 < quarter < 600
    assert len(set(rank("take", 42, IDS))) == len(IDS)


# --- seeds ----------------------------------------------------------------------------------------------------


def test_sample_seeds_never_change():
    assert sample_seed(42, "p", "m/1", 0) == 628269062
    assert sample_seed(42, "p", "m/1", 1) == 604709311


@given(st.integers(), TEXT, TEXT, st.integers(0, 2**31))
def test_a_sample_seed_is_one_that_every_engine_takes(seed, prompt, model, sample):
    assert 0 <= sample_seed(seed, prompt, model, sample) < 2**31


def test_seed_prompt_model_and_number_each_change_the_seed():
    seeds = [(1, "p", "m", 0), (2, "p", "m", 0), (1, "q", "m", 0), (1, "p", "n", 0), (1, "p", "m", 1), (1, "pm", "", 0)]
    assert len({sample_seed(*key) for key in seeds}) == len(seeds)


# --- fingerprints ---------------------------------------------------------------------------------------------

IDENTITIES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
)


def shuffled(value):
    """The same value with the keys of every table in reverse order."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(value)}
    return [shuffled(entry) for entry in value] if isinstance(value, list) else value


def test_fingerprints_never_change():
    assert (
        fingerprint({"model": "m/1", "sampling": {"temperature": 0.7, "top_p": None}, "n": [1, True]})
        == "9619a52f9840c87b"
    )


@given(st.dictionaries(st.text("ab", max_size=2), IDENTITIES))
def test_the_order_of_keys_does_not_matter(identity):
    assert fingerprint(identity) == fingerprint(shuffled(identity))


@pytest.mark.parametrize(
    "other", [{"a": ["y", "x"]}, {"a": ["x"]}, {"a": "x,y"}, {"b": ["x", "y"]}, {}, {"a": {"x": "y"}}]
)
def test_another_value_gives_another_fingerprint(other):
    assert fingerprint(other) != fingerprint({"a": ["x", "y"]})


def test_nothing_depends_on_the_process():
    program = "from fusedata.schema import *; print(prompt_id([{'role': 'user', 'content': 'x'}]), rank('a', 1, ['b'])[0], fingerprint({'a': 1, 'b': 2}))"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    assert run.stdout.split(" ", 1)[0] == prompt_id(user("x"))
    assert (
        run.stdout.split() == f"{prompt_id(user('x'))} {rank('a', 1, ['b'])[0]} {fingerprint({'b': 2, 'a': 1})}".split()
    )


# --- tables ---------------------------------------------------------------------------------------------------


def test_a_response_is_known_by_the_same_key_in_every_table():
    for schema in (RESPONSES, VERDICTS, REWARDS):
        assert tuple(schema.names()[:3]) == KEY
        assert [schema[name] for name in KEY] == [RESPONSES[name] for name in KEY]
    assert PROMPTS["prompt_id"] == DROPPED["prompt_id"] == RESPONSES["prompt_id"]
