"""Which licences apply to a dataset, and what they demand: read off the texts, never guessed."""

import tomllib
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusedata.assets import asset
from fusedata.licenses import known_terms, rollup, terms

TAGS = sorted({one.tag for one in known_terms().values()})
CORPUS = [("org/corpus", "cc-by-4.0")]


@pytest.mark.parametrize("tag", TAGS)
def test_every_known_licence_says_what_it_demands_where_its_text_is_and_the_same_in_chinese(tag: str) -> None:
    text = known_terms()[tag]
    assert text.url.startswith("https://")
    assert len(text.demands) == len(text.demands_zh) > 0
    assert len(text.unsure) == len(text.unsure_zh)
    said = text.demands + text.demands_zh + text.unsure + text.unsure_zh
    assert all(sentence.endswith((".", "。")) for sentence in said)


@pytest.mark.parametrize("stated", ["Apache-2.0", "apache 2.0".replace(" 2", "-2"), "APACHE_2.0", " apache-2.0 "])
def test_a_licence_is_known_whatever_its_case_and_blanks(stated: str) -> None:
    assert terms(stated) is known_terms()["apache-2.0"]


@pytest.mark.parametrize("stated", [None, "", "llama", "llama9", "cc-by-4.0 or mit", "gemma-ish"])
def test_a_licence_that_is_not_listed_is_unknown_never_guessed(stated: str | None) -> None:
    found = rollup([("org/corpus", stated)], [])
    assert [one.source for one in found.unknown] == ["org/corpus"]
    assert found.applies[0].demands == ()


def test_every_source_is_named_with_its_licence_and_its_demands() -> None:
    found = rollup(CORPUS, [("meta/llama", "llama3.1"), ("google/gemma", "gemma")], ("org/reward", "mit"))
    assert [(one.source, one.role, one.licence) for one in found.applies] == [
        ("org/corpus", "corpus", "cc-by-4.0"),
        ("meta/llama", "source model", "llama3.1"),
        ("google/gemma", "source model", "gemma"),
        ("org/reward", "reward model", "mit"),
    ]
    assert all(one.demands for one in found.applies)


def test_models_trained_on_llama_outputs_are_named_after_it() -> None:
    assert rollup(CORPUS, [("a", "llama3.1"), ("b", "llama3.2")]).prefixes == ("Llama",)
    assert rollup(CORPUS, [("a", "llama3.1"), ("b", "llama3")]).prefixes == ("Llama 3",)
    assert rollup(CORPUS, [("a", "apache-2.0")]).prefixes == ()
    assert rollup(CORPUS, [("a", "apache-2.0")], ("reward", "llama3")).prefixes == ()


@pytest.mark.parametrize("licence", ["mrl", "qwen-research", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"])
def test_non_commercial_terms_conflict_with_a_commercial_wish_only(licence: str) -> None:
    models = [("org/model", licence)]
    assert rollup(CORPUS, models).non_commercial == ("org/model",)
    assert not rollup(CORPUS, models).conflicts
    (sentence,) = rollup(CORPUS, models, commercial=True).conflicts
    assert "org/model" in sentence


def test_outputs_for_one_family_of_models_do_not_go_with_those_for_another() -> None:
    (sentence,) = rollup(CORPUS, [("a", "llama3"), ("b", "tongyi-qianwen"), ("c", "llama3")]).conflicts
    assert "Llama 3" in sentence
    assert "Tongyi Qianwen" in sentence
    assert not rollup(CORPUS, [("a", "llama3"), ("b", "qwen"), ("c", "llama3.1")]).conflicts


@pytest.mark.parametrize(
    ("other", "clashes"),
    [
        ("cc-by-sa-4.0", False),
        ("cc-by-sa-3.0", False),
        ("cc-by-4.0", False),
        ("llama3.1", False),
        ("gemma", False),
        ("cc-by-nc-4.0", True),
        ("cc-by-nc-sa-4.0", True),
        ("mrl", True),
    ],
)
def test_share_alike_material_clashes_with_what_adds_terms(other: str, clashes: bool) -> None:
    for order in ([("a", "cc-by-sa-4.0"), ("b", other)], [("b", other), ("a", "cc-by-sa-4.0")]):
        assert len(rollup(order, []).conflicts) == clashes


@pytest.mark.parametrize("licence", ["cc-by-nd-4.0", "cc-by-nc-nd-4.0"])
def test_material_that_may_not_be_adapted_forbids_publishing(licence: str) -> None:
    (sentence,) = rollup([("org/corpus", licence)], []).forbids_publishing
    assert sentence.startswith(f"org/corpus ({licence})")
    assert not rollup(CORPUS, [("m", "mit")], ("org/reward", licence)).forbids_publishing


@pytest.mark.parametrize(
    ("corpora", "models", "tag"),
    [
        (["mit"], ["mit"], "mit"),
        (["mit"], ["apache-2.0"], "other"),
        (["MIT"], ["mit"], "mit"),
        ([None], ["mit"], "other"),
        ([None], [None], "unknown"),
        (["mrl"], [], "other"),
        (["their own"], [], "other"),
    ],
)
def test_the_tag_is_the_one_licence_of_all_sources(corpora: list, models: list, tag: str) -> None:
    found = rollup([(str(i), c) for i, c in enumerate(corpora)], [(f"m{i}", m) for i, m in enumerate(models)])
    assert found.tag["license"] == tag
    assert ("license_name" in found.tag) == ("license_link" in found.tag) == (tag == "other")


def test_a_reward_model_counts_for_the_tag_where_its_terms_ask_for_more_than_a_notice() -> None:
    sources = [("c", "mit")], [("m", "mit")]
    assert rollup(*sources, ("r", "apache-2.0")).tag == {"license": "mit"}
    assert rollup(*sources, ("r", None)).tag == {"license": "mit"}
    assert rollup(*sources, ("r", "llama3")).tag["license"] == "other"


def stated_in(table: object) -> set[str]:
    """Every licence that a TOML document states, at any depth."""
    if isinstance(table, list):
        return {licence for entry in table for licence in stated_in(entry)}
    if not isinstance(table, dict):
        return set()
    own = {table["license"]} if isinstance(table.get("license"), str) else set()
    return own.union(*(stated_in(value) for value in table.values()))


@pytest.mark.parametrize("path", sorted(asset("recipes").rglob("*.toml")), ids=lambda path: path.stem)
def test_every_licence_that_ships_with_a_recipe_or_a_profile_is_known(path: Path) -> None:
    stated = stated_in(tomllib.loads(path.read_text())) - {"other"}
    assert not [licence for licence in stated if terms(licence) is None]


@given(st.lists(st.sampled_from([*TAGS, "nobody knows"]), max_size=4))
def test_a_conflict_does_not_depend_on_the_order_of_the_sources(tags: list[str]) -> None:
    sources = [(f"s{i}", tag) for i, tag in enumerate(tags)]
    counts = {len(rollup(order, [], commercial=True).conflicts) for order in (sources, sources[::-1])}
    assert len(counts) == 1


def test_conflicts_are_told_in_both_languages() -> None:
    for one, other in product(TAGS, TAGS):
        found = rollup([("a", one)], [("b", other)], commercial=True)
        assert len(found.conflicts) == len(found.conflicts_zh)
        assert len(found.forbids_publishing) == len(found.forbids_publishing_zh)
