"""Profiles: where a recipe runs, what stands in for its choices, and how two configurations differ."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fusedata.differences import differences
from fusedata.errors import ConfigError
from fusedata.profile import Profile, effective, find_profile, load_profile, shipped_profiles
from fusedata.recipe import Recipe, find_recipe, load_recipe

RECIPE = """
name = "sums"
seed = 7
[[corpora]]
id = "a/b"
prompt = "question"
answer = "gold"
take = 9
[[corpora]]
id = "c/d"
prompt = "question"
answer = "gold"
[[source_models]]
id = "m/big"
samples = 5
temperature = 0.7
max_tokens = 4096
[[source_models]]
id = "m/other"
[correctness]
check = "math_answer"
[reward]
model = "r/big"
[dpo]
same_source_model = false
reward_gap = [0.1, 0.2]
reward_gap_model = "r/big"
[split]
test = 0.5
"""


def read(folder: Path, text: str, name: str = "mine.toml") -> Profile:
    (folder / name).write_text(text, encoding="utf-8")
    return load_profile(folder / name)


@pytest.fixture
def recipe(tmp_path) -> Recipe:
    (tmp_path / "sums.toml").write_text(RECIPE, encoding="utf-8")
    return load_recipe(tmp_path / "sums.toml")


# --- reading --------------------------------------------------------------------------------------------------


def test_every_mistake_is_told_at_once_with_its_key_in_order_of_the_file(tmp_path):
    text = """
        hub = "hf"
        corpora = 1
        [[engines]]
        engine = "transformers"
        models = "x"
        batch_size = "3"
        dtype = "fp8"
        gpus = 2
        [[engines]]
        engine = "nope"
        [[engines]]
        weights = ""
        [[engines]]
        engine = "transformers"
        weights = ""
        [[engines]]
        engine = "vllm"
        device = "cuda"
        gpu_memory_utilization = 1.1
        arguments = "enforce_eager"
        [[engines]]
        engine = "openai"
        dialect = "llama"
        [reward]
        batch_size = 0
        [verification]
        timeout = 601
        workers = 1.0
        memory_mb = true
        [stand_in]
        samples = 0
        reward_gap = [0.2, 0.1]
        [[stand_in.corpora]]
        id = "x"
        take = nan
        [[stand_in.source_models]]
        [stand_in.reward]
        name = "x"
    """
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, text)
    assert str(refused.value).replace(f"{tmp_path / 'mine.toml'}: ", "").splitlines() == [
        "hub: must be 'huggingface' or 'modelscope' (found \"hf\").",
        "corpora: must be a string, in quotes (found 1).",
        'engines[0].models: must be an array, in square brackets (found "x").',
        'engines[0].batch_size: must be a whole number (found "3").',
        "engines[0].dtype: must be 'float32', 'bfloat16' or 'float16' (found \"fp8\").",
        "engines[0].gpus: unknown key: check its spelling, or take it out.",
        "engines[1].engine: must be one of 'transformers', 'vllm', 'openai' (found 'nope').",
        "engines[2].engine: is missing.",
        "engines[3].weights: must not be empty.",
        "engines[4].device: unknown key: check its spelling, or take it out.",
        "engines[4].gpu_memory_utilization: must be at most 1.0 (found 1.1).",
        'engines[4].arguments: must be a table (found "enforce_eager").',
        "engines[5].dialect: must be 'vllm' or 'openai' (found \"llama\").",
        "engines[5].base_urls: is missing.",
        "reward.batch_size: must be greater than 0 (found 0).",
        "verification.timeout: must be at most 600.0 (found 601).",
        "verification.workers: must be a whole number (found 1.0).",
        "verification.memory_mb: must be a whole number (found true).",
        "stand_in.samples: must be greater than 0 (found 0).",
        "stand_in.reward_gap: [0.2, 0.1] has its ends swapped: write [0.1, 0.2].",
        "stand_in.corpora[0].take: must be a whole number (found nan).",
        "stand_in.corpora[0].prompt: is missing.",
        "stand_in.corpora[0].replaces: is missing.",
        "stand_in.source_models[0].id: is missing.",
        "stand_in.reward.name: unknown key: check its spelling, or take it out.",
        "stand_in.reward.model: is missing.",
    ]


def test_an_empty_profile_is_named_after_its_file_and_serves_nothing(tmp_path):
    profile = read(tmp_path, "", "laptop.toml")
    assert (profile.name, profile.hub, profile.engines, profile.stand_in) == ("laptop", "huggingface", (), None)


def test_relative_paths_are_taken_from_the_profiles_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    text = """
        corpora = "~/corpora"
        [[engines]]
        engine = "transformers"
        weights = "models/tiny"
        [[engines]]
        engine = "transformers"
        weights = "package:some-dist/x.gguf"
        [reward]
        weights = "/models/reward"
        [[stand_in.corpora]]
        replaces = "a/b"
        id = "a/b"
        prompt = "q"
        path = "rows.jsonl"
    """
    profile = read(tmp_path, text)
    assert profile.corpora == "/home/someone/corpora"
    assert [engine.weights for engine in profile.engines] == [f"{tmp_path}/models/tiny", "package:some-dist/x.gguf"]
    assert profile.reward.weights == "/models/reward"
    assert profile.stand_in.corpora[0].path == f"{tmp_path}/rows.jsonl"


def test_a_profile_is_found_by_name_or_by_path(tmp_path):
    (tmp_path / "mine.toml").touch()
    assert find_profile("local") == shipped_profiles()["local"]
    assert find_profile(str(tmp_path / "mine.toml")) == tmp_path / "mine.toml"


def test_an_unknown_profile_is_refused_with_those_that_there_are():
    with pytest.raises(ConfigError) as refused:
        find_profile("cluster-of-mine")
    known = ", ".join(shipped_profiles())
    expected = f"cluster-of-mine: unknown profile; there are {known}, or give the path of a .toml file."
    assert str(refused.value) == expected


def test_a_profile_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"mine\.toml: no such profile file"):
        find_profile(str(tmp_path / "mine.toml"))


def test_every_shipped_profile_loads_under_its_files_name():
    assert "local" in shipped_profiles()
    for name, path in shipped_profiles().items():
        assert load_profile(path).name == name


def test_every_shipped_recipe_can_be_built_under_the_local_profile():
    recipe = effective(load_recipe(find_recipe("math")), load_profile(find_profile("local")))
    assert [model.id for model in recipe.source_models] == ["HuggingFaceTB/SmolLM2-135M-Instruct"]
    assert [model.max_tokens for model in recipe.source_models] == [48]
    assert all(corpus.path.startswith("embedded:") for corpus in recipe.corpora)
    assert recipe.reward.model == "fusedata/preference-head-smollm2-135m"
    assert recipe.dpo.reward_gap == (0.01, 0.1)


def test_a_profile_is_frozen():
    profile = load_profile(find_profile("local"))
    for table in (profile, profile.engines[0], profile.stand_in, profile.stand_in.corpora[0], profile.verification):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(table, next(iter(type(table).model_fields)), "other")


# --- what stands in -------------------------------------------------------------------------------------------


def changed(recipe: Recipe, folder: Path, stand_in: str) -> list[tuple[str, object, object]]:
    """What a stand-in table makes of the recipe, as a list of differences."""
    built = effective(recipe, read(folder, f"[stand_in]\n{stand_in}"))
    sides = (side.model_dump(mode="json", exclude_none=True) for side in (recipe, built))
    return differences(*sides)


def test_a_profile_without_stand_ins_leaves_the_recipe_as_it_is(recipe, tmp_path):
    assert effective(recipe, read(tmp_path, "")) is recipe
    assert changed(recipe, tmp_path, "") == []


@pytest.mark.parametrize(
    ("stand_in", "expected"),
    [
        ("samples = 2", [("source_models[m/big].samples", 5, 2), ("source_models[m/other].samples", 5, 2)]),
        (
            "max_tokens = 48",
            [("source_models[m/big].max_tokens", 4096, 48), ("source_models[m/other].max_tokens", 4096, 48)],
        ),
        ("reward_gap = [1, 2]", [("dpo.reward_gap", [0.1, 0.2], [1.0, 2.0])]),
        (
            'reward = { model = "r/small" }\nreward_gap = [1, 2]',
            [
                ("reward.model", "r/big", "r/small"),
                ("dpo.reward_gap", [0.1, 0.2], [1.0, 2.0]),
                ("dpo.reward_gap_model", "r/big", "r/small"),
            ],
        ),
    ],
)
def test_a_stand_in_replaces_what_it_names_and_leaves_the_rest(recipe, tmp_path, stand_in, expected):
    assert changed(recipe, tmp_path, stand_in) == expected


def test_another_reward_model_needs_a_window_of_its_own(recipe, tmp_path):
    with pytest.raises(ConfigError, match=r"was made for r/big, and \[reward\] scores with r/small"):
        effective(recipe, read(tmp_path, '[stand_in]\nreward = { model = "r/small" }\n'))


def test_source_models_that_stand_in_replace_all_of_the_recipes(recipe, tmp_path):
    text = '[stand_in]\nsamples = 2\n[[stand_in.source_models]]\nid = "m/small"\nsamples = 9\nmax_tokens = 48\n'
    (model,) = effective(recipe, read(tmp_path, text)).source_models
    assert (model.id, model.samples, model.max_tokens, model.temperature) == ("m/small", 2, 48, 0.8)


def test_several_corpora_may_stand_in_for_one_in_its_place(recipe, tmp_path):
    table = '[[stand_in.corpora]]\nreplaces = "a/b"\nprompt = "p"\nanswer = "g"\n'
    built = effective(recipe, read(tmp_path, f'{table}id = "x"\n{table}id = "a/b"\npath = "embedded:y"\n'))
    assert [corpus.id for corpus in built.corpora] == ["x", "a/b", "c/d"]
    assert [corpus.take for corpus in built.corpora] == [None, None, None]
    assert built.corpora[1].path == "embedded:y"
    assert built.corpora[2] == recipe.corpora[1]


def test_a_stand_in_for_a_corpus_that_the_recipe_lacks_changes_nothing(recipe, tmp_path):
    text = '[[stand_in.corpora]]\nreplaces = "no/such"\nid = "x"\nprompt = "p"\n'
    assert effective(recipe, read(tmp_path, text)) == recipe


def test_nothing_stands_in_for_what_the_recipe_leaves_out(tmp_path):
    (tmp_path / "plain.toml").write_text(
        '[[corpora]]\nid = "a/b"\nprompt = "q"\nresponses = { column = "r", source_model = "human" }\n'
    )
    recipe = load_recipe(tmp_path / "plain.toml")
    text = """
        [stand_in]
        reward_gap = [0, 1]
        reward = { model = "r" }
        source_models = [{ id = "m" }]
    """
    assert effective(recipe, read(tmp_path, text)) == recipe


def test_stand_ins_that_do_not_fit_the_recipe_are_refused_with_both_names(recipe, tmp_path):
    text = '[[stand_in.corpora]]\nreplaces = "a/b"\nid = "c/d"\nprompt = "p"\n'
    with pytest.raises(ConfigError) as refused:
        effective(recipe, read(tmp_path, text))
    origin = "recipe sums under profile mine"
    assert str(refused.value).splitlines() == [
        f"{origin}: corpora[0].answer: is missing: [correctness] needs the column of the gold answers.",
        f"{origin}: corpora[1].id: c/d stands twice: give one of them another id.",
    ]


def test_effective_changes_neither_recipe_nor_profile(recipe):
    profile = load_profile(find_profile("local"))
    before = recipe.model_dump_json(), profile.model_dump_json()
    math = load_recipe(find_recipe("math"))
    assert effective(math, profile) == effective(math, profile)
    effective(recipe, profile)
    assert (recipe.model_dump_json(), profile.model_dump_json()) == before


def test_effective_keeps_name_seed_limit_and_split(recipe, tmp_path):
    cut = recipe.model_copy(update={"limit": 3})
    built = effective(cut, read(tmp_path, "[stand_in]\nsamples = 1\n"))
    assert (built.name, built.seed, built.limit, built.split) == ("sums", 7, 3, recipe.split)
    assert built.dpo.same_source_model is False


# --- differences ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1, "b": 2}, {"b": 3, "c": 4}, [("a", 1, None), ("b", 2, 3), ("c", None, 4)]),
        ({"a": {"b": [1]}}, {"a": {"b": [1, 2]}}, [("a.b", [1], [1, 2])]),
        ({"a": {"b": 1}}, {}, [("a", {"b": 1}, None)]),
        ({"a": [{"id": "x", "n": 1}]}, {"a": [{"id": "x", "n": 2}]}, [("a[x].n", 1, 2)]),
        ({"a": [{"id": "x"}]}, {"a": [{"id": "y"}]}, [("a[x]", {"id": "x"}, None), ("a[y]", None, {"id": "y"})]),
        ({"a": []}, {"a": [{"id": "x"}]}, [("a[x]", None, {"id": "x"})]),
        ({"a": [{"n": 1}]}, {"a": [{"n": 2}]}, [("a", [{"n": 1}], [{"n": 2}])]),
        ({"a": [{"id": "x"}, {"id": "y"}]}, {"a": [{"id": "y"}, {"id": "x"}]}, [("a", ["x", "y"], ["y", "x"])]),
        ({"a": [{"id": "x"}, {"id": "y"}]}, {"a": [{"id": "y"}]}, [("a[x]", {"id": "x"}, None)]),
        ({"a": (1, 2)}, {"a": (1, 3)}, [("a", (1, 2), (1, 3))]),
        (1, 2, [("", 1, 2)]),
    ],
)
def test_differences_are_told_by_key_and_by_id(before, after, expected):
    assert differences(before, after) == expected


ENTRIES = st.lists(
    st.fixed_dictionaries({"id": st.sampled_from("abcd"), "n": st.integers(0, 2)}), unique_by=lambda e: e["id"]
)
CONFIGURATIONS = st.dictionaries(st.sampled_from("pqr"), st.integers(0, 2) | ENTRIES | st.dictionaries(st.sampled_from("xy"), st.integers(0, 2)))  # fmt: skip


@given(CONFIGURATIONS, CONFIGURATIONS)
def test_two_configurations_are_equal_just_where_nothing_differs(before, after):
    told = differences(before, after)
    assert (before == after) == (told == [])
    assert all(old != new for _, old, new in told)
    assert sorted((key, repr(new), repr(old)) for key, old, new in told) == sorted(
        (key, repr(old), repr(new)) for key, old, new in differences(after, before)
    )
