"""The one place that names the order of the stages: collect, sample, verify, reward, select, split, publish."""

import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import polars as pl

from fusedata.card import Facts
from fusedata.collect.prompts import collect as collect_prompts
from fusedata.collect.stage import Corpora, Funnel, collected, is_here, locate_corpus
from fusedata.dataset import Datasets, assemble, run_tables
from fusedata.errors import ConfigError
from fusedata.ledger import Difference, ledger, redone, revisions, stand_ins
from fusedata.plan import Advance, unfinished
from fusedata.profile import Profile, differences, effective
from fusedata.publish.stage import publish
from fusedata.recipe import Correctness, Recipe
from fusedata.reward.models import make_reward
from fusedata.reward.protocol import RewardModel
from fusedata.reward.stage import reward
from fusedata.sample.engines import make_engine
from fusedata.sample.protocol import Engine
from fusedata.sample.stage import sample, todo
from fusedata.schema import PROMPTS, RESPONSES, REWARDS, VERDICTS
from fusedata.store import Parts, Run, count, read_run, write_run
from fusedata.verify.math_answer import MathVerifier
from fusedata.verify.stage import gold_check, verify

STAGES = {
    "prompts": ("prompts", "dropped"),
    "responses": ("responses", "verdicts", "rewards"),
    "verdicts": ("verdicts",),
    "rewards": ("rewards",),
}
"""Stages that can be made anew, each with the tables that follow from it."""


class Reporter(Protocol):
    """Told what a build does; the library itself is silent."""

    def changed(self, fields: Sequence[Difference], redone: Sequence[str]) -> None:
        """Hear, before anything is done, what differs from the run's last build and which tables are made anew."""
        ...

    def stage(self, name: str, total: int | None) -> AbstractContextManager[Advance]:
        """Hear that a stage begins, with `total` rows to do (None: not known), and be told of progress in it."""
        ...


class Silent:
    """A reporter that says nothing."""

    def changed(self, fields: Sequence[Difference], redone: Sequence[str]) -> None:
        """Say nothing."""

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[Advance]:  # noqa: ARG002 - the protocol's signature
        """Say nothing."""
        yield lambda _: None


@dataclass(frozen=True)
class Build:
    """A recipe under a profile. The makers of engine and reward model are the seams that tests replace."""

    asked: Recipe
    profile: Profile
    make_engine: Callable[..., Engine] = make_engine
    make_reward: Callable[..., RewardModel] = make_reward
    reporter: Reporter = field(default_factory=Silent)
    typed: tuple[str, str] | None = None
    """How recipe and profile are named on a command line, for `status` to say how to go on."""

    def recipe(self, limit: int | None = None) -> Recipe:
        """Give the recipe in force: with the profile's stand-ins, and cut to `limit` prompts. Raises ConfigError."""
        recipe = effective(self.asked, self.profile)
        return recipe.model_copy(update={"limit": limit}) if limit else recipe

    def run(self, out: Path, *, limit: int | None = None, force: Collection[str] = ()) -> Datasets:
        """Build into the run folder `out`, going on where an earlier build stopped.

        `limit` keeps so many prompts; `force` names STAGES to make anew. Raises FusedataError; what was finished stays.
        """
        recipe = self.recipe(limit)
        _check_stages(force)
        engines = {model.id: self.make_engine(model, self.profile) for model in recipe.source_models}
        scorer = self.make_reward(recipe.reward, self.profile.reward) if recipe.reward else None
        with write_run(out, recipe.name) as run:
            corpora = self._located(recipe)
            self._begin(run, recipe, corpora, engines, scorer)
            for stage in force:
                _forget(run, stage)
            with _verifier(self.profile) as verifier:
                gold = (lambda answers: gold_check(verifier, answers)) if recipe.correctness else None
                found = collected(run, recipe, corpora, gold, self.reporter.stage)
                work = _Work(run, recipe, self.reporter, *found)
                work.sample(engines)
                if recipe.correctness:
                    work.verify(recipe.correctness, verifier)
            if scorer:
                work.reward(scorer, self.profile.reward.batch_size)
            return work.publish(self.asked, self.profile)

    def plan(self, *, limit: int | None = None) -> list[dict[str, object]]:
        """Say what `run` would draw at most, into an empty run, and write nothing: a row a source model.

        Prompts are counted where the corpora lie on this machine; for a corpus on a hub, which is not fetched, the
        recipe's `take` stands in. `prompts` and what follows from it is None where neither tells.
        """
        recipe = self.recipe(limit)
        prompts = self._count(recipe)
        return [
            {
                "source_model": model.id,
                "prompts": prompts,
                "samples": model.samples,
                "requests": None if prompts is None else prompts * model.samples,
                "completion_tokens_at_most": None if prompts is None else prompts * model.samples * model.max_tokens,
            }
            for model in recipe.source_models
        ]

    def _count(self, recipe: Recipe) -> int | None:
        """Count the prompts to sample; None where a corpus on a hub has no `take`."""
        here = [corpus for corpus in recipe.corpora if is_here(corpus, self.profile)]
        corpora = [(corpus, locate_corpus(corpus, self.profile)) for corpus in here]
        unchecked = (lambda answers: (None for _ in answers)) if recipe.correctness else None
        found = collect_prompts(corpora, recipe, unchecked).prompts
        taken = [corpus.take for corpus in recipe.corpora if corpus not in here and corpus.sampled]
        if None in taken:
            return None
        return min(found.filter("sampled").height + sum(t for t in taken if t), recipe.limit or sys.maxsize)

    def _located(self, recipe: Recipe) -> Corpora:
        with self.reporter.stage("find corpora", None):
            return [(corpus, locate_corpus(corpus, self.profile)) for corpus in recipe.corpora]

    def _begin(
        self, run: Run, recipe: Recipe, corpora: Corpora, engines: dict[str, Engine], scorer: RewardModel | None
    ) -> None:
        """Put the ledger of this build in force, after telling what a changed recipe makes anew."""
        identities = {model: engine.identity() for model, engine in engines.items()}
        state = ledger(self.asked, recipe, self.profile, corpora, identities, scorer.identity() if scorer else None)
        state["typed"] = self.typed
        if run.state:
            fields, again = differences(run.state["recipe"], state["recipe"]), redone(run.state, state)
            if fields or again:
                self.reporter.changed(fields, again)
        run.begin(state)


@dataclass(frozen=True)
class _Work:
    """The stages of one build, on the prompts that were collected."""

    run: Run
    recipe: Recipe
    reporter: Reporter
    prompts: pl.DataFrame
    funnel: Funnel

    def sample(self, engines: dict[str, Engine]) -> None:
        for model in self.recipe.source_models:
            engine, parts = engines[model.id], self.run.parts("responses", model.id, RESPONSES)
            missing = todo(self.prompts, model.id, model.samples, engine.batch_size, parts).height
            if missing:
                with self.reporter.stage(f"sample {model.id}", missing) as advance:
                    seed = self.recipe.seed
                    sample(self.prompts, model.id, model.samples, engine, parts, seed=seed, advance=advance)
            engine.close()

    def verify(self, correctness: Correctness, verifier: MathVerifier) -> None:
        for responses, parts, advance in self._unfinished("verdicts", VERDICTS):
            verify(self.prompts, responses, parts, verifier, correctness.check, advance)

    def reward(self, scorer: RewardModel, batch_size: int) -> None:
        for responses, parts, advance in self._unfinished("rewards", REWARDS):
            reward(self.prompts, responses, parts, scorer, batch_size, advance)

    def _unfinished(self, stage: str, schema: pl.Schema) -> Iterator[tuple[Parts, Parts, Advance]]:
        """Give each source of responses that `stage` has not finished."""
        for label in self.run.labels("responses"):
            responses, parts = self.run.parts("responses", label, RESPONSES), self.run.parts(stage, label, schema)
            missing = unfinished(self.prompts, responses, parts).height
            if missing:
                with self.reporter.stage(f"{stage} of {label}", missing) as advance:
                    yield responses, parts, advance

    def publish(self, asked: Recipe, profile: Profile) -> Datasets:
        with self.reporter.stage("select, split, write", None):
            datasets = assemble(run_tables(self.run, self.prompts), self.recipe)
            replaced = stand_ins(asked, self.recipe)
            states = revisions(self.run.state)
            facts = Facts(self.recipe, profile.name, replaced, self.funnel, datasets.places, states)
            publish(self.run.root / "dataset", datasets, facts)
        return datasets


def failures(root: Path) -> int:
    """Count the samples of a run that failed and are tried again by the next build. Raises RunError."""
    run = read_run(root)
    parts = [run.parts("responses", label, RESPONSES) for label in run.labels("responses")]
    return sum(count(table.scan("failed"), table) for table in parts)


def _verifier(profile: Profile) -> MathVerifier:
    limits = profile.verification
    return MathVerifier(workers=limits.workers, timeout=limits.timeout, memory_mb=limits.memory_mb)


def _check_stages(names: Collection[str]) -> None:
    unknown = sorted(set(names) - set(STAGES))
    if unknown:
        raise ConfigError(f"--force-stage {unknown[0]}: unknown stage; there are {', '.join(STAGES)}.")


def _forget(run: Run, stage: str) -> None:
    """Remove the tables of `stage` and those made from them."""
    for table in STAGES[stage]:
        for label in run.labels(table):
            shutil.rmtree(run.parts(table, label, PROMPTS).folder, ignore_errors=True)
