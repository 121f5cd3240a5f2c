"""Recipes: what to build. One TOML file, frozen and closed; nothing in it is executed."""

from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, PositiveInt, model_validator

from fusedata.assets import asset
from fusedata.config import Model, load
from fusedata.errors import ConfigError

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
Text = Annotated[str, Field(min_length=1)]
Gap = Annotated[tuple[float, float], Field(min_length=2, max_length=2)]


class Carried(Model):
    """Responses that the corpus itself holds: they are used, not sampled."""

    column: Text
    source_model: Text
    """Who wrote them: the hub id of a model, or `human`."""
    license: Text | None = None


class Corpus(Model):
    """Where prompts come from, and which columns hold what."""

    id: Text
    """The hub id, `org/name`."""
    modelscope: Text | None = None
    """Its id on ModelScope, where that differs."""
    revision: Text | None = None
    license: Text | None = None
    path: Text | None = None
    """A folder or file to read instead of a hub: relative to the recipe, or `embedded:NAME` for one that ships."""
    split: Text = "train"
    files: tuple[Text, ...] = ()
    """Glob patterns within the corpus; empty: the files of `split`, by the hub's naming."""
    prompt: Text
    """The column that holds the user's turn."""
    answer: Text | None = None
    """The column that holds the gold answer."""
    responses: Carried | None = None
    sampled: bool = True
    """False: source models do not answer these prompts; only the carried responses count."""
    where: dict[str, tuple[str, ...]] = Field(default={})
    """Keep rows whose column holds one of these values; others are dropped as `where <column>`."""
    take: PositiveInt | None = None
    """Keep this many prompts, chosen by a hash of their ids."""

    @model_validator(mode="after")
    def _has_responses(self) -> Self:
        if not self.sampled and self.responses is None:
            raise ValueError("sampled = false needs carried responses: add a `responses` table")
        return self


CorpusT = TypeVar("CorpusT", bound=Corpus)


class SourceModel(Model):
    """A model that answers the prompts, and how it is sampled."""

    id: Text
    revision: Text | None = None
    license: Text | None = None
    samples: PositiveInt = 5
    temperature: Annotated[float, Field(ge=0, le=5)] = 0.8
    """0 is greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    repetition_penalty: Annotated[float, Field(gt=0, le=5)] = 1.0
    max_tokens: PositiveInt = 4096


class Correctness(Model):
    """How a response is judged right or wrong."""

    check: Literal["math_answer"]


class Reward(Model):
    """The reward model that scores responses."""

    model: Text
    revision: Text | None = None
    license: Text | None = None


class Dpo(Model):
    """How preference pairs are made; a recipe without this table is SFT only."""

    same_source_model: bool = True
    reward_gap: Gap | None = None
    """Chosen minus rejected, both ends inclusive, on the scale of `[reward]`; absent: any gap."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.reward_gap and self.reward_gap[0] > self.reward_gap[1]:
            low, high = self.reward_gap
            raise ValueError(f"reward_gap = [{low}, {high}] has its ends swapped: write [{high}, {low}]")
        return self


class Split(Model):
    """Which prompts feed SFT and which feed DPO, and how many rows are held out."""

    order: Literal["pairs_first", "ratio", "shared"] = "pairs_first"
    """`pairs_first`: a prompt with a pair feeds DPO, the others SFT. `ratio`: prompts with a pair are shared out a
    corpus, the first `int(sft * N)` by hash to SFT; prompts without a pair are dropped. `shared`: a prompt may feed
    both."""
    sft: Annotated[float, Field(ge=0, le=1)] | None = None
    test: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Share of each dataset held out as `test`, by a hash of the prompt: at least one row; 0: no test split."""

    @model_validator(mode="after")
    def _ratio(self) -> Self:
        if (self.order == "ratio") != (self.sft is not None):
            raise ValueError('`sft` goes with order = "ratio", and only with it')
        return self


class Recipe(Model):
    """What to build: corpora, source models, correctness check, reward model, selection and split rules."""

    name: Name
    description: str = ""
    languages: tuple[Text, ...] = ("en",)
    seed: int = 42
    limit: PositiveInt | None = None
    """Keep this many prompts over all corpora, chosen by the hash that `take` uses (`--limit`)."""
    corpora: Annotated[tuple[Corpus, ...], Field(min_length=1)]
    source_models: tuple[SourceModel, ...] = ()
    correctness: Correctness | None = None
    reward: Reward | None = None
    dpo: Dpo | None = None
    split: Split = Split()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        mistakes = [m for check in (_repeated, _unanswered, _unjudgeable) for m in check(self)]
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self


def _repeated(recipe: Recipe) -> list[str]:
    """Two tables with one id: which of them wrote a row could no longer be told."""
    corpora, models = [c.id for c in recipe.corpora], [m.id for m in recipe.source_models]
    mistakes = [f"corpus {i} stands twice: give one of them another id" for i in sorted(_twice(corpora))]
    mistakes += [f"source model {i} stands twice: raise its `samples` instead" for i in sorted(_twice(models))]
    carried = {c.responses.source_model for c in recipe.corpora if c.responses}
    return mistakes + [f"{i} both is sampled and wrote carried responses" for i in sorted(carried & set(models))]


def _twice(ids: list[str]) -> set[str]:
    return {i for i in ids if ids.count(i) > 1}


def _unanswered(recipe: Recipe) -> list[str]:
    return [
        f"nobody answers corpus {c.id}: name source_models, or the responses that it carries"
        for c in recipe.corpora
        if c.responses is None and not recipe.source_models
    ]


def _unjudgeable(recipe: Recipe) -> list[str]:
    mistakes = []
    if recipe.correctness:
        needy = [c.id for c in recipe.corpora if c.answer is None]
        mistakes += [f"check math_answer needs the gold answers of corpus {i}: name its `answer` column" for i in needy]
    if recipe.dpo and recipe.reward is None:
        mistakes.append("[dpo] ranks by reward: add a [reward] table with a model")
    return mistakes


def shipped_recipes() -> dict[str, Path]:
    """Name and path of every recipe that ships with fusedata, by name."""
    return {path.stem: path for path in sorted(asset("recipes").glob("*.toml"))}


def find_recipe(name: str) -> Path:
    """Path of a recipe, given a shipped name or the path of a TOML file. Raises ConfigError."""
    shipped = shipped_recipes()
    if name in shipped:
        return shipped[name]
    path = Path(name)
    if path.suffix == ".toml" and path.is_file():
        return path
    if path.suffix == ".toml" or "/" in name:
        raise ConfigError(f"{name}: no such recipe file.")
    raise ConfigError(f"{name}: unknown recipe; there are {', '.join(shipped)}, or give the path of a .toml file.")


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; relative corpus paths are taken from its folder. Raises ConfigError with every mistake."""
    recipe = load(Recipe, path, {"name": path.stem})
    corpora = tuple(rebased(corpus, path.parent) for corpus in recipe.corpora)
    return recipe.model_copy(update={"corpora": corpora})


def rebased(corpus: CorpusT, folder: Path) -> CorpusT:
    """Give a corpus with its relative `path` taken from `folder`."""
    if corpus.path is None or corpus.path.startswith("embedded:") or Path(corpus.path).is_absolute():
        return corpus
    return corpus.model_copy(update={"path": str((folder / corpus.path).resolve())})
