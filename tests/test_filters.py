"""The recipe's `[filters]`: each prompt that is dropped bears the reason and what decided."""

import polars as pl

from fusedata.collect.filters import make_filters, near_duplicates
from fusedata.collect.protocol import CANDIDATES
from fusedata.curation import Filters


def prompts(*rows: tuple[str, str | None]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "prompt_id": [f"id{place}" for place in range(len(rows))],
            "messages": [[{"role": "user", "content": text}] for text, _ in rows],
            "text": [text for text, _ in rows],
            "turns": [text for text, _ in rows],
            "topic": [topic for _, topic in rows],
        },
        schema=CANDIDATES,
    )


def verdicts(filters: Filters, *rows: tuple[str, str | None]) -> list[tuple[str | None, str | None]]:
    (each,) = make_filters(filters)
    return each(prompts(*rows)).rows()


def test_no_filter_is_made_where_none_is_asked_for():
    assert make_filters(Filters()) == []


def test_length_is_counted_in_characters():
    found = verdicts(
        Filters(min_chars=3, max_chars=5), ("诗诗", None), ("abc", None), ("abcde", None), ("abcdef", None)
    )
    assert found == [("too short", "2 characters"), (None, None), (None, None), ("too long", "6 characters")]


def test_a_long_answer_between_counts_and_a_long_system_prompt_makes_no_prompt_longer():
    turns = prompts(("short", None)).with_columns(turns=pl.lit("You are kind.\n\nshort"))
    (least,), (most,) = make_filters(Filters(min_chars=6)), make_filters(Filters(max_chars=10))
    assert least(turns).rows() == [("too short", "5 characters")]
    assert most(turns).rows() == [("too long", "20 characters")]


def test_the_label_comes_before_the_text():
    code = "Write a Python function."
    found = verdicts(Filters(topics=("other",)), (code, "other"), ("A poem", "math"), (code, None), ("A poem", None))
    assert found[0] == found[3] == (None, None)
    assert found[1] == ("topic math", "by its label")
    assert found[2][0] == "topic code"
    assert found[2][1].startswith("by its text: ")


def test_what_is_about_nothing_wanted_is_dropped():
    assert verdicts(Filters(topics=("code",)), ("Write a poem.", None)) == [("topic other", "by its text")]


def test_languages_are_told_apart_and_doubt_stays():
    found = verdicts(
        Filters(languages=("zh",)), ("How do I bake bread at home?", None), ("写一首诗", None), ("42", None)
    )
    assert found == [("language en", "en"), (None, None), (None, None)]


def test_repetition_is_a_share():
    found = verdicts(Filters(max_repetition=0.3), ("one two three four five six " * 9, None), ("A short line", None))
    assert found[0][0] == "repetition"
    assert float(found[0][1].split(" ")[0]) > 0.3
    assert found[1] == (None, None)


def test_a_limit_of_no_repetition_at_all_is_held():
    text = "one two three four five. One two three four five."
    assert verdicts(Filters(max_repetition=0), (text, None))[0][0] == "repetition"


def test_a_near_duplicate_names_the_prompt_that_it_resembles():
    story = "A farmer has seventeen sheep and sells all but nine of them at the market on a cold day"
    search = near_duplicates(0.7)
    assert search(prompts((story, None))).rows() == [(None, None)]
    again = prompts(("Something else entirely, please, and nothing more", None), (story + " in March", None))
    found = search(again.with_columns(prompt_id=pl.Series(["x", "y"]))).rows()
    assert found[0] == (None, None)
    assert found[1][0] == "near duplicate"
    assert found[1][1].endswith(" of id0")


def test_an_empty_batch_has_no_verdicts():
    (each,) = make_filters(Filters(min_chars=1))
    for search in (each, near_duplicates(0.5)):
        assert search(prompts()).schema == {"reason": pl.String(), "detail": pl.String()}
