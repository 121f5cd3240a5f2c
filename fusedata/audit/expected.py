"""What a dataset is held to: its recipe's rules where there is one, else what anybody expects."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fusedata.config import validate
from fusedata.errors import FusedataError
from fusedata.recipe import Recipe

MAX_TOKENS = 2_048
"""Tokens that both stages of the published training take of a conversation (METHOD: training)."""


@dataclass(frozen=True)
class Expected:
    """What rows are held to; None: nothing is known, so nothing is held against them.

    `gap`: chosen minus rejected reward, both ends inclusive. `same_source_model`: both answers of a pair come from one.
    `checked`: chosen and SFT answers passed the correctness check, rejected ones failed it. `shared`: a prompt may feed
    SFT and DPO. `decontaminated`: no prompt is a benchmark's. `languages`: ISO 639-1 codes. `max_tokens`: of a whole
    conversation.
    """

    gap: tuple[float, float] | None = None
    same_source_model: bool | None = None
    checked: bool | None = None
    shared: bool | None = None
    decontaminated: bool | None = None
    languages: tuple[str, ...] = ()
    max_tokens: int = MAX_TOKENS


def of_recipe(recipe: Recipe, max_tokens: int = MAX_TOKENS) -> Expected:
    """Give what a recipe promises of its datasets; pairs of WRPO have two models."""
    dpo = recipe.dpo
    return Expected(
        gap=dpo.reward_gap if dpo else None,
        same_source_model=dpo is None or (dpo.same_source_model and dpo.method != "wrpo"),
        checked=recipe.correctness is not None,
        shared=recipe.split.order == "shared",
        decontaminated=recipe.decontamination.enabled,
        languages=recipe.languages,
        max_tokens=max_tokens,
    )


def expected_of(recipes: Sequence[Recipe], max_tokens: int = MAX_TOKENS) -> Expected:
    """Give what all of these recipes promise of their datasets together; of no recipe, what anybody expects."""
    each = [of_recipe(recipe, max_tokens) for recipe in recipes]
    if not each or all(one == each[0] for one in each):
        return each[0] if each else Expected(max_tokens=max_tokens)
    return Expected(
        shared=any(one.shared for one in each),
        decontaminated=all(one.decontaminated for one in each),
        languages=tuple(dict.fromkeys(code for one in each for code in one.languages)),
        max_tokens=max_tokens,
    )


def recipe_in(folder: Path) -> Recipe | None:
    """Read the recipe that lies in a dataset folder; None where there is none that this fusedata reads."""
    try:
        return validate(Recipe, tomllib.loads((folder / "recipe.toml").read_text(encoding="utf-8")), "recipe.toml")
    except (OSError, ValueError, FusedataError):
        return None
