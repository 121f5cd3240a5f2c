"""Recipes: what to build. One TOML file, frozen and closed; nothing in it is executed."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, cast

from pydantic import (
    AfterValidator,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from fusedata.assets import asset
from fusedata.config import Location, Model, find, load
from fusedata.corpus import Corpus, Count, Text, rebased
from fusedata.curation import Decontamination, Filters, Screen

if TYPE_CHECKING:
    from pydantic_core import InitErrorDetails


def _plain(name: str) -> str:
    if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]*", name):
        rule = "takes letters, digits and . _ - only, and begins with a letter or digit"
        raise ValueError(f'{rule} (found "{name}"; a file without a `name` is named after the file)')
    return name


def _ordered(gap: tuple[float, float]) -> tuple[float, float]:
    low, high = gap
    if low > high:
        raise ValueError(f"[{low}, {high}] has its ends swapped: write [{high}, {low}]")
    return gap


ARMORM = "RLHFlow/ArmoRM-Llama3-8B-v0.1"
"""The reward model of the published method; its window is 0.01 to 0.1."""

Name = Annotated[str, Field(max_length=64), AfterValidator(_plain)]
Gap = Annotated[tuple[float, float], AfterValidator(_ordered)]
Tables = Mapping[str, Any]
Mistakes = Iterator[tuple[Location, str]]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class SourceModel(Model):
    """A model that answers the prompts, and how it is sampled."""

    id: Text
    revision: Text | None = None
    license: Text | None = None
    samples: Count = 5
    temperature: Annotated[float, Field(ge=0, le=5)] = 0.8
    """0 is greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    top_k: Count | None = None
    """Draw from this many of the likeliest tokens; absent: from all."""
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """Leave out tokens less likely than this share of the likeliest one's probability."""
    repetition_penalty: Annotated[float, Field(gt=0, le=5)] = 1.0
    """Over the tokens of prompt and response, as vLLM counts."""
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    """These two over the tokens of the response, as OpenAI counts."""
    max_tokens: Count = 4096


class Correctness(Model):
    """How a response is judged right or wrong."""

    check: Literal["math_answer", "unit_tests"]
    isolation: Literal["split"] | None = None
    """`split`: passing counts only where values were compared outside the container. Absent: also where tests that
    cannot be split had to run in the program's own process, which might then fool them."""

    @field_validator("isolation")
    @classmethod
    def _runs(cls, isolation: str | None, info: ValidationInfo) -> str | None:
        if isolation is not None and info.data.get("check", "unit_tests") != "unit_tests":
            raise ValueError('goes with check = "unit_tests" only')
        return isolation


class Reward(Model):
    """The reward model that scores responses."""

    model: Text
    revision: Text | None = None
    license: Text | None = None
    output: Annotated[int, Field(ge=0)] | None = None
    """Which of the model's outputs is the reward, where it has several."""
    weights: Annotated[tuple[float, ...], Field(min_length=1)] | None = None
    """Or: the reward is the sum of its outputs times these, one weight an output."""

    @field_validator("weights")
    @classmethod
    def _one_way(cls, weights: tuple[float, ...] | None, info: ValidationInfo) -> tuple[float, ...] | None:
        if weights is not None and info.data.get("output") is not None:
            raise ValueError("stands beside `output`: say one or the other")
        return weights


class Dpo(Model):
    """How preference pairs are made; a recipe without this table is SFT only."""

    same_source_model: bool = True
    reward_gap: Gap | None = None
    """Chosen minus rejected, both ends inclusive, on the scale of `reward_gap_model`; absent: any gap."""
    reward_gap_model: Text = ARMORM
    """The reward model that `reward_gap` was made for: rewards of two models do not compare."""


class Split(Model):
    """Which prompts feed SFT and which feed DPO, and how many rows are held out."""

    order: Literal["pairs_first", "ratio", "shared"] = "pairs_first"
    """`pairs_first`: a prompt with a pair feeds DPO, the others SFT. `ratio`: prompts with a pair are shared out a
    corpus, the first `int(sft * N)` by hash to SFT; prompts without a pair are dropped. `shared`: a prompt may feed
    both."""
    sft: Annotated[float, Field(ge=0, le=1)] | None = Field(default=None, validate_default=True)
    test: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Share of each dataset held out as `test`, by a hash of the prompt: at least one row; 0: no test split."""

    @field_validator("sft")
    @classmethod
    def _ratio(cls, sft: float | None, info: ValidationInfo) -> float | None:
        order = info.data.get("order")
        if order == "ratio" and sft is None:
            raise ValueError('order = "ratio" needs it: the share of prompts with a pair that feed SFT')
        if order in {"pairs_first", "shared"} and sft is not None:
            raise ValueError(f'goes with order = "ratio" only (the order is "{order}")')
        return sft


class Recipe(Model):
    """What to build: corpora, source models, correctness check, reward model, selection and split rules."""

    name: Name
    description: str = ""
    languages: tuple[Text, ...] = ("en",)
    seed: Seed = 42
    limit: Count | None = None
    """Keep this many prompts over all corpora, chosen by the hash that `take` uses (`--limit`)."""
    corpora: Annotated[tuple[Corpus, ...], Field(min_length=1)]
    filters: Filters = Filters()
    decontamination: Decontamination = Decontamination()
    source_models: tuple[SourceModel, ...] = ()
    screen: Screen | None = None
    correctness: Correctness | None = None
    reward: Reward | None = None
    dpo: Dpo | None = None
    split: Split = Split()

    @model_validator(mode="wrap")
    @classmethod
    def _consistent(cls, data: Any, check: ModelWrapValidatorHandler[Self]) -> Self:  # noqa: ANN401
        """Compare the tables with each other even where one of them is wrong, so that nothing hides a mistake."""
        mistakes: list[InitErrorDetails] = []
        try:
            recipe = check(data)
        except ValidationError as error:
            mistakes = [cast("InitErrorDetails", mistake) for mistake in error.errors(include_url=False)]
        tables = data if isinstance(data, dict) else {}
        for location, reason in (m for compare in _COMPARISONS for m in compare(tables)):
            mistakes.append({"type": "value_error", "loc": location, "input": None, "ctx": {"error": reason}})
        if mistakes:
            raise ValidationError.from_exception_data(cls.__name__, mistakes)
        return recipe


def _entries(tables: Tables, key: str) -> dict[int, dict[str, Any]]:
    """Contents of the tables under `key` by their number, whatever else may be wrong with them."""
    value = tables.get(key)
    entries = value if isinstance(value, list | tuple) else ()
    dumped = (entry.model_dump() if isinstance(entry, Model) else entry for entry in entries)
    return {number: entry for number, entry in enumerate(dumped) if isinstance(entry, dict)}


def _table(tables: Tables, key: str) -> dict[str, Any]:
    value = tables.get(key)
    value = value.model_dump() if isinstance(value, Model) else value
    return value if isinstance(value, dict) else {}


def _repeated(tables: Tables) -> Mistakes:
    """Two tables with one id: which of them wrote a row could no longer be told."""
    responses = [corpus.get("responses") for corpus in _entries(tables, "corpora").values()]
    carried = [table.get("source_model") for table in responses if isinstance(table, dict)]
    for key, remedy in (("corpora", "give one of them another id"), ("source_models", "raise its `samples` instead")):
        seen: list[object] = []
        for number, entry in _entries(tables, key).items():
            name = entry.get("id", ...)  # told as missing already, and equal to no other
            if name is ...:
                continue
            if name in seen:
                yield (key, number, "id"), f"{name} stands twice: {remedy}"
            elif key == "source_models" and name in carried:
                yield (key, number, "id"), f"{name} also wrote carried responses: their rows could not be told apart"
            seen.append(name)


def _unanswered(tables: Tables) -> Mistakes:
    for number, corpus in _entries(tables, "corpora").items():
        if corpus.get("responses") is None and not tables.get("source_models"):
            yield ("corpora", number), "nobody answers it: name source_models, or the `responses` that it carries"


_NEEDED = {"math_answer": ("answer", "the column of the gold answers"), "unit_tests": ("tests", "a `tests` table")}


def _unjudgeable(tables: Tables) -> Mistakes:
    check = _table(tables, "correctness").get("check")
    key, what = _NEEDED.get(str(check), _NEEDED["math_answer"])
    for number, corpus in _entries(tables, "corpora").items():
        if tables.get("correctness") is not None and corpus.get(key) is None:
            yield ("corpora", number, key), f"is missing: [correctness] needs {what}"
    if tables.get("dpo") is not None and tables.get("reward") is None:
        yield ("dpo",), "ranks by reward: add a [reward] table with a model"


def _foreign_gap(tables: Tables) -> Mistakes:
    """A window that was made for another reward model would select pairs that mean nothing."""
    dpo, reward = (_table(tables, key) for key in ("dpo", "reward"))
    scorer, made_for = reward.get("model"), dpo.get("reward_gap_model", ARMORM)
    named = isinstance(scorer, str) and isinstance(made_for, str)
    if dpo.get("reward_gap") is None or not named or made_for == scorer:
        return
    found = f"was made for {made_for}, and [reward] scores with {scorer}: rewards of two models do not compare"
    remedy = f'let `fusedata calibrate` propose a window, and write it here with reward_gap_model = "{scorer}"'
    yield ("dpo", "reward_gap"), f"{found}; {remedy}"


_COMPARISONS = (_repeated, _unanswered, _unjudgeable, _foreign_gap)


def shipped_recipes() -> dict[str, Path]:
    """Name and path of every recipe that ships with fusedata, by name."""
    return {path.stem: path for path in sorted(asset("recipes").glob("*.toml"))}


def find_recipe(name: str) -> Path:
    """Path of a recipe, given a shipped name or the path of a TOML file. Raises ConfigError."""
    return find("recipe", name, shipped_recipes())


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; relative corpus paths are taken from its folder. Raises ConfigError with every mistake."""
    recipe = load(Recipe, path, {"name": path.stem})
    corpora = tuple(rebased(corpus, path.parent) for corpus in recipe.corpora)
    return recipe.model_copy(update={"corpora": corpora})
