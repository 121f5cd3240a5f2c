"""Recipes: what to build. One TOML file, frozen and closed; nothing in it is executed."""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
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
from fusedata.corpus import CarriedReward, Corpus, Count, Text, rebased
from fusedata.curation import Decontamination, Filters, Screen
from fusedata.publishing import Publish
from fusedata.rules import ARMORM, Dpo, Sft, Split

if TYPE_CHECKING:
    from pydantic_core import InitErrorDetails


def _plain(name: str) -> str:
    if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]*", name):
        rule = "takes letters, digits and . _ - only, and begins with a letter or digit"
        raise ValueError(f'{rule} (found "{name}"; a file without a `name` is named after the file)')
    return name


Name = Annotated[str, Field(max_length=64), AfterValidator(_plain)]
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

    def carried_by(self, corpus: Corpus) -> CarriedReward | None:
        """Give the rewards that `corpus` carries and that count here: those of this model, as the model gives them."""
        held = corpus.responses.reward if corpus.responses else None
        if held is None or self.output is not None or self.weights is not None:
            return None
        return held if held.model == self.model else None

    def is_asked(self, models: Sequence[SourceModel], corpora: Sequence[Corpus]) -> bool:
        """Whether this model has to score: responses of `models`, or such that `corpora` carry without its rewards."""
        return bool(models) or any(corpus.responses and not self.carried_by(corpus) for corpus in corpora)


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
    sft: Sft = Sft()
    dpo: Dpo | None = None
    split: Split = Split()
    publish: Publish | None = None

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
    if tables.get("reward") is None:
        if tables.get("dpo") is not None:
            yield ("dpo",), "ranks by reward: add a [reward] table with a model"
        if _table(tables, "sft").get("per") == "source_model":
            yield ("sft", "per"), "weighs by reward: add a [reward] table with a model"


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


def _off_policy(tables: Tables) -> Mistakes:
    """A target model must be sampled, beside source models, and only on prompts that no SFT row was trained on."""
    dpo, order = _table(tables, "dpo"), _table(tables, "split").get("order", "pairs_first")
    if order == "random" and tables.get("dpo") is None:
        yield ("split", "order"), "shares out prompts between SFT and DPO: add a [dpo] table, or take it out"
    if dpo.get("method") != "wrpo":
        return
    if order != "random":
        why = "a target model is asked only prompts that feed no SFT, which must be known before"
        yield ("split", "order"), f'must be "random" where [dpo] has method = "wrpo": {why}'
    target, models = dpo.get("target"), [entry.get("id") for entry in _entries(tables, "source_models").values()]
    if target is not None and target not in models:
        yield ("dpo", "target"), f"{target} is none of the source_models: add a table that says how it is sampled"
    carried = any(corpus.get("responses") is not None for corpus in _entries(tables, "corpora").values())
    if target is not None and not carried and set(models) <= {target}:
        yield ("dpo", "target"), "is the only one that answers: name other source_models too"


_COMPARISONS = (_repeated, _unanswered, _unjudgeable, _foreign_gap, _off_policy)


def shipped_recipes() -> dict[str, Path]:
    """Name and path of every recipe that ships with fusedata, by name; mixtures are no recipes."""
    files = {path.stem: path for path in sorted(asset("recipes").glob("*.toml"))}
    return {name: path for name, path in files.items() if "recipes" not in tomllib.loads(path.read_text("utf-8"))}


def find_recipe(name: str) -> Path:
    """Path of a recipe, given a shipped name or the path of a TOML file. Raises ConfigError."""
    return find("recipe", name, shipped_recipes())


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; relative corpus paths are taken from its folder. Raises ConfigError with every mistake."""
    recipe = load(Recipe, path, {"name": path.stem})
    corpora = tuple(rebased(corpus, path.parent) for corpus in recipe.corpora)
    return recipe.model_copy(update={"corpora": corpora})
