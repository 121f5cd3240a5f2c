"""Recipes: what a TOML file may say, and one line for each thing that it says wrong."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fusedata.config import Model, load
from fusedata.corpus import Carried, Corpus
from fusedata.errors import ConfigError
from fusedata.recipe import Recipe, SourceModel, find_recipe, load_recipe, shipped_recipes

HEAD = '[[corpora]]\nid = "a/b"\nprompt = "question"\n'
NAMED = "name: takes letters, digits and . _ - only, and begins with a letter or digit"
TAIL = '[[source_models]]\nid = "m/1"\n'


def mistakes(folder: Path, text: str, name: str = "mine.toml") -> list[str]:
    """What is wrong with a recipe, a line each, without the file that each line begins with."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        load_recipe(path)
    lines = str(refused.value).splitlines()
    assert all(line.startswith(f"{path}: ") and line.endswith(".") for line in lines)
    return [line.removeprefix(f"{path}: ") for line in lines]


def read(folder: Path, text: str, name: str = "mine.toml") -> Recipe:
    (folder / name).write_text(text, encoding="utf-8")
    return load_recipe(folder / name)


# --- every mistake, at once -----------------------------------------------------------------------------------


def test_every_mistake_is_told_at_once_with_its_key_in_order_of_the_file(tmp_path):
    text = """
        name = "my recipe"
        languages = "en"
        seed = "42"
        limit = 1.0
        colour = "red"
        [[corpora]]
        id = 3
        prompt = ""
        take = true
        where = { kind = "x", level = [1] }
        files = []
        [[corpora]]
        sampled = 1
        "my key" = 1
        [[source_models]]
        id = "m"
        samples = 0
        temperature = "0.7"
        top_p = nan
        repetition_penalty = inf
        max_tokens = 1.5
        [correctness]
        check = "maths"
        [reward]
        model = 2024-01-01
        [dpo]
        reward_gap = [0.1, 0.01]
        same_source_model = "yes"
        [split]
        order = "rows"
        sft = 2
        test = 1
    """
    assert mistakes(tmp_path, text) == [
        f'{NAMED} (found "my recipe"; a file without a `name` is named after the file).',
        'languages: must be an array, in square brackets (found "en").',
        'seed: must be a whole number (found "42").',
        "limit: must be a whole number (found 1.0).",
        "colour: unknown key: check its spelling, or take it out.",
        "corpora[0].id: must be a string, in quotes (found 3).",
        "corpora[0].prompt: must not be empty.",
        "corpora[0].take: must be a whole number (found true).",
        'corpora[0].where.kind: must be an array, in square brackets (found "x").',
        "corpora[0].where.level[0]: must be a string, in quotes (found 1).",
        "corpora[0].answer: is missing: [correctness] needs the column of the gold answers.",
        "corpora[1].sampled: must be true or false (found 1).",
        'corpora[1]."my key": unknown key: check its spelling, or take it out.',
        "corpora[1].id: is missing.",
        "corpora[1].prompt: is missing.",
        "corpora[1].answer: is missing: [correctness] needs the column of the gold answers.",
        "source_models[0].samples: must be greater than 0 (found 0).",
        'source_models[0].temperature: must be a number (found "0.7").',
        "source_models[0].top_p: must be a finite number (found nan).",
        "source_models[0].repetition_penalty: must be a finite number (found inf).",
        "source_models[0].max_tokens: must be a whole number (found 1.5).",
        "correctness.check: must be 'math_answer' or 'unit_tests' (found \"maths\").",
        "reward.model: must be a string, in quotes (found 2024-01-01).",
        "dpo.reward_gap: [0.1, 0.01] has its ends swapped: write [0.01, 0.1].",
        'dpo.same_source_model: must be true or false (found "yes").',
        "split.order: must be 'pairs_first', 'ratio', 'random' or 'shared' (found \"rows\").",
        "split.sft: must be at most 1.0 (found 2).",
        "split.test: must be less than 1.0 (found 1).",
    ]


def test_a_wrong_value_hides_no_mistake_between_tables(tmp_path):
    text = HEAD + "take = -1\n" + HEAD + "[correctness]\nx = 1\n[dpo]\ny = 1\n"
    told = mistakes(tmp_path, text)
    assert "corpora[0].take: must be greater than 0 (found -1)." in told
    assert "corpora[1].id: a/b stands twice: give one of them another id." in told
    assert sum("nobody answers it" in line for line in told) == 2
    assert sum("needs the column of the gold answers" in line for line in told) == 2
    assert "dpo: ranks by reward: add a [reward] table with a model." in told
    assert "correctness.check: is missing." in told
    assert "dpo.y: unknown key: check its spelling, or take it out." in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ["corpora: is missing."]),
        ("corpora = []", ["corpora: must not be empty."]),
        ("corpora = 3", ["corpora: must be an array, in square brackets (found 3)."]),
        ("corpora = [3]", ["corpora[0]: must be a table (found 3)."]),
        (
            '[corpora]\nid = "a/b"',
            ["corpora: must be an array of tables: write its name in double brackets, [[…]] (found a table)."],
        ),
        (
            HEAD + "license = [1, 2]\n" + TAIL,
            ["corpora[0].license: must be a string, in quotes (found an array of 2)."],
        ),
        (HEAD + "license = {}\n" + TAIL, ["corpora[0].license: must be a string, in quotes (found a table)."]),
        (HEAD + "where = 1\n" + TAIL, ["corpora[0].where: must be a table (found 1)."]),
        (HEAD + "where = { a = [] }\n" + TAIL, ["corpora[0].where.a: must not be empty."]),
        (HEAD + "responses = 'x'\n" + TAIL, ['corpora[0].responses: must be a table (found "x").']),
        (HEAD + f"take = {2**31}\n" + TAIL, [f"corpora[0].take: must be less than {2**31} (found {2**31})."]),
        (f"seed = {2**63}\n" + HEAD + TAIL, [f"seed: must be less than {2**63} (found {2**63})."]),
        (f"seed = -{2**63 + 1}\n" + HEAD + TAIL, [f"seed: must be at least -{2**63} (found -{2**63 + 1})."]),
        (HEAD + TAIL + "top_p = 0\n", ["source_models[0].top_p: must be greater than 0.0 (found 0)."]),
        ("name = '" + "x" * 65 + "'\n" + HEAD + TAIL, [f'name: must have at most 64 characters (found "{"x" * 65}").']),
    ],
)
def test_a_wrong_type_or_range_is_told_in_the_words_of_toml(tmp_path, text, told):
    assert mistakes(tmp_path, text) == told


@pytest.mark.parametrize("reward", ["", '[reward]\nmodel = "r"\n'])
@pytest.mark.parametrize(
    ("gap", "told"),
    [
        ("[0.2, 0.1]", ["[0.2, 0.1] has its ends swapped: write [0.1, 0.2]."]),
        ("0.1", ["must be an array, in square brackets (found 0.1)."]),
        ("[0.1]", ["[1]: is missing."]),
        ("[0, 1, 2]", ["must hold at most 2 entries (found an array of 3)."]),
        ('["a", nan]', ['[0]: must be a number (found "a").', "[1]: must be a finite number (found nan)."]),
        ("[-inf, 0]", ["[0]: must be a finite number (found -inf)."]),
        ("[true, 1]", ["[0]: must be a number (found true)."]),
    ],
)
def test_a_wrong_gap_is_told_with_or_without_its_reward_model(tmp_path, reward, gap, told):
    found = mistakes(tmp_path, HEAD + TAIL + reward + f'[dpo]\nreward_gap = {gap}\nreward_gap_model = "r"\n')
    assert [line for line in found if "reward_gap" in line] == [
        f"dpo.reward_gap{line}" if line.startswith("[") and "]: " in line[:5] else f"dpo.reward_gap: {line}"
        for line in told
    ]


def test_a_gap_of_one_number_and_whole_numbers_are_allowed(tmp_path):
    recipe = read(tmp_path, HEAD + TAIL + '[reward]\nmodel = "r"\n[dpo]\nreward_gap = [1, 1]\nreward_gap_model = "r"\n')
    assert recipe.dpo.reward_gap == (1.0, 1.0)
    assert all(type(end) is float for end in recipe.dpo.reward_gap)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (HEAD + HEAD + TAIL, ["corpora[1].id: a/b stands twice: give one of them another id."]),
        (HEAD + TAIL + TAIL, ["source_models[1].id: m/1 stands twice: raise its `samples` instead."]),
        (
            HEAD + 'responses = { column = "r", source_model = "m/1" }\n' + TAIL,
            ["source_models[0].id: m/1 also wrote carried responses: their rows could not be told apart."],
        ),
        (HEAD, ["corpora[0]: nobody answers it: name source_models, or the `responses` that it carries."]),
        (HEAD + "sampled = false\n" + TAIL, ["corpora[0].sampled: false needs carried responses: add a `responses` table."]),
        (
            HEAD + TAIL + '[correctness]\ncheck = "math_answer"\n',
            ["corpora[0].answer: is missing: [correctness] needs the column of the gold answers."],
        ),
        (HEAD + TAIL + "[dpo]\n", ["dpo: ranks by reward: add a [reward] table with a model."]),
        (
            HEAD + TAIL + '[split]\norder = "ratio"\n',
            ['split.sft: order = "ratio" needs it: the share of prompts with a pair that feed SFT.'],
        ),
        (
            HEAD + TAIL + "[split]\nsft = 0.4\n",
            ['split.sft: goes with order = "ratio" or "random" only (the order is "pairs_first").'],
        ),
    ],
)  # fmt: skip
def test_tables_that_do_not_fit_each_other_are_told(tmp_path, text, told):
    assert mistakes(tmp_path, text) == told


def test_a_recipe_made_in_python_is_held_to_the_same_rules():
    corpus = Corpus(id="a/b", prompt="q")
    with pytest.raises(ValidationError, match="stands twice"):
        Recipe(name="x", corpora=(corpus, corpus), source_models=(SourceModel(id="m"),))
    with pytest.raises(ValidationError, match="nobody answers it"):
        Recipe(name="x", corpora=(corpus,))
    carried = Corpus(id="c", prompt="q", responses=Carried(column="r", source_model="m"))
    with pytest.raises(ValidationError, match="also wrote carried responses"):
        Recipe(name="x", corpora=(carried,), source_models=(SourceModel(id="m"),))
    made = Recipe(name="x", corpora=(corpus, carried), source_models=(SourceModel(id="n"),))
    assert Recipe.model_validate(made) is made


def test_a_value_is_shown_on_one_line_and_cut(tmp_path):
    (line,) = mistakes(tmp_path, HEAD + TAIL + '[split]\norder = """' + "a\nb" * 100 + '"""\n')
    assert '(found "a\\nba\\nb' in line
    assert line.endswith("…).")
    assert len(line) < 200


# --- files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"a = 1\na = 2\n", "is not valid TOML: Cannot overwrite a value (at line 2, column "),
        (b"x = [1\n", "is not valid TOML: Unclosed array"),
        (b"a = 1\nb = '\xff'\n", "line 2 is not UTF-8: save the file in that encoding."),
        ("a = 'ü'".encode("utf-16"), "line 1 is not UTF-8: save the file in that encoding."),
        (b"x = " + b"[" * 5_000, "is nested too deeply to be read."),
        (b".".join([b"a"] * 5_000) + b" = 1\n", "is nested too deeply to be read."),
    ],
)
def test_a_file_that_is_no_toml_is_refused(tmp_path, data, told):
    path = tmp_path / "mine.toml"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as refused:
        load_recipe(path)
    assert str(refused.value).startswith(f"{path}: {told}")
    assert str(refused.value).endswith(".")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path, reason in ((tmp_path / "x.toml", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError) as refused:
            load_recipe(path)
        assert str(refused.value) == f"{path}: cannot be read ({reason})."


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path):
    (tmp_path / "mine.toml").write_bytes(b"\xef\xbb\xbf" + (HEAD + TAIL).replace("\n", "\r\n").encode())
    assert load_recipe(tmp_path / "mine.toml").corpora[0].id == "a/b"


def test_a_recipe_without_a_name_is_named_after_its_file(tmp_path):
    assert read(tmp_path, HEAD + TAIL, "algebra-2.toml").name == "algebra-2"
    assert read(tmp_path, 'name = "sums"\n' + HEAD + TAIL).name == "sums"
    (line,) = mistakes(tmp_path, HEAD + TAIL, "my recipe.toml")
    assert 'found "my recipe"; a file without a `name` is named after the file' in line


def test_relative_corpus_paths_are_taken_from_the_recipes_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    paths = {
        "data/x.jsonl": str(tmp_path / "mine" / "data" / "x.jsonl"),
        "../x": str(tmp_path / "x"),
        "~/x": str(tmp_path / "home" / "x"),
        "~nobody-of-this-name/x": str(tmp_path / "mine" / "~nobody-of-this-name" / "x"),
        "/data/x": "/data/x",
        "embedded:x.jsonl": "embedded:x.jsonl",
    }
    text = "".join(f'[[corpora]]\nid = "{i}"\nprompt = "p"\npath = "{path}"\n' for i, path in enumerate(paths))
    (tmp_path / "mine").mkdir()
    recipe = read(tmp_path / "mine", text + '[[corpora]]\nid = "hub"\nprompt = "p"\n' + TAIL)
    assert [corpus.path for corpus in recipe.corpora] == [*paths.values(), None]


# --- finding --------------------------------------------------------------------------------------------------


def test_a_recipe_is_found_by_name_or_by_path(tmp_path):
    assert find_recipe("math") == shipped_recipes()["math"]
    (tmp_path / "mine.toml").touch()
    assert find_recipe(str(tmp_path / "mine.toml")) == tmp_path / "mine.toml"


@pytest.mark.parametrize("name", ["maths", "recipes/mine", "mine.yaml", ""])
def test_an_unknown_recipe_is_refused_with_those_that_there_are(name):
    with pytest.raises(ConfigError) as refused:
        find_recipe(name)
    assert (
        str(refused.value)
        == f"{name}: unknown recipe; there are {', '.join(shipped_recipes())}, or give the path of a .toml file."
    )


@pytest.mark.parametrize("name", ["mine.toml", "x/mine.toml", "x" * 300 + ".toml"])
def test_a_recipe_file_that_is_not_there_is_refused(tmp_path, name):
    with pytest.raises(ConfigError) as refused:
        find_recipe(str(tmp_path / name))
    assert str(refused.value) == f"{tmp_path / name}: no such recipe file."


# --- what ships -----------------------------------------------------------------------------------------------


def test_every_shipped_recipe_loads_under_its_files_name():
    assert "math" in shipped_recipes()
    for name, path in shipped_recipes().items():
        assert load_recipe(path).name == name


def test_the_math_recipe_states_the_published_method():
    recipe = load_recipe(find_recipe("math"))
    (corpus,), (model,) = recipe.corpora, recipe.source_models
    assert (corpus.id, corpus.modelscope) == ("nvidia/OpenMathInstruct-2", "AI-ModelScope/OpenMathInstruct-2")
    assert (corpus.split, corpus.prompt, corpus.answer) == ("train", "problem", "expected_answer")
    assert (corpus.take, corpus.sampled, corpus.path) == (58_546, True, None)
    assert corpus.responses.source_model == "meta-llama/Llama-3.1-405B-Instruct"
    assert corpus.responses.column == "generated_solution"
    assert model.id == "Qwen/Qwen2.5-Math-72B-Instruct"
    assert (model.temperature, model.top_p, model.repetition_penalty) == (0.7, 0.8, 1.05)
    assert (model.samples, model.max_tokens) == (5, 4096)
    assert recipe.correctness.check == "math_answer"
    assert recipe.reward.model == "RLHFlow/ArmoRM-Llama3-8B-v0.1"
    assert (recipe.dpo.same_source_model, recipe.dpo.reward_gap) == (True, (0.01, 0.1))
    assert (recipe.split.order, recipe.split.sft, recipe.split.test) == ("pairs_first", None, 0.02)
    assert (recipe.languages, recipe.limit) == (("en",), None)


SAMPLING = {
    "google/gemma-2-27b-it": (5, 0.8, 0.95, 1.0),
    "mistralai/Mistral-Large-Instruct-2407": (5, 0.8, 0.95, 1.0),
    "Qwen/Qwen2.5-72B-Instruct": (5, 0.7, 0.8, 1.05),
    "meta-llama/Llama-3.1-70B-Instruct": (5, 0.8, 0.95, 1.0),
}


def sampling(recipe):
    return {m.id: (m.samples, m.temperature, m.top_p, m.repetition_penalty) for m in recipe.source_models}


def test_the_instruction_recipe_states_the_published_method():
    recipe = load_recipe(find_recipe("instruction"))
    ids = ["openbmb/UltraFeedback", "Magpie-Align/Magpie-Pro-DPO-100K-v0.1", "nvidia/HelpSteer2"]
    assert [corpus.id for corpus in recipe.corpora] == ids
    assert [(corpus.take, corpus.responses) for corpus in recipe.corpora] == [(None, None)] * 3
    assert sampling(recipe) == SAMPLING
    assert recipe.correctness is None
    assert recipe.reward.model == "RLHFlow/ArmoRM-Llama3-8B-v0.1"
    assert (recipe.dpo.same_source_model, recipe.dpo.reward_gap) == (True, (0.01, 0.1))
    assert (recipe.split.order, recipe.split.sft) == ("ratio", 0.4)
    assert recipe.filters.topics == ("other",)


def test_the_chinese_recipe_states_the_published_method():
    recipe = load_recipe(find_recipe("chinese"))
    ids = ["llamafactory/alpaca_gpt4_zh", "Magpie-Align/Magpie-Qwen2-Pro-200K-Chinese"]
    assert [(corpus.id, corpus.responses) for corpus in recipe.corpora] == [(id_, None) for id_ in ids]
    assert sum(corpus.take for corpus in recipe.corpora) == 10_000
    assert sampling(recipe) == {"Qwen/Qwen2.5-72B-Instruct": (1, 0.7, 0.8, 1.05)}
    assert (recipe.dpo, recipe.reward, recipe.correctness) == (None, None, None)
    assert (recipe.filters.topics, recipe.filters.languages) == (("other",), ("zh",))


def test_the_math_recipe_names_a_licence_for_all_that_it_uses():
    recipe = load_recipe(find_recipe("math"))
    parts = [*recipe.corpora, *(c.responses for c in recipe.corpora), *recipe.source_models, recipe.reward]
    assert [part.license for part in parts] == ["cc-by-4.0", "llama3.1", "qwen", "llama3"]


# --- frozen and closed ----------------------------------------------------------------------------------------


def test_a_recipe_and_its_tables_are_frozen():
    recipe = load_recipe(find_recipe("math"))
    for table in (recipe, recipe.corpora[0], recipe.source_models[0], recipe.dpo, recipe.split):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(table, next(iter(type(table).model_fields)), "other")


def test_every_table_of_a_recipe_is_closed():
    for table in (Recipe, Corpus, Carried, SourceModel):
        assert issubclass(table, Model)
        assert table.model_config["extra"] == "forbid"


KEYS = st.sampled_from(["name", "corpora", "source_models", "dpo", "reward", "split", "correctness", "id", "x y", "ü"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4))


@given(data=st.dictionaries(KEYS, VALUES, max_size=6))
def test_whatever_a_file_holds_gives_a_recipe_or_lines_of_key_and_reason(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(f"name = {'x'!r}\n")
    try:
        load(Recipe, path, data)
    except ConfigError as error:
        lines = str(error).split("\n")
        assert all(line.startswith(f"{path}: ") for line in lines)
        assert all(line.removeprefix(f"{path}: ").split(": ")[0] for line in lines)
