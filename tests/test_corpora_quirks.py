"""What the corpora of the published method look like, and what becomes of their rows."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from conftest import write_corpus

from fusedata.collect.carried import Answers, carried
from fusedata.collect.locate import Located, locate
from fusedata.collect.prompts import Collected, collect
from fusedata.collect.protocol import CANDIDATES
from fusedata.collect.read import scan
from fusedata.collect.stage import locate_corpus, prompt_filters
from fusedata.config import validate
from fusedata.corpus import Corpus
from fusedata.errors import ConfigError, CorpusError
from fusedata.profile import Profile
from fusedata.recipe import ARMORM, Recipe, find_recipe, load_recipe
from fusedata.schema import prompt_id
from fusedata.texts.language import language
from fusedata.texts.topic import topic

HELPSTEER2 = {
    "prompt": "prompt",
    "turns": {"user": "\n<extra_id_1>User\n", "assistant": "\n<extra_id_1>Assistant\n"},
    "responses": {"column": "response", "source_model": "human"},
}
MAGPIE_DPO = {
    "prompt": "instruction",
    "topic": {"column": "task_category", "code": ["Coding & Debugging"], "math": ["Math"]},
    "responses": {
        "column": "responses",
        "source_model": "meta-llama/Meta-Llama-3-8B-Instruct",
        "reward": {"column": "rewards_armorm.score", "model": ARMORM},
    },
}
PRINCETON = {
    "prompt": "prompt",
    "responses": {
        "column": "all_generated_responses",
        "source_model": "meta-llama/Meta-Llama-3-8B-Instruct",
        "reward": {"column": "all_rm_scores", "model": ARMORM},
    },
}


def recipe(**corpus: object) -> Recipe:
    return validate(Recipe, {"name": "x", "corpora": [corpus], "source_models": [{"id": "test/model"}]}, "test")


def hub(shared: Path, name: str, **corpus: object) -> tuple[Recipe, Corpus, Located]:
    asked = recipe(id=name, **corpus)
    (found,) = asked.corpora
    return asked, found, locate(name, files=found.files, split=found.split, mirror=shared / "corpora" / "hub_layout")


def own(folder: Path, *rows: dict[str, Any], name: str = "c.jsonl", **corpus: object) -> tuple[Recipe, Corpus, Located]:
    if name.endswith(".parquet"):
        pl.DataFrame(rows).write_parquet(folder / name)
    else:
        write_corpus(folder / name, list(rows))
    asked = recipe(id="a/b", **corpus)
    return asked, asked.corpora[0], locate("a/b", files=(), split="train", path=folder / name)


def collected(asked: Recipe, corpus: Corpus, located: Located) -> Collected:
    return collect([(corpus, located)], asked)


def raw(located: Located, *columns: str) -> Iterator[dict[str, Any]]:
    for frame in scan(located, columns):
        yield from frame.iter_rows(named=True)


def answers(corpus: Corpus, located: Located, prompts: pl.DataFrame) -> Answers:
    assert corpus.responses
    found = list(carried(corpus, corpus.responses, located, prompts, corpus.responses.reward))
    return Answers(pl.concat([f.responses for f in found]), pl.concat([f.rewards for f in found]))


def funnel(found: Collected) -> dict[str, int]:
    return {what: count for _, what, count in found.funnel}


def texts(found: Collected) -> set[str]:
    return {turn["content"] for turns in found.prompts["messages"] for turn in turns}


@pytest.mark.parametrize("name", ["instruction", "chinese"])
def test_a_shipped_recipe_reads_and_filters_the_real_files_of_its_corpora(shared: Path, name: str):
    asked = load_recipe(find_recipe(name))
    profile = Profile(name="p", corpora=str(shared / "corpora" / "hub_layout"))
    located = [(corpus, locate_corpus(corpus, profile)) for corpus in asked.corpora]
    found = collect(located, asked, prompt_filters(asked, None, []))
    for corpus in asked.corpora:
        counts = {what: count for name, what, count in found.funnel if name == corpus.id}
        assert counts.pop("rows read") == sum(counts.values())
        assert counts["prompts"] > 20
    assert found.prompts["chars"].max() <= (asked.filters.max_chars or 0)
    unlabelled = {corpus.id for corpus in asked.corpora if corpus.topic is None}
    for corpus, turns in found.prompts.select("corpus", "messages").iter_rows():
        said = "\n\n".join(turn["content"] for turn in turns if turn["role"] == "user")
        assert language(said) in {*asked.languages, None}
        assert corpus not in unlabelled or topic(said).topic == "other"
    assert {"topic code", "topic math"} & set(found.dropped["reason"])


def test_a_near_duplicate_in_another_corpus_is_dropped_and_names_the_first(tmp_path: Path):
    story = "A farmer has seventeen sheep and sells all but nine of them at the market on a cold day"
    texts = ([story, "Where do birds sleep at night?"], [f"{story} in March", "Why is the sea salty, and rivers not?"])
    paths = [write_corpus(tmp_path / f"{n}.jsonl", [{"q": text} for text in each]) for n, each in enumerate(texts)]
    corpora = [{"id": f"test/{n}", "path": str(path), "prompt": "q"} for n, path in enumerate(paths)]
    data = {"name": "x", "corpora": corpora, "source_models": [{"id": "test/model"}]}
    asked = validate(Recipe, {**data, "filters": {"near_duplicates": 0.7}}, "test")
    located = [(corpus, locate_corpus(corpus, Profile(name="p"))) for corpus in asked.corpora]
    found = collect(located, asked, prompt_filters(asked, None, []))
    assert found.prompts.height == 3
    (dropped,) = found.dropped.select("corpus", "reason", "detail").iter_rows()
    assert dropped[:2] == ("test/1", "near duplicate")
    assert dropped[2].endswith(f" of {prompt_id([{'role': 'user', 'content': story}])}")


def test_helpsteer2s_paired_rows_are_one_prompt_with_two_answers(shared: Path):
    asked, corpus, located = hub(shared, "nvidia/HelpSteer2", **HELPSTEER2)
    found = collected(asked, corpus, located)
    distinct = {row["prompt"].strip() for row in raw(located, "prompt")}
    assert found.prompts.height == len(distinct) < found.funnel[0][2]
    held = answers(corpus, located, found.prompts).responses
    pairs = {(row["prompt"].strip(), row["response"].strip()) for row in raw(located, "prompt", "response")}
    assert held.height == len({pair for pair in pairs if pair[1]})
    assert held.filter(prompt_id=prompt_id([{"role": "user", "content": "c#"}])).height >= 1


def test_helpsteer2s_marks_become_turns_that_end_with_the_user(shared: Path):
    asked, corpus, located = hub(shared, "nvidia/HelpSteer2", **HELPSTEER2)
    prompts = collected(asked, corpus, located).prompts
    marked = {row["prompt"].count("<extra_id_1>Assistant") for row in raw(located, "prompt")}
    assert {len(turns) for turns in prompts["messages"]} == {2 * number + 1 for number in marked} != {1}
    for turns in prompts["messages"].to_list():
        assert [turn["role"] for turn in turns] == [("user", "assistant")[n % 2] for n in range(len(turns))]
        assert all("<extra_id_1>" not in turn["content"] for turn in turns)
    assert prompts["chars"].to_list() == [sum(len(t["content"]) for t in turns) for turns in prompts["messages"]]


def test_ultrafeedback_gives_its_instructions_alone_and_ratings_as_text_are_numbers(shared: Path):
    """`custom_system_prompt` belongs to each completion, not to the prompt: the models were told different things."""
    rating = "completions.annotations.helpfulness.Rating"
    asked, corpus, located = hub(
        shared, "openbmb/UltraFeedback", prompt="instruction", files=["*.jsonl"], at_least={rating: 5}
    )
    found = collected(asked, corpus, located)
    rated = [row for row in raw(located, "instruction", rating) if "5" in (row[rating] or ())]
    assert texts(found) == {row["instruction"].strip() for row in rated}
    assert funnel(found)[f"at_least {rating} (rows)"] == funnel(found)["rows read"] - len(rated) > 0
    assert all(len(turns) == 1 for turns in found.prompts["messages"])


@pytest.mark.parametrize(
    "name", ["Magpie-Align/Magpie-Pro-DPO-100K-v0.1", "Magpie-Align/Magpie-Llama-3.1-Pro-DPO-100K-v0.1"]
)
def test_magpies_scores_go_with_their_responses(shared: Path, name: str):
    asked, corpus, located = hub(shared, name, **MAGPIE_DPO)
    prompts = collected(asked, corpus, located).prompts
    held = answers(corpus, located, prompts)
    columns = ("instruction", "responses", "rewards_armorm.score")
    first = next(raw(located, *columns))
    key = prompt_id([{"role": "user", "content": first["instruction"]}])
    rows = held.responses.filter(prompt_id=key).join(held.rewards, on=["prompt_id", "sample", "text_id"])
    assert rows["text"].to_list() == first["responses"]
    assert rows["reward"].to_list() == first["rewards_armorm.score"]
    assert set(held.rewards["reward_model"]) == {ARMORM}


def topics_seen(asked: Recipe, corpus: Corpus, located: Located) -> dict[str, str | None]:
    """What filters are told of each prompt."""
    seen: dict[str, str | None] = {}

    def look(prompts: pl.DataFrame) -> pl.DataFrame:
        assert {name: prompts.schema[name] for name in CANDIDATES} == dict(CANDIDATES)
        seen.update(prompts.select("text", "topic").iter_rows())
        return pl.DataFrame({"reason": [None] * prompts.height, "detail": [None] * prompts.height})

    collect([(corpus, located)], asked, [look])
    return seen


def test_a_topic_is_null_without_a_label_and_a_list_of_labels_counts_any(tmp_path: Path):
    labels = {"a": ["x", "c"], "b": ["m"], "c": ["x"], "d": [], "e": None, "f": [" "]}
    rows = [{"q": text, "t": label} for text, label in labels.items()]
    topic = {"column": "t", "code": ["c"], "math": ["m"]}
    expected = {"a": "code", "b": "math", "c": "other", "d": None, "e": None, "f": None}
    assert topics_seen(*own(tmp_path, *rows, prompt="q", topic=topic)) == expected
    rows = [{"q": text, "t": label[0] if label else None} for text, label in labels.items()]
    rows += [{"q": "b", "t": "c"}, {"q": "c", "t": None}]  # of several labels, code goes first and none last
    assert topics_seen(*own(tmp_path, *rows, prompt="q", topic=topic)) == {**expected, "a": "other", "b": "code"}


def test_magpies_labels_are_topics(shared: Path):
    asked, corpus, located = hub(shared, "Magpie-Align/Magpie-Pro-DPO-100K-v0.1", **MAGPIE_DPO)
    seen = topics_seen(asked, corpus, located)
    topics = {"Coding & Debugging": "code", "Math": "math"}
    labels = {row["instruction"].strip(): row["task_category"] for row in raw(located, "instruction", "task_category")}
    assert seen == {text: topics.get(label, "other") if label else None for text, label in labels.items()}


def test_magpies_chinese_shards_are_read_as_conversations_and_by_their_reward(shared: Path):
    name = "Magpie-Align/Magpie-Qwen2-Pro-200K-Chinese"
    limits = {"at_least": {"instruct_reward": -5}, "where": {"language": ["ZH"]}, "where_not": {"llama_guard_2": ["x"]}}
    asked, corpus, located = hub(shared, name, prompt="conversations", **limits)
    assert len(located.names) == 2
    found = collected(asked, corpus, located)
    good = {
        r["instruction"].strip() for r in raw(located, "instruction", "instruct_reward") if r["instruct_reward"] >= -5
    }
    assert texts(found) == good
    as_text = collected(*hub(shared, name, prompt="instruction", **limits))
    assert found.prompts.equals(as_text.prompts)


def test_alpacas_input_goes_on_with_the_instruction(shared: Path):
    asked, corpus, located = hub(
        shared, "llamafactory/alpaca_gpt4_zh", files=["*.json"], prompt="instruction", input="input"
    )
    rows = list(raw(located, "instruction", "input"))
    joined = {f"{r['instruction'].strip()}\n\n{r['input'].strip()}".strip() for r in rows}
    assert texts(collected(asked, corpus, located)) == joined
    assert any(r["input"].strip() for r in rows)


def test_princetons_lists_of_responses_and_scores_are_read(shared: Path):
    asked, corpus, located = hub(shared, "princeton-nlp/llama3-ultrafeedback-armorm", **PRINCETON)
    prompts = collected(asked, corpus, located).prompts
    held = answers(corpus, located, prompts)
    assert held.rewards.height == held.responses.height > 4 * prompts.height
    best = held.rewards.group_by("prompt_id").agg(pl.col("reward").max()).sort("prompt_id")["reward"].to_list()
    scores = {}
    for row in raw(located, "prompt", "all_rm_scores"):
        key = prompt_id([{"role": "user", "content": row["prompt"]}])
        scores[key] = max(row["all_rm_scores"] + [scores.get(key, -1.0)])
    assert best == [scores[key] for key in sorted(scores)]


@pytest.mark.parametrize("name", ["c.jsonl", "c.parquet"])
def test_older_names_of_columns_are_read_where_the_newer_are_not_there(tmp_path: Path, name: str):
    older = {"instruction": ["input"], "response": ["output"], "uuid": ["conversation_id"], "score": ["old"]}
    row = {"input": "Why?", "output": "So.", "conversation_id": "1", "old": {"deep": 3}, "score": {"deep": 9}}
    more = {"at_least": {"score.deep": 5}, "responses": {"column": "response", "source_model": "m"}}
    asked, corpus, located = own(tmp_path, row, name=name, prompt="instruction", older_names=older, **more)
    found = collected(asked, corpus, located)
    assert texts(found) == {"Why?"}
    assert answers(corpus, located, found.prompts).responses["text"].to_list() == ["So."]
    newer = {"instruction": "New?", "input": "Old?"}
    assert texts(collected(*own(tmp_path, newer, name=name, prompt="instruction", older_names=older))) == {"New?"}
    with pytest.raises(CorpusError, match="there is no column 'instruction'"):
        collected(*own(tmp_path, {"x": "Why?"}, name=name, prompt="instruction", older_names=older))


def turn(role: str, content: str | None) -> dict[str, str | None]:
    return {"role": role, "content": content}


USER, REPLY, MORE = turn("user", "Hi"), turn("assistant", "Hello."), turn("user", " And now? ")


@pytest.mark.parametrize("name", ["c.jsonl", "c.parquet"])
@pytest.mark.parametrize(
    ("turns", "kept"),
    [
        ([USER], [USER]),
        ([USER, REPLY], [USER]),
        ([USER, REPLY, MORE, REPLY], [USER, REPLY, turn("user", "And now?")]),
        ([turn("system", "Be brief."), USER, REPLY], [turn("system", "Be brief."), USER]),
        ([turn("system", ""), USER], [USER]),
        ([USER, MORE], [turn("user", "Hi\n\nAnd now?")]),
        ([USER, REPLY, REPLY, MORE], [USER, turn("assistant", "Hello.\n\nHello."), turn("user", "And now?")]),
        ([REPLY, USER], "turns out of order (rows)"),
        ([USER, turn("tool", "{}"), MORE], "turns out of order (rows)"),
        ([USER, turn("system", "Late."), MORE], "turns out of order (rows)"),
        ([USER, turn("assistant", " "), MORE], "turns out of order (rows)"),
        ([USER, REPLY, turn("user", "\n")], "empty prompt (rows)"),
        ([turn("system", "Be brief."), REPLY], "empty prompt (rows)"),
        ([turn("user", None)], "empty prompt (rows)"),
    ],
)
def test_a_conversation_is_a_prompt_up_to_the_users_last_turn(
    tmp_path: Path, name: str, turns: list[dict[str, str]], kept: list[dict[str, str]] | str
):
    rows: list[dict[str, Any]] = [{"c": turns}, {"c": [USER, turn("assistant", "Another row."), USER]}]
    found = collected(*own(tmp_path, *rows, name=name, prompt="c"))
    others = [row for row in found.prompts["messages"].to_list() if "Another row." not in json.dumps(row)]
    if isinstance(kept, str):
        assert others == []
        assert funnel(found)[kept] == 1
    else:
        assert others == [kept]


def test_from_and_value_say_the_same_as_role_and_content(tmp_path: Path):
    roles = {"user": "human", "assistant": "gpt", "system": "system"}
    conversation: list[Mapping[str, str | None]] = [turn("system", "Be brief."), USER, REPLY, MORE, REPLY]
    other = [{"from": roles[str(t["role"])], "value": t["content"]} for t in conversation]
    ours = collected(*own(tmp_path, {"c": conversation}, prompt="c"))
    assert collected(*own(tmp_path, {"c": other}, prompt="c")).prompts.equals(ours.prompts)
    assert len(ours.prompts["messages"][0]) == 4


def test_a_system_prompt_goes_before_the_turns_where_it_is_not_blank(tmp_path: Path):
    rows = [{"s": " Be brief. ", "q": "Hi"}, {"s": " ", "q": "Hi"}, {"s": None, "q": "Ho"}]
    found = collected(*own(tmp_path, *rows, prompt="q", system="s"))
    said = [[(t["role"], t["content"]) for t in turns] for turns in found.prompts["messages"].to_list()]
    assert sorted(said) == [[("system", "Be brief."), ("user", "Hi")], [("user", "Hi")], [("user", "Ho")]]


def test_a_prompt_of_one_turn_is_the_same_prompt_in_any_form(tmp_path: Path):
    plain = collected(*own(tmp_path, {"q": "Hi"}, prompt="q"))
    marks = {"user": "<U>", "assistant": "<A>"}
    for found in (
        collected(*own(tmp_path, {"q": [USER, REPLY]}, prompt="q")),
        collected(*own(tmp_path, {"q": "Hi<A>Hello."}, prompt="q", turns=marks)),
        collected(*own(tmp_path, {"q": "Hi", "s": ""}, prompt="q", system="s")),
        collected(*own(tmp_path, {"q": " Hi", "s": " "}, prompt="q", input="s")),
    ):
        assert found.prompts["prompt_id"].to_list() == plain.prompts["prompt_id"].to_list()


def test_a_prompt_that_looks_like_json_is_text(tmp_path: Path):
    text = '[["user","Hi"]]'
    found = collected(*own(tmp_path, {"q": text}, {"q": "Hi"}, prompt="q"))
    assert texts(found) == {text, "Hi"}


@pytest.mark.parametrize("name", ["c.jsonl", "c.parquet"])
def test_conditions_count_numbers_texts_and_elements_of_lists_but_never_null(tmp_path: Path, name: str):
    rows = [
        {"q": "a", "n": 2.0, "t": "4", "l": ["1", "5"], "w": ["x"]},
        {"q": "b", "n": 0.5, "t": "4", "l": ["5"], "w": ["x"]},
        {"q": "c", "n": None, "t": "4", "l": ["5"], "w": ["x"]},
        {"q": "d", "n": float("nan") if name == "c.parquet" else None, "t": "4", "l": ["5"], "w": ["x"]},
        {"q": "e", "n": 2.0, "t": "N/A", "l": ["5"], "w": ["x"]},
        {"q": "f", "n": 2.0, "t": "nan", "l": ["5"], "w": ["x"]},
        {"q": "g", "n": 2.0, "t": " 4.0 ", "l": ["N/A", "4"], "w": ["x"]},
        {"q": "h", "n": 2.0, "t": "4", "l": [], "w": ["x"]},
        {"q": "i", "n": 2.0, "t": "4", "l": None, "w": ["x"]},
        {"q": "j", "n": 2.0, "t": "4", "l": ["5"], "w": ["x", "y"]},
        {"q": "k", "n": 2.0, "t": "4", "l": ["5"], "w": None},
        {"q": "l", "n": 7.0, "t": "4", "l": ["5"], "w": ["x"]},
    ]
    limits = {"at_least": {"n": 1, "t": 4, "l": 5}, "at_most": {"n": 3}, "where_not": {"w": ["y"]}}
    found = collected(*own(tmp_path, *rows, name=name, prompt="q", **limits))
    assert texts(found) == {"a", "k"}
    assert funnel(found) == {
        "rows read": 12,
        "where_not w (rows)": 1,
        "at_least n (rows)": 3,
        "at_least t (rows)": 2,
        "at_least l (rows)": 3,
        "at_most n (rows)": 1,
        "prompts": 2,
    }


def test_rewards_that_cannot_be_told_apart_or_are_no_numbers_are_none(tmp_path: Path):
    rows = [
        {"q": "a", "r": ["one", "two"], "s": [0.1, 0.2]},
        {"q": "b", "r": ["one", "two"], "s": [0.1]},
        {"q": "c", "r": ["one", " ", "one", "two"], "s": [0.1, 0.2, 0.3, None]},
        {"q": "d", "r": ["one", "two"], "s": None},
        {"q": "e", "r": ["one", None], "s": [float("nan"), 0.5]},
        {"q": "f", "r": None, "s": [0.5]},
    ]
    held = {"column": "r", "source_model": "m", "reward": {"column": "s", "model": "judge"}}
    asked, corpus, located = own(tmp_path, *rows, name="c.parquet", prompt="q", responses=held)
    prompts = collected(asked, corpus, located).prompts
    found = answers(corpus, located, prompts)
    names = {row["prompt_id"]: row["messages"][0]["content"] for row in prompts.iter_rows(named=True)}
    rewards = {(names[key], sample): reward for key, _, sample, _, _, reward, *_ in found.rewards.iter_rows()}
    assert rewards == {("a", 0): 0.1, ("a", 1): 0.2, ("c", 0): 0.1}
    assert sorted((names[key], sample) for key, _, sample, *_ in found.responses.iter_rows()) == [
        ("a", 0), ("a", 1), ("b", 0), ("b", 1), ("c", 0), ("c", 1), ("d", 0), ("d", 1), ("e", 0),
    ]  # fmt: skip


def test_a_carried_conversation_gives_what_the_assistant_says_last(tmp_path: Path):
    rows = [{"q": "Hi", "c": [USER, REPLY]}, {"q": "Ho", "c": [USER]}]
    asked, corpus, located = own(tmp_path, *rows, prompt="q", responses={"column": "c", "source_model": "m"})
    found = answers(corpus, located, collected(asked, corpus, located).prompts)
    assert found.responses["text"].to_list() == ["Hello."]


@pytest.mark.parametrize(
    ("corpus", "told"),
    [
        ({"prompt": "l"}, "its column 'l' holds .*, not text"),
        ({"prompt": "c", "input": "q"}, "its column 'c' holds .*, not text"),
        ({"prompt": "q", "system": "n"}, "its column 'n' holds Int64, not text"),
        ({"prompt": "q", "input": "n"}, "its column 'n' holds Int64, not text"),
        ({"prompt": "q", "at_least": {"c": 1}}, "its column 'c' holds .*which no number or value compares with"),
        ({"prompt": "q", "where": {"ll": ["1"]}}, "its column 'll' holds .*which no number or value compares with"),
    ],
)
def test_a_column_whose_type_does_not_fit_its_role_is_told(tmp_path: Path, corpus: dict[str, Any], told: str):
    row = {"q": "Hi", "c": [USER], "l": ["x"], "ll": [["1"]], "n": 1}
    with pytest.raises(CorpusError, match=told):
        collected(*own(tmp_path, row, **corpus))


def test_rewards_that_are_text_are_refused(tmp_path: Path):
    held = {"column": "r", "source_model": "m", "reward": {"column": "s", "model": "judge"}}
    asked, corpus, located = own(tmp_path, {"q": "Hi", "r": "x", "s": "good"}, prompt="q", responses=held)
    with pytest.raises(CorpusError, match="its column 's' holds String, not numbers"):
        answers(corpus, located, collected(asked, corpus, located).prompts)


def test_unit_tests_go_with_prompts_of_one_text(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"corpora\[0\]\.tests: goes with prompts that are one text"):
        own(tmp_path, {"q": "x"}, prompt="q", system="s", tests={"form": "asserts", "column": "t"})
