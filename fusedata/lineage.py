"""Where a row comes from, and why it is this one: a prompt's corpus, and what each source gave. A reader."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import polars as pl

from fusedata.candidates import run_tables
from fusedata.dataset import placed
from fusedata.ledger import revisions
from fusedata.readers import recipe_of
from fusedata.recipe import Recipe
from fusedata.store import Run, read_prompts


@dataclass(frozen=True)
class Offer:
    """What one source of responses gave for a prompt, as if it were the only one.

    `good`, `bad`: responses that may be chosen and rejected: those that passed and failed the check, or all where there
    is none. `high`: the highest reward of the good, `low`: the lowest of the bad. `sft_reason` and `pair_reason` say
    why it gives no SFT row and no pair (None: it does).
    """

    source: str
    responses: int
    good: int
    bad: int
    high: float | None
    low: float | None
    sft_reason: str | None
    pair_reason: str | None

    @property
    def gap(self) -> float | None:
        """The gap of its pair, or of what would have been one."""
        return None if self.high is None or self.low is None else round(self.high - self.low, 9)


@dataclass(frozen=True)
class Lineage:
    """The way from a corpus's row to a prompt's rows in the datasets.

    `revisions`: the exact state of corpus, source models and reward model, where the run knows it.
    """

    recipe: str
    corpus: str
    corpus_row: int
    license: str | None
    reward_model: str | None
    window: tuple[float, float] | None
    revisions: Mapping[str, str]
    offers: tuple[Offer, ...]


def lineage(run: Run, prompt_id: str) -> Lineage | None:
    """Follow a prompt of a run; None where it was dropped before anything was sampled. Raises RunError."""
    recipe, prompts = recipe_of(run), read_prompts(run).filter(pl.col("prompt_id") == prompt_id)
    if prompts.is_empty():
        return None
    corpus, row = prompts.select("corpus", "corpus_row").row(0)
    offers = tuple(_offers(run, prompts, recipe))
    known = revisions(run.state)
    named = [corpus, *(offer.source for offer in offers), *(name for name in known if name.endswith(" (body)"))]
    return Lineage(
        recipe=recipe.name,
        corpus=corpus,
        corpus_row=row,
        license=next((c.license for c in recipe.corpora if c.id == corpus), None),
        reward_model=recipe.reward.model if recipe.reward else None,
        window=recipe.dpo.reward_gap if recipe.dpo else None,
        revisions={name: known[name] for name in dict.fromkeys(named) if name in known},
        offers=offers,
    )


def _offers(run: Run, prompts: pl.DataFrame, recipe: Recipe) -> Iterator[Offer]:
    tables = run_tables(run, prompts)
    for label, own in zip(run.labels("responses"), tables.sources(), strict=True):
        found, selection, _ = placed(own, recipe)
        if found.height:
            yield _offer(label, found, next(selection.reasons.iter_rows(named=True), {}), recipe)


def _offer(label: str, found: pl.DataFrame, reasons: Mapping[str, str | None], recipe: Recipe) -> Offer:
    usable = pl.col("text_id").is_not_null()
    usable &= pl.col("flaw").is_null() if "flaw" in found.columns else True
    checked = recipe.correctness is not None
    good = found.filter(usable & (pl.col("passed") if checked else True))
    bad = found.filter(usable & (~pl.col("passed") if checked else True))
    high, low = good["reward"].max(), bad["reward"].min()
    return Offer(
        source=label,
        responses=found.height,
        good=good.height,
        bad=bad.height,
        high=None if high is None else float(high),  # type: ignore[arg-type]
        low=None if low is None else float(low),  # type: ignore[arg-type]
        sft_reason=reasons.get("sft_reason"),
        pair_reason=reasons.get("pair_reason"),
    )
