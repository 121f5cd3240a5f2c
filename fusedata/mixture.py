"""Mixtures: recipes that are built one by one and put together. A file that holds names, and nothing of a recipe."""

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import Field

from fusedata.assets import asset
from fusedata.config import Model, find, load
from fusedata.corpus import Texts, rebased_path
from fusedata.errors import ConfigError, RunError
from fusedata.recipe import Name, Recipe, load_recipe
from fusedata.store import Run, read_run

_TAKEN = {"dataset"}
"""Folders of a run that are no recipe's."""


class Mixture(Model):
    """Recipes whose datasets make up one SFT and one DPO dataset."""

    name: Name
    description: str = ""
    recipes: Annotated[Texts, Field(max_length=99)]
    """Names of shipped recipes, or paths of .toml files relative to this one. A prompt that gives rows in two of them
    is kept in the first."""


def is_mixture_file(path: Path) -> bool:
    """Whether a TOML file names `recipes`; what cannot be read is none: who loads it is told why."""
    try:
        return "recipes" in tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return False


def is_mixture(run: Run) -> bool:
    """Whether a run folder holds the runs of a mixture."""
    return "recipes" in run.state.get("recipe", {})


def looked_into(root: Path) -> Path:
    """Give the folder whose tables are those of `root`: of a mixture's run its dataset. Raises RunError."""
    if not (root / "run.json").is_file() or not is_mixture(run := read_run(root)):
        return root
    if not (root / "dataset").is_dir():
        recipes = ", ".join(run.state["recipe"]["recipes"])
        raise RunError(f"{root}: is a mixture and has no dataset yet; its recipes have runs of their own: {recipes}.")
    return root / "dataset"


def shipped_mixtures() -> dict[str, Path]:
    """Name and path of every mixture that ships with fusedata, by name."""
    return {path.stem: path for path in _shipped() if is_mixture_file(path)}


def find_named(name: str) -> Path:
    """Path of a recipe or a mixture, given a shipped name or the path of a TOML file. Raises ConfigError."""
    return find("recipe", name, {path.stem: path for path in _shipped()})


def load_named(path: Path) -> Recipe | Mixture:
    """Read a file as what it is. Raises ConfigError with every mistake."""
    return load_mixture(path) if is_mixture_file(path) else load_recipe(path)


def load_mixture(path: Path) -> Mixture:
    """Read a mixture; relative paths of recipes are taken from its folder. Raises ConfigError with every mistake."""
    mixture = load(Mixture, path, {"name": path.stem})
    recipes = tuple(rebased_path(name, path.parent) if name.endswith(".toml") else name for name in mixture.recipes)
    return mixture.model_copy(update={"recipes": recipes})


def members(mixture: Mixture) -> dict[str, tuple[str, Recipe]]:
    """Read the recipes of a mixture: for each name how the mixture names it, and the recipe. Raises ConfigError."""
    found: dict[str, tuple[str, Recipe]] = {}
    for typed in mixture.recipes:
        path = find_named(typed)
        if is_mixture_file(path):
            raise ConfigError(f"mixture {mixture.name}: {typed} is a mixture itself; name its recipes one by one.")
        recipe = load_recipe(path)
        if recipe.name in found or recipe.name in _TAKEN:
            why = "stands twice" if recipe.name in found else "is a folder of every run"
            raise ConfigError(f"mixture {mixture.name}: the name {recipe.name} {why}; give {typed} another `name`.")
        found[recipe.name] = (typed, recipe)
    return found


def _shipped() -> list[Path]:
    return sorted(asset("recipes").glob("*.toml"))
