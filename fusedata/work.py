"""The stages of one build after its prompts were collected: whatever of each is left to do, here or on a cluster."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from fusedata.candidates import run_tables
from fusedata.card import Facts
from fusedata.collect.carried import carried_label
from fusedata.collect.stage import Corpora, Funnel, carry
from fusedata.contamination.report import read_report
from fusedata.dataset import Datasets, Decided, decide
from fusedata.ledger import revisions, reward_self_test, reward_tolerance, stand_ins
from fusedata.on_ray import OnRay
from fusedata.plan import Advance, Reporter, unfinished
from fusedata.profile import Profile
from fusedata.publish.stage import publish
from fusedata.recipe import Recipe
from fusedata.reward.protocol import RewardModel
from fusedata.reward.stage import reward
from fusedata.sample.plan import planned
from fusedata.sample.protocol import Engine
from fusedata.sample.stage import sample
from fusedata.schema import FLAWS, RESPONSES, REWARDS, VERDICTS
from fusedata.screen.stage import screen
from fusedata.split import asked
from fusedata.store import Parts, Run, read_prompts
from fusedata.verify.checks import Check
from fusedata.verify.stage import verify
from fusedata.winners import winners


@dataclass(frozen=True)
class Work:
    """The stages of a build, on the prompts that were collected, or those of its shard."""

    run: Run
    recipe: Recipe
    reporter: Reporter
    funnel: Funnel
    cluster: OnRay | None = None

    @cached_property
    def prompts(self) -> pl.DataFrame:
        """PROMPTS with its texts. On a cluster, it is asked for only when the dataset is written."""
        prompts = read_prompts(self.run)
        return self.run.shard.prompts(prompts) if self.run.shard else prompts

    def carry(self, corpora: Corpora) -> None:
        """Read what corpora carry of responses and rewards."""
        for corpus, located in corpora:
            if write := carry(self.run, corpus, located, self.recipe.reward):
                with self.reporter.stage(f"read {carried_label(corpus)}", None):
                    if not (self.cluster and self.cluster.carry(corpus, located)):
                        write()

    def sample(self, engines: Mapping[str, Engine]) -> None:
        """Have every source model answer."""
        for model in self.recipe.source_models:
            engine, parts = engines[model.id], self.run.parts("responses", model.id, RESPONSES)
            if self.cluster:
                plan = self.cluster.plan(model, engine.batch_size, parts)
                if plan.missing:
                    with closing(engine), self.reporter.stage(f"sample {model.id}", plan.missing) as advance:
                        self.cluster.sample(plan, model, engine, parts, advance)
                continue
            prompts = asked(self.prompts, self.recipe, model.id)
            if missing := planned(prompts, model.id, model.samples, engine.batch_size, parts).missing:
                with closing(engine), self.reporter.stage(f"sample {model.id}", missing) as advance:
                    seed = self.recipe.seed
                    sample(prompts, model.id, model.samples, engine, parts, seed=seed, advance=advance)

    def screen(self) -> None:
        """Say which responses may not be selected."""
        rules = self.recipe.screen
        if rules and self.cluster:
            for tables, missing, advance in self._together(self.cluster, "flaws", FLAWS):
                self.cluster.screen(tables, missing, advance)
        elif rules:
            for responses, parts, advance in self._apart("flaws", FLAWS):
                screen(self.prompts, responses, parts, rules, advance)

    def verify(self, name: str, check: Check) -> None:
        """Judge the responses."""
        if self.cluster:
            for tables, missing, advance in self._together(self.cluster, "verdicts", VERDICTS):
                self.cluster.verify(tables, missing, check.identity, advance)
            return
        for responses, parts, advance in self._apart("verdicts", VERDICTS):
            verify(self.prompts, responses, parts, check, name, advance)

    def reward(self, scorer: RewardModel, batch_size: int) -> None:
        """Score the responses."""
        tolerance = 0.0
        with closing(scorer):
            if self.cluster:
                for tables, missing, advance in self._together(self.cluster, "rewards", REWARDS):
                    tolerance = self.cluster.reward(tables, missing, scorer, advance)
            else:
                for responses, parts, advance in self._apart("rewards", REWARDS):
                    reward(self.prompts, responses, parts, scorer, batch_size, advance)
        with self.run.turn():
            known = self.run.state["reward_tolerance"]
            noise = max(tolerance, scorer.tolerance, known.get(scorer.name, 0.0))  # loaded, a model may find more
            tested = self.run.state["reward_self_test"] | ({scorer.name: scorer.self_test} if scorer.self_test else {})
            found = {"reward_tolerance": known | {scorer.name: noise}, "reward_self_test": tested}
            self.run.begin(self.run.state | found)

    def _tables(self, stage: str, schema: pl.Schema) -> list[tuple[Parts, Parts]]:
        of, labels = self.run.parts, self.run.labels("responses")
        return [(of("responses", label, RESPONSES), of(stage, label, schema)) for label in labels]

    def _apart(self, stage: str, schema: pl.Schema) -> Iterator[tuple[Parts, Parts, Advance]]:
        """Give each source of responses that `stage` has not finished, one after another."""
        for label, pair in zip(self.run.labels("responses"), self._tables(stage, schema), strict=True):
            if missing := unfinished(self.prompts, *pair):
                with self.reporter.stage(f"{stage} of {label}", missing) as advance:
                    yield *pair, advance

    def _together(
        self, cluster: OnRay, stage: str, schema: pl.Schema
    ) -> Iterator[tuple[list[tuple[Parts, Parts]], int, Advance]]:
        """Give all sources of responses that `stage` has not finished, at once; nothing where there is none."""
        tables = self._tables(stage, schema)
        left = cluster.left(tables)
        if missing := sum(left):
            with self.reporter.stage(f"{stage} on Ray", missing) as advance:
                yield [pair for pair, rows in zip(tables, left, strict=True) if rows], missing, advance

    def publish(self, asked: Recipe, profile: Profile) -> Datasets:
        """Select, split, and write the datasets."""
        with self.reporter.stage("select, split, write", None):
            tables = run_tables(self.run, self.prompts)
            decided = decide(tables, self.recipe)
            with winners(tables, decided, self.recipe, self.run.root) as found:
                return publish(self.run.root / "dataset", found, self._facts(decided, asked, profile))

    def _facts(self, decided: Decided, asked: Recipe, profile: Profile) -> Facts:
        replaced = stand_ins(asked, self.recipe)
        states = revisions(self.run.state)
        noise, tested = reward_tolerance(self.run.state), reward_self_test(self.run.state)
        funnel = [*self.funnel, *((c, f"response screened out: {f} (responses)", n) for c, f, n in decided.flaws)]
        held = read_report(self.run)
        return Facts(self.recipe, profile.name, replaced, funnel, decided.places, states, noise, held, tested)
