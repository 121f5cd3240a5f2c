"""Cards of real builds: what the reward model's self-test found, pairs of WRPO, rows with weights; English and Chinese."""

import json
from pathlib import Path

import pytest
import test_dense as dense
import test_wrpo as wrpo
from conftest import questions, recipe_over, write_corpus

from fusedata.build import Build
from fusedata.dataset import Datasets
from fusedata.profile import Profile, RewardHost
from fusedata.reward.models import make_reward
from fusedata.testing import EchoEngine, HashReward

LANGUAGES = pytest.mark.parametrize("card", ["README.md", "README_zh.md"])


@pytest.fixture(scope="module")
def scorer(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real sequence classifier of random weights."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("scorer")
    config = transformers.LlamaConfig.from_pretrained(tiny_model, num_labels=1)
    transformers.LlamaForSequenceClassification(config).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


def build(folder: Path, model: str, limit: int | None = None, **seams: object) -> Path:
    corpus = write_corpus(folder / "modulo.jsonl", questions(12))
    window = {"reward_gap": [-9.0, 9.0], "reward_gap_model": model}
    recipe = recipe_over(corpus, reward={"model": model}, dpo=window, split={"order": "shared"})
    profile = Profile(name="test", reward=RewardHost(batch_size=16, dtype="float32", device="cpu"))
    Build(recipe, profile, lambda *_: EchoEngine(answers=4), **{"make_reward": make_reward, **seams}).run(
        folder / "run", limit=limit
    )
    return folder / "run"


def told(run: Path) -> dict[str, str]:
    return json.loads((run / "run.json").read_text())["reward_self_test"]


def cards(run: Path, kind: str) -> str:
    return "".join((run / "dataset" / kind / name).read_text() for name in ("README.md", "README_zh.md"))


def test_what_the_self_test_found_is_kept_and_stands_on_both_cards(tmp_path: Path, scorer: Path) -> None:
    run = build(tmp_path, str(scorer))
    (found,) = told(run).values()
    assert found.startswith("a known exchange scored ")
    assert cards(run, "sft").count(found) == 2
    assert f"Its self-test: {found}." in (run / "dataset" / "sft" / "README.md").read_text()


def test_a_build_that_loads_no_reward_model_keeps_what_the_last_one_found(tmp_path: Path, scorer: Path) -> None:
    run = build(tmp_path, str(scorer), limit=8)
    before, card = told(run), cards(run, "sft")
    build(tmp_path, str(scorer), limit=8)
    assert told(run) == before
    assert cards(run, "sft") == card


def test_a_reward_model_without_a_self_test_claims_none(tmp_path: Path) -> None:
    run = build(tmp_path, "fusedata/hash-reward", make_reward=lambda *_: HashReward())
    assert told(run) == {}
    assert "No self-test of it is on record." in cards(run, "sft")
    assert "没有其自检记录" in cards(run, "sft")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wrpo")
    wrpo.build(wrpo.recipe(folder), folder / "run")
    return folder / "run" / "dataset" / "dpo"


@pytest.mark.parametrize(
    ("card", "said"),
    [
        ("README.md", [
            "chosen by the same rule from all source models but the target (local/trained)",
            "rejected the target's own response with the lowest reward.",
            "`chosen_own`: the target's response that the same rule takes.",
            "The target answered only prompts that feed DPO; the SFT dataset holds none of them.",
            "`chosen_own` is a third response",
        ]),
        ("README_zh.md", [
            "`chosen` 按同一规则取自目标模型（local/trained）以外的所有源模型；`rejected` 为目标模型自己的回答中奖励最低者",
            "`chosen_own` 为目标模型的回答中按同一规则选出者",
            "目标模型只回答用于 DPO 的提示",
            "`chosen_own` 是第三个回答",
        ]),
    ],
)  # fmt: skip
def test_the_card_of_wrpo_says_whose_the_three_responses_are(pairs: Path, card: str, said: list[str]) -> None:
    text = (pairs / card).read_text()
    assert [sentence for sentence in said if sentence not in text] == []
    assert text.count("**chosen_own**") == 3
    assert "within one source model" not in text
    assert "同一源模型内" not in text


@pytest.fixture(scope="module")
def weighed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Datasets]:
    folder = tmp_path_factory.mktemp("dense")
    return folder / "run" / "dataset", dense.build(dense.recipe(folder), folder / "run")


WEIGHT = (
    "A prompt has a {0} of every source model that can give one. `weight` is its share of the prompt: the softmax of "
)
WEIGHT += "the {1} over the prompt's {0}s, at temperature 0.02, so that they sum to 1."


@pytest.mark.parametrize(
    ("kind", "card", "said"),
    [
        ("sft", "README.md", WEIGHT.format("row", "reward")),
        ("dpo", "README.md", WEIGHT.format("pair", "chosen reward")),
        ("sft", "README_zh.md", "对该提示各行的奖励取 softmax（温度 0.02），合计为 1"),
        ("dpo", "README_zh.md", "对该提示各对的 `chosen` 奖励取 softmax（温度 0.02），合计为 1"),
    ],
)
def test_the_card_of_rows_with_weights_says_what_a_weight_is(
    weighed: tuple[Path, Datasets], kind: str, card: str, said: str
) -> None:
    text = (weighed[0] / kind / card).read_text()
    assert said in text
    assert "`weight` " in text


@LANGUAGES
def test_the_card_of_one_row_a_prompt_speaks_of_no_weight(tmp_path: Path, card: str) -> None:
    run = build(tmp_path, "fusedata/hash-reward", make_reward=lambda *_: HashReward())
    for kind in ("sft", "dpo"):
        text = (run / "dataset" / kind / card).read_text()
        assert "`weight`" not in text
        assert "chosen_own" not in text
