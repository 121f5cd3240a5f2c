"""What a recipe's rules say, as sentences of a dataset card in English; the Chinese card has its own. Pure."""

import re
from collections.abc import Iterator

from fusedata.recipe import Recipe
from fusedata.rules import Dpo

_PLAIN = re.compile(r"[\w ./:;,()+=%'-]*")
_WEIGHTS = (
    "A prompt has a {0} of every source model that can give one. `weight` is its share of the prompt: the softmax of "
    "the {1} over the prompt's {0}s, at temperature {2:g}, so that they sum to 1."
)


def cell(value: object) -> str:
    """Write a value so that it stays within a cell of a table or a line: as code where Markdown could read into it."""
    text = " ".join(str(value).split())
    if _PLAIN.fullmatch(text):
        return text
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if "`" in text else ""
    return f"{fence}{pad}{text}{pad}{fence}".replace("|", "\\|")


def rules(kind: str, recipe: Recipe) -> list[str]:
    """State in sentences what the recipe's selection rules did for the dataset `kind`, and for what it holds out."""
    by_tests = recipe.correctness is not None and recipe.correctness.check == "unit_tests"
    judged = "whose programs pass all unit tests" if by_tests else "judged right by the corpus's gold answer"
    passing = judged if recipe.correctness else "sampled or carried"
    best = f"the highest reward by {cell(recipe.reward.model)}" if recipe.reward else "the first by model name"
    lines = [f"SFT: of the responses {passing}{_of_whom(recipe)}, the one with {best}."]
    if recipe.sft.per == "source_model" and kind == "sft":
        lines.append(_WEIGHTS.format("row", "reward", recipe.sft.weight_temperature))
    if recipe.dpo and kind == "dpo":
        failing = "that fail a test" if by_tests else "judged wrong"
        worst = f"the lowest reward among those {failing}" if recipe.correctness else "the lowest reward"
        lines += _pairs(recipe.dpo, worst)
    held_out = f"{100 * recipe.split.test:g}% held out by a hash of the prompt"
    return [*lines, f"Order of the split: `{recipe.split.order}`; {held_out}."]


def _of_whom(recipe: Recipe) -> str:
    if recipe.sft.per == "source_model":
        return ", in each source model by itself"
    return ", those of the target aside" if recipe.dpo and recipe.dpo.target else ""


def _pairs(dpo: Dpo, worst: str) -> Iterator[str]:
    """State how pairs were made."""
    window = f", the gap between {dpo.reward_gap[0]} and {dpo.reward_gap[1]}, both inclusive" if dpo.reward_gap else ""
    if dpo.method == "wrpo":
        target = cell(dpo.target) if dpo.target else "a model that was not sampled yet"
        taken = f"chosen by the same rule from all source models but the target ({target})"
        own = f"the target's own response with {worst}{window}"
        yield f"DPO, after WRPO: {taken}, rejected {own}. `chosen_own`: the target's response that the same rule takes."
        yield "The target answered only prompts that feed DPO; the SFT dataset holds none of them."
        return
    within = "within one source model" if dpo.same_source_model else "over all source models"
    each = "within each source model by itself" if dpo.per == "source_model" else within
    yield f"DPO: chosen by the same rule and rejected with {worst}, {each}{window}."
    if dpo.per == "source_model":
        yield _WEIGHTS.format("pair", "chosen reward", dpo.weight_temperature)
