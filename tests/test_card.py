"""The card is pure: what it states is in the recipe, the rows and the funnel, and no text can break it."""

import re
from typing import Any
from xml.etree import ElementTree as ET

import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fusedata.assets import asset
from fusedata.card import Facts, bins, render, size_category
from fusedata.card_parts import license_file, pictures
from fusedata.card_rules import cell
from fusedata.card_words import in_chinese
from fusedata.config import validate
from fusedata.contamination.report import Report
from fusedata.dataset import DPO, SFT
from fusedata.licenses import rollup
from fusedata.publish.folder import Written
from fusedata.recipe import Recipe
from fusedata.schema import FLAW_NAMES
from fusedata.select import REASONS

TEMPLATE = asset("cards", "dataset.md.j2").read_text(encoding="utf-8")
ZH = asset("cards", "dataset_zh.md.j2").read_text(encoding="utf-8")
NASTY = "a|b `c` ``d``\n| e <script> [x](y) *z*"


def recipe(**changes: Any) -> Recipe:
    data = {
        "name": "sums",
        "description": "Sums.",
        "corpora": [
            {"id": "org/sums", "prompt": "q", "answer": "a", "license": "mit"},
            {
                "id": "org/carried",
                "prompt": "q",
                "answer": "a",
                "responses": {"column": "r", "source_model": "org/writer", "license": "apache-2.0"},
            },
        ],
        "source_models": [{"id": "org/small", "license": "mit"}, {"id": "org/large", "license": "llama3.1"}],
        "correctness": {"check": "math_answer"},
        "reward": {"model": "org/reward"},
        "dpo": {"reward_gap": [0.01, 0.1], "reward_gap_model": "org/reward"},
    }
    return validate(Recipe, {k: v for k, v in {**data, **changes}.items() if v is not None}, "test")


def rows(kind: str, *values: dict[str, Any]) -> pl.DataFrame:
    known = {"corpus": "org/sums", "source_model": "org/small", "rejected_source_model": "org/small", "reward": 0.1}
    known |= {"chosen_reward": 0.15, "rejected_reward": 0.1}
    schema = {"sft": SFT, "dpo": DPO}[kind]
    return pl.DataFrame(
        [{name: {**known, **row}.get(name) for name in schema} | {"test": False} for row in values or [{}]],
        schema={**schema, "test": pl.Boolean()},
    )


def places(*values: tuple[str, bool, bool, str | None, str | None]) -> pl.DataFrame:
    schema = {"corpus": pl.String, "sft": pl.Boolean, "dpo": pl.Boolean, "pair_reason": pl.String, "dropped": pl.String}
    rows = pl.DataFrame(values, schema=schema, orient="row")
    return rows.with_columns(sft_rows=pl.col("sft").cast(pl.Int64), pairs=pl.col("dpo").cast(pl.Int64))


PLACES = places(
    ("org/sums", True, False, "gap too small", None),
    ("org/sums", False, True, None, None),
    ("org/sums", False, False, "no correct response", "no correct response"),
)


def card(kind: str = "sft", frame: pl.DataFrame | None = None, template: str = TEMPLATE, **facts: Any) -> str:
    frame = rows(kind) if frame is None else frame
    known = {"recipe": recipe(), "profile": "local", "stand_ins": [], "funnel": [("org/sums", "rows read", 4)]}
    data = {"train": Written(("data/train-00000-of-00001.parquet",), frame.height, 1_000, 500)}
    sums = {"data/train-00000-of-00001.parquet": "0" * 64}
    return render(template, kind, frame, data, Facts(**{**known, "places": PLACES, **facts}), sums)


def front_matter(text: str) -> dict[str, Any]:
    return yaml.safe_load(text.split("---\n")[1])


def tables(text: str) -> list[list[list[str]]]:
    """The cells of each table, split where a reader of Markdown splits them."""
    found: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            found[-1].append(line.replace("\\|", "\0").strip("|").split("|"))
        elif found[-1]:
            found.append([])
    return found[:-1] if not found[-1] else found


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_the_hub_client_reads_the_front_matter(kind: str) -> None:
    from huggingface_hub import DatasetCard

    data = DatasetCard(card(kind)).data.to_dict()
    assert data["pretty_name"] == f"sums {kind.upper()} data"
    assert data["size_categories"] == ["n<1K"]
    assert data["task_categories"] == ["text-generation"]
    assert data["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]


def test_the_front_matter_counts_rows_and_bytes_of_each_split() -> None:
    info = front_matter(card())["dataset_info"]
    assert info["splits"] == [{"name": "train", "num_bytes": 1_000, "num_examples": 1}]
    assert (info["download_size"], info["dataset_size"]) == (500, 1_000)


def test_only_corpora_with_a_row_are_source_datasets() -> None:
    assert front_matter(card())["source_datasets"] == ["org/sums"]


@pytest.mark.parametrize(
    ("row", "license_"),
    [
        ({}, "mit"),
        ({"source_model": "org/large"}, "other"),
        ({"rejected_source_model": "org/large"}, "other"),
        ({"corpus": "org/carried", "source_model": "org/writer", "rejected_source_model": "org/writer"}, "other"),
    ],
)
def test_the_licence_follows_from_corpora_and_models_behind_the_rows(row: dict[str, str], license_: str) -> None:
    assert front_matter(card("dpo", rows("dpo", row)))["license"] == license_


def test_the_card_names_each_licence_and_who_states_none() -> None:
    text = card(frame=rows("sft", {}, {"corpus": "org/carried", "source_model": "org/writer"}))
    assert "- org/sums: mit\n" in text
    assert "- org/writer: apache-2.0\n" in text
    assert "- org/carried: not stated: ask before you use these rows\n" in text
    assert "org/large: llama3.1" not in text


def test_the_funnel_goes_on_with_what_selection_dropped() -> None:
    funnel = next(table for table in tables(card()) if "what" in table[0][1])
    assert [[c.strip() for c in row] for row in funnel[2:]] == [
        ["org/sums", "rows read", "4"],
        ["org/sums", "no row: no correct response", "1"],
        ["org/sums", "SFT and no pair: gap too small", "1"],
    ]


@pytest.mark.parametrize("reason", [*REASONS, *FLAW_NAMES])
def test_the_funnel_of_the_chinese_card_is_in_chinese(reason: str) -> None:
    for label in (reason, f"no row: {reason}", f"response screened out: {reason} (responses)"):
        assert not re.search("[a-z]", in_chinese(label).replace("SFT", ""))
    assert in_chinese("in benchmark gsm8k") == "与评测基准 gsm8k 重合"
    assert in_chinese("where a|b (rows)") == "`where a\\|b`（行）"
    text = card(template=ZH)
    assert "| org/sums | 读取的行 | 4 |" in text
    assert "| org/sums | 未成行：无正确回答 | 1 |" in text


def test_the_composition_counts_each_corpus() -> None:
    table = next(table for table in tables(card()) if "SFT rows" in "".join(table[0]))
    assert [[c.strip() for c in row] for row in table[2:]] == [
        ["org/sums", "mit", "3", "1", "1", "1"],
        ["org/carried", "not stated", "0", "0", "0", "0"],
    ]


def test_models_are_counted_by_the_rows_that_they_wrote() -> None:
    frame = rows("dpo", {}, {"rejected_source_model": "org/large"})
    table = next(table for table in tables(card("dpo", frame)) if "rows here" in "".join(table[0]))
    counts = {row[0].strip(): row[-1].strip() for row in table[2:]}
    assert counts == {"org/small": "2", "org/large": "1", "org/writer": "0"}


@pytest.mark.parametrize("kind", ["sft", "dpo"])
@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("across", [True, False])
def test_the_rules_are_those_of_the_recipe(kind: str, checked: bool, across: bool) -> None:
    dpo = {
        "same_source_model": not across,
        **({} if across else {"reward_gap": [0.02, 0.2], "reward_gap_model": "org/reward"}),
    }
    made = recipe(dpo=dpo, correctness={"check": "math_answer"} if checked else None)
    text = card(kind, recipe=made)
    assert ("judged right" in text) == checked
    assert ("judged wrong" in text) == (checked and kind == "dpo")
    assert ("over all source models" in text) == (across and kind == "dpo")
    assert ("between 0.02 and 0.2" in text) == (not across and kind == "dpo")
    assert ("A right final answer" in text) == checked


def test_a_share_below_one_percent_is_stated_as_it_is() -> None:
    assert "0.5% held out" in card(recipe=recipe(split={"test": 0.005}))


def test_an_unrewarded_dataset_has_no_rewards_to_show() -> None:
    frame = rows("sft", {"reward": None})
    text = card(frame=frame, recipe=recipe(reward=None, dpo=None))
    assert "### Reward" not in text
    assert "the first by model name" in text
    assert "Rewards are those of" not in text


def test_pairs_show_their_gaps() -> None:
    text = card("dpo", rows("dpo", {"chosen_reward": 0.25, "rejected_reward": 0.125}))
    assert "| 0.1250 | 0.1250 | 1 |" in text


def pair(said: str = "four", **values: Any) -> dict[str, Any]:
    """A whole pair: texts, lengths and verdicts."""
    chosen, rejected = [{"role": "assistant", "content": said}], [{"role": "assistant", "content": "five"}]
    whole = {
        "prompt_id": "ab",
        "prompt": [{"role": "user", "content": "2 + 2?"}],
        "chosen": chosen,
        "rejected": rejected,
    }
    whole |= {"chosen_completion_tokens": 9, "rejected_completion_tokens": 4}
    return whole | {"chosen_verdict": "right", "rejected_verdict": "wrong"} | values


@pytest.mark.parametrize("template", [TEMPLATE, ZH])
def test_both_languages_state_the_same_facts(template: str) -> None:
    text = card("dpo", rows("dpo", pair(source_model="org/large")), template, reward_tolerance=0.001)
    for fact in ("org/sums", "org/large", "llama3.1", "MsDataset", "load_dataset", "scan_parquet", "2 + 2?", "five"):
        assert fact in text
    for fact in ("![images/reward-gap.svg](images/reward-gap.svg)", "`" + "0" * 64 + "`", "2503.04222", "“Llama”"):
        assert fact in text
    assert all(len(row) == len(table[0]) for table in tables(text) for row in table)
    assert front_matter(text) == front_matter(card("dpo", rows("dpo", pair(source_model="org/large"))))


def test_the_card_says_what_the_licences_demand_and_what_they_forbid() -> None:
    bound = [{"id": "org/small", "license": "llama3"}, {"id": "org/large", "license": "tongyi-qianwen"}]
    text = card(frame=rows("sft", {}, {"source_model": "org/large"}), recipe=recipe(source_models=bound))
    assert "Do not use outputs to improve any large language model but Llama 3" in text
    assert "no model may be trained on both" in text
    assert "*Not certain*: Whether choosing other models' texts by a Llama 3 reward model's scores" in text
    research, own = ([{"id": "org/small", "license": licence}] for licence in ("mrl", "ours alone"))
    assert "**No commercial use**: org/small" in card(recipe=recipe(source_models=research))
    assert "its licence is none that fusedata knows" in card(recipe=recipe(source_models=own))


def test_three_examples_are_rows_and_no_text_ends_its_fence() -> None:
    said = ["```python\nx\n```", "~" * 2_000, "three", "four"]
    text = card("dpo", rows("dpo", *(pair(s, prompt_id=str(i)) for i, s in enumerate(said))))
    assert text.count("### Example ") == 3
    assert "````text\n```python\nx\n```\n````" in card("dpo", rows("dpo", pair(said[0])))
    assert "~" * 701 not in card("dpo", rows("dpo", pair(said[1])))


def test_the_card_counts_verdicts_of_each_side() -> None:
    table = next(t for t in tables(card("dpo", rows("dpo", pair(), pair()))) if "verdict" in t[0][1])
    assert [[c.strip() for c in row] for row in table[2:]] == [
        ["chosen_verdict", "right", "2"],
        ["rejected_verdict", "wrong", "2"],
    ]


def test_what_was_held_against_benchmarks_is_told_and_what_was_not() -> None:
    report = Report({"gsm8k": 3}, {"livebench": "not to be had"}, {"gsm8k": "abc"})
    text = card(contamination=report)
    assert "gsm8k 3" in text
    assert "Not checked: livebench (not to be had)" in text
    assert "Not checked for contamination" not in text
    assert "switched off" in card()
    nothing = Report({}, {"gsm8k": "not to be had"}, {})
    assert "Not checked for contamination" in card(contamination=nothing)
    assert "gsm8k" in card(template=ZH, contamination=report)


def test_pictures_are_svg_and_the_same_for_the_same_rows() -> None:
    frame = rows("dpo", pair(), pair(chosen_reward=0.19))
    drawn = pictures("dpo", frame, recipe())
    assert set(drawn) == {"images/reward-gap.svg", "images/length.svg"}
    assert drawn == pictures("dpo", frame, recipe())
    assert 'class="window"' in drawn["images/reward-gap.svg"]
    for text in drawn.values():
        assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert pictures("sft", rows("sft", {"reward": None}), recipe()) == {}


def test_the_licence_file_names_every_source_and_no_name_breaks_it() -> None:
    text = license_file(rollup([("org/sums", "mit"), (NASTY, None)], [("org/model", "cc-by-nd-4.0")]))
    assert "- org/sums (corpus): MIT License" in text
    assert "## Forbids sharing" in text
    assert "<script>" not in text.replace("\\<script\\>", "")


# Stand-ins.


def test_without_stand_ins_nothing_warns() -> None:
    assert "stand-in" not in card().lower()


def test_stand_ins_take_a_line_for_each_thing_that_differs() -> None:
    differences = [
        ("corpora[org/sums].path", None, "/home/someone/folder/sums.jsonl"),
        ("corpora[org/sums].take", 500, None),
        ("corpora[org/other]", None, {"id": "org/other", "path": "/home/someone/other"}),
        ("source_models[org/big]", {"id": "org/big"}, None),
        ("reward.model", "org/big-reward", "org/reward"),
        ("seed", 1, 2),
    ]
    text = card(stand_ins=differences)
    assert [line.removeprefix("> - ") for line in text.splitlines() if line.startswith("> - ")] == [
        "corpus org/sums: path none → sums.jsonl; take 500 → none",
        "corpus org/other: added",
        "source model org/big: left out",
        "reward: model org/big-reward → org/reward",
        "seed: 1 → 2",
    ]
    assert "/home/someone" not in text
    assert "do not train a model that matters" in text


def test_an_embedded_corpus_keeps_its_whole_name() -> None:
    assert "path none → embedded:sums.jsonl" in card(stand_ins=[("corpora[a].path", None, "embedded:sums.jsonl")])


def test_pairs_that_noise_could_put_outside_the_window_are_counted() -> None:
    pairs = rows("dpo", {"chosen_reward": 0.1105}, {"chosen_reward": 0.15}, {"chosen_reward": 0.1995})
    text = card("dpo", pairs, reward_tolerance=0.001)
    assert "2 of 3 pairs lie within 0.002 of an end of the window" in text
    assert "of an end of the window" not in card("dpo", pairs)
    assert "of an end of the window" not in card("sft", reward_tolerance=0.001)


# Text that could break it.


@given(st.text())
def test_a_cell_never_ends_its_row_or_its_column(text: str) -> None:
    (line,) = f"|{cell(text)}|\n".splitlines()
    assert line.replace("\\|", "").count("|") == 2


@pytest.mark.parametrize(
    ("text", "shown"),
    [("org/a-b_c", "org/a-b_c"), ("a|b", "`a\\|b`"), ("a\nb", "a b"), ("a`b", "`` a`b ``"), ("<b>", "`<b>`")],
)
def test_a_cell_shows_as_code_what_markdown_could_read_into(text: str, shown: str) -> None:
    assert cell(text) == shown


def test_hostile_names_break_neither_tables_nor_front_matter() -> None:
    made = recipe(
        corpora=[{"id": NASTY, "prompt": "q", "answer": "a", "license": NASTY}], source_models=[{"id": NASTY + "m"}]
    )
    frame = rows("sft", {"corpus": NASTY, "source_model": NASTY + "m"})
    text = card(
        frame=frame, recipe=made, funnel=[(NASTY, "rows read", 1)], places=places((NASTY, True, False, NASTY, None))
    )
    assert all(len(row) == len(table[0]) for table in tables(text) for row in table)
    assert front_matter(text)["source_datasets"] == [NASTY]


# Numbers.


@pytest.mark.parametrize(
    ("count", "name"),
    [
        (1, "n<1K"),
        (999, "n<1K"),
        (1_000, "1K<n<10K"),
        (94_539, "10K<n<100K"),
        (158_667, "100K<n<1M"),
        (1_000_000, "1M<n<10M"),
        (10**9, "n>1B"),
    ],
)
def test_sizes_are_named_as_the_hub_names_them(count: int, name: str) -> None:
    assert size_category(count) == name


@given(st.lists(st.floats(-10, 10, width=32), min_size=1), st.integers(1, 12))
def test_bins_hold_every_value_once(values: list[float], count: int) -> None:
    found = bins(pl.Series(values, dtype=pl.Float64), count)
    assert sum(number for *_, number in found) == len(values)
    assert len(found) == (count if min(values) != max(values) else 1)


def test_the_highest_value_is_in_the_last_bin() -> None:
    assert bins(pl.Series([0.0, 0.1, 0.9, 1.0]), 2) == [("0.0000", "0.5000", 2), ("0.5000", "1.0000", 2)]
