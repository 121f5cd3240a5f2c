"""Whether anything of a run is left to do, before its dataset is written."""

import polars as pl

from fusedata.plan import unfinished
from fusedata.recipe import Recipe
from fusedata.sample.plan import planned
from fusedata.schema import FLAWS, RESPONSES, REWARDS, VERDICTS
from fusedata.split import asked
from fusedata.store import Run

_OF_RESPONSES = {"flaws": FLAWS, "verdicts": VERDICTS, "rewards": REWARDS}


def is_complete(run: Run, recipe: Recipe, prompts: pl.DataFrame) -> bool:
    """Whether every response to `prompts` was tried, and every stage has said something of each. Raises RunError."""
    for model in recipe.source_models:
        parts = run.parts("responses", model.id, RESPONSES)
        if planned(asked(prompts, recipe, model.id), model.id, model.samples, 1, parts, "*").missing:
            return False
    return not any(
        unfinished(prompts, run.parts("responses", label, RESPONSES), run.parts(stage, label, schema))
        for stage, schema in _OF_RESPONSES.items()
        for label in run.labels(stage)
    )
