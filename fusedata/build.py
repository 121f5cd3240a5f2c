"""The one place that names the order of the stages: collect, sample, screen, verify, reward, select, split, publish."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from fusedata.collect.decontamination import benchmarks
from fusedata.collect.stage import Corpora, collected, is_here, locate_corpus
from fusedata.completeness import is_complete
from fusedata.contamination.sources import Shelf
from fusedata.dataset import Datasets
from fusedata.differences import differences
from fusedata.errors import ConfigError, RunError
from fusedata.estimate import Estimate, estimate
from fusedata.ledger import (
    FOUND_OF_REWARDS,
    Difference,
    ledger,
    redone,
)
from fusedata.on_ray import OnRay, Seams
from fusedata.opening import write_run
from fusedata.plan import Advance, Reporter
from fusedata.profile import Profile, effective
from fusedata.readers import to_try_again
from fusedata.recipe import Correctness, Recipe
from fusedata.reward.deferred import Deferred
from fusedata.reward.models import make_reward
from fusedata.reward.protocol import RewardModel
from fusedata.sample.engines import make_engine
from fusedata.sample.protocol import Engine
from fusedata.schema import PROMPTS, RESPONSES
from fusedata.shards import Shard
from fusedata.storage import remove
from fusedata.store import Run, read_run
from fusedata.trial import Stopwatch, Trial, read_trial
from fusedata.verify.checks import Check, opened
from fusedata.work import Work

STAGES = {
    "prompts": ("prompts", "dropped"),
    "responses": ("responses", "verdicts", "rewards", "flaws"),
    "verdicts": ("verdicts",),
    "rewards": ("rewards",),
    "flaws": ("flaws",),
}
"""Stages that can be made anew, each with the tables that follow from it."""


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
    """A recipe under a profile. The makers of engine, reward model and check are the seams that tests replace."""

    asked: Recipe
    profile: Profile
    make_engine: Callable[..., Engine] = make_engine
    make_reward: Callable[..., RewardModel] = make_reward
    reporter: Reporter = field(default_factory=Silent)
    open_check: Callable[[Correctness | None, Profile], AbstractContextManager[Check | None]] = opened
    on_ray: bool = False
    """Do all but the selection on a Ray cluster; the makers must be such that its workers can import them."""
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
        datasets = self._run(out, limit, force, None)
        assert datasets
        return datasets

    def run_shard(self, out: Path, shard: Shard, *, limit: int | None = None) -> Datasets | None:
        """Build one shard into the run folder `out`, beside other shards or after them.

        The last one to finish gives the datasets; None: other shards are at work, or were not built yet. Raises
        FusedataError, also where the others build something else.
        """
        if self.on_ray:
            raise ConfigError("--shard shares a build out without a cluster: leave out --on ray, or --shard.")
        return self._run(out, limit, (), shard)

    def _run(self, out: Path, limit: int | None, force: Collection[str], shard: Shard | None) -> Datasets | None:
        recipe = self.recipe(limit)
        _check_stages(force)
        engines = {model.id: self.make_engine(model, self.profile) for model in recipe.source_models}
        scorer = self._scorer(recipe)
        out = out.absolute() if self.on_ray else out  # workers are in folders of their own
        with self._opened(out, recipe, shard) as run, self._cluster(recipe, run) as cluster:
            with self.open_check(recipe.correctness, self.profile) as check:
                corpora, shelf = self._located(recipe)
                self._begin(run, recipe, corpora, engines, scorer, check, shelf)
                for stage in force:
                    _forget(run, stage)
                gold = check.gold if check else None
                elsewhere = partial(cluster.collect, corpora) if cluster else None
                funnel = collected(run, recipe, corpora, gold, shelf, self.reporter.stage, elsewhere)
                work = Work(run, recipe, self.reporter, funnel, cluster)
                work.carry(corpora)
                assert run.writer
                run.writer.share()
                work.sample(engines)
                work.screen()
                if check and recipe.correctness:
                    work.verify(recipe.correctness.check, check)
            if scorer:
                work.reward(scorer, self.profile.reward.batch_size)
            if shard:
                work = replace(work, run=replace(run, shard=None))
                if not (run.writer.last() and is_complete(work.run, recipe, work.prompts)):
                    return None
            return work.publish(self.asked, self.profile)

    def _scorer(self, recipe: Recipe) -> RewardModel | None:
        if recipe.reward is None:
            return None
        make = partial(self.make_reward, recipe.reward, self.profile.reward)
        is_asked = recipe.reward.is_asked(recipe.source_models, recipe.corpora)
        return make() if is_asked else Deferred(recipe.reward.model, make)

    @contextmanager
    def _opened(self, out: Path, recipe: Recipe, shard: Shard | None) -> Iterator[Run]:
        with ExitStack() as stack:
            with self.reporter.stage("wait for shards that prepare the run", None) if shard else nullcontext():
                run = stack.enter_context(write_run(out, recipe.name, shard))
            yield run

    def plan(self, root: Path, *, limit: int | None = None, calibrate: int | None = None) -> Estimate:
        """Reckon what `run` would take, and write nothing; finished samples in the run `root` are not counted again.

        `calibrate` makes a real build of so many prompts first, beside `root`, and measures it. Raises FusedataError.
        """
        measured = self._trial(root.with_name(f"{root.name}-calibration"), calibrate) if calibrate else None
        return estimate(self.recipe(limit), self.profile, root, measured)

    def _trial(self, root: Path, prompts: int) -> Trial:
        watch = Stopwatch(self.reporter)
        datasets = replace(self, reporter=watch).run(root, limit=prompts, force=("responses",))
        return read_trial(root, self.recipe(), watch.rates, datasets.counts)

    def _located(self, recipe: Recipe) -> tuple[Corpora, Shelf | None]:
        with self.reporter.stage("find corpora", None):
            corpora = [(corpus, locate_corpus(corpus, self.profile)) for corpus in recipe.corpora]
            fetched = not all(is_here(corpus, self.profile) for corpus in recipe.corpora)
            return corpora, benchmarks(recipe, self.profile, fetched=fetched)

    def _cluster(self, recipe: Recipe, run: Run) -> AbstractContextManager[OnRay | None]:
        if not self.on_ray:
            return nullcontext()
        return OnRay(Seams(recipe, self.profile, self.make_engine, self.make_reward, self.open_check), run)

    def _begin(
        self,
        run: Run,
        recipe: Recipe,
        corpora: Corpora,
        engines: dict[str, Engine],
        scorer: RewardModel | None,
        check: Check | None,
        shelf: Shelf | None,
    ) -> None:
        """Put the ledger of this build in force, after telling what a changed recipe makes anew."""
        identities = {model: engine.identity() for model, engine in engines.items()}
        judges = scorer.identity() if scorer else None, check.identity if check else None
        held = shelf.revisions() if shelf else {}
        state = ledger(self.asked, recipe, self.profile, corpora, identities, *judges, held)
        state |= {"typed": self.typed, **{key: run.state.get(key, {}) for key in FOUND_OF_REWARDS}}
        if run.state:
            fields, again = differences(run.state["recipe"], state["recipe"]), redone(run.state, state)
            if (fields or again) and run.writer and not run.writer.alone:
                what = again[0] if again else f"{fields[0][0]} differs"
                remedy = "give all shards the same recipe, profile and fusedata"
                raise RunError(f"{run.root}: other shards are building something else ({what}); {remedy}.")
            if fields or again:
                self.reporter.changed(fields, again)
        run.begin(state)


def failures(root: Path) -> int:
    """Count the samples of a run that failed and are tried again by the next build. Raises RunError."""
    return to_try_again(read_run(root), "responses", RESPONSES)


def _check_stages(names: Collection[str]) -> None:
    unknown = sorted(set(names) - set(STAGES))
    if unknown:
        raise ConfigError(f"--force-stage {unknown[0]}: unknown stage; there are {', '.join(STAGES)}.")


def _forget(run: Run, stage: str) -> None:
    """Remove the tables of `stage` and those made from them."""
    for table in STAGES[stage]:
        for label in run.labels(table):
            remove(run.parts(table, label, PROMPTS).folder)
