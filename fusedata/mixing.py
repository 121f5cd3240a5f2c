"""A mixture, built: each of its recipes as a run of its own, then the two whole datasets.

RUN/run.json                what was put together last
RUN/<recipe>/               the run of each recipe, as if it were built alone
RUN/dataset/{sft,dpo}       all rows, with a column `recipe`
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import orjson
import polars as pl
import tomli_w

from fusedata import __version__
from fusedata.assets import asset
from fusedata.build import Build, failures
from fusedata.card_parts import license_file
from fusedata.dataset import Datasets
from fusedata.errors import RunError
from fusedata.estimate import Estimate
from fusedata.ledger import Difference, stand_ins
from fusedata.licenses import LICENSE_FILE
from fusedata.mixture import Mixture, members
from fusedata.mixture_card import Whole, card_of, licences_of, render
from fusedata.opening import write_run
from fusedata.plan import Advance, Reporter
from fusedata.profile import Profile
from fusedata.publish.folder import checksums, sums, write_split
from fusedata.readers import KINDS
from fusedata.shards import Shard
from fusedata.store import Run, replacing, writing


@dataclass(frozen=True)
class MixtureBuild:
    """The builds of a mixture's recipes, by name and in order."""

    mixture: Mixture
    builds: Mapping[str, Build]
    typed: tuple[str, str] | None = None
    """How mixture and profile are named on a command line, for `status` to say how to go on."""

    def run(self, out: Path, *, limit: int | None = None, force: Collection[str] = ()) -> Whole:
        """Build every recipe into `out`/<recipe>, going on where an earlier build stopped, then put them together.

        `limit` keeps so many prompts of each recipe; `force` names stages to make anew in each. Raises FusedataError;
        what was finished stays.
        """
        with write_run(out, self.mixture.name) as run:
            self._begin(run, limit)
            parts = {name: build.run(out / name, limit=limit, force=force) for name, build in self.builds.items()}
            return self._put_together(run, parts)

    def run_shard(self, out: Path, shard: Shard, *, limit: int | None = None) -> Whole | None:
        """Build one shard of every recipe, as `Build.run_shard` does; the last one to finish puts them together.

        None: other shards are at work, or were not built yet.
        """
        with write_run(out, self.mixture.name, shard) as run:
            assert run.writer
            self._begin(run, limit)
            run.writer.share()
            for name, build in self.builds.items():
                build.run_shard(out / name, shard, limit=limit)
            if not run.writer.last():
                return None
            ended = {name: build.run_shard(out / name, shard, limit=limit) for name, build in self.builds.items()}
            parts = {name: datasets for name, datasets in ended.items() if datasets}
            return self._put_together(run, parts) if len(parts) == len(ended) else None

    def plan(self, root: Path, *, limit: int | None = None, calibrate: int | None = None) -> dict[str, Estimate]:
        """Reckon what each recipe would take, as `Build.plan` does. Raises FusedataError."""
        plans = {name: build.plan for name, build in self.builds.items()}
        return {name: plan(root / name, limit=limit, calibrate=calibrate) for name, plan in plans.items()}

    def failures(self, root: Path) -> int:
        """Count the samples that failed and are tried again by the next build. Raises RunError."""
        return sum(failures(root / name) for name in self.builds)

    def _begin(self, run: Run, limit: int | None) -> None:
        """Put this mixture in force. Raises RunError where shards are building another one."""
        state = self._state(limit)
        same = all(run.state.get(key) == state[key] for key in ("recipe", "profile"))
        if run.writer and not run.writer.alone and not same:
            remedy = "give all shards the same mixture, profile and limit"
            raise RunError(f"{run.root}: other shards are building something else; {remedy}.")
        run.begin(state)

    def _put_together(self, run: Run, parts: Mapping[str, Datasets]) -> Whole:
        whole = self._whole(parts)
        publish(run.root, whole)
        run.begin(run.state | {"repeated": dict(whole.repeated)})
        return whole

    def _state(self, limit: int | None) -> dict[str, object]:
        mixture = {**self.mixture.model_dump(mode="json"), "recipes": list(self.builds), "limit": limit}
        profile = next(iter(self.builds.values())).profile.name
        return {"fusedata": __version__, "recipe": mixture, "profile": profile, "typed": self.typed, "tables": {}}

    def _whole(self, parts: Mapping[str, Datasets]) -> Whole:
        recipes = {name: build.recipe() for name, build in self.builds.items()}
        sides = {kind: {name: getattr(part, kind) for name, part in parts.items()} for kind in KINDS}
        (sft, dpo), repeated = together([sides[kind] for kind in KINDS])
        changed = [name for name, build in self.builds.items() if stand_ins(build.asked, recipes[name])]
        profile = next(iter(self.builds.values())).profile.name
        return Whole(self.mixture, profile, recipes, parts, repeated, changed, _mixed(sft), _mixed(dpo))


def make_mixture_build(
    mixture: Mixture, profile: Profile, reporter: Reporter, typed: tuple[str, str] | None = None
) -> MixtureBuild:
    """Give the build of a mixture under a profile. Raises ConfigError where a recipe of it is wrong."""
    builds = {}
    for name, (called, recipe) in members(mixture).items():
        own = (called, typed[1]) if typed else None
        builds[name] = Build(recipe, profile, reporter=_Named(name, reporter), typed=own)
    for build in builds.values():
        build.recipe()  # a profile that does not fit the last recipe is told before the first is built
    return MixtureBuild(mixture, builds, typed)


Frames = Mapping[str, pl.DataFrame]


def together(kinds: Sequence[Frames]) -> tuple[list[pl.DataFrame], dict[str, int]]:
    """Put the rows of recipes together, kind by kind: a prompt that has rows in two recipes is kept in the first.

    Each of `kinds` holds a frame (prompt_id, …) a recipe, in the mixture's order. Returns for each kind all rows that
    stay, with a first column `recipe`, and for each recipe the number of prompts that were left to an earlier one.
    """
    rows: list[list[pl.DataFrame]] = [[] for _ in kinds]
    repeated: dict[str, int] = {}
    seen = pl.DataFrame(schema={"prompt_id": pl.String()})
    for name in kinds[0]:
        own = pl.concat([frames[name].select("prompt_id") for frames in kinds]).unique()
        repeated[name] = own.join(seen, on="prompt_id", how="semi").height
        for frames, kept in zip(kinds, rows, strict=True):
            left = frames[name].join(seen, on="prompt_id", how="anti", maintain_order="left")
            kept.append(left.select(pl.lit(name).alias("recipe"), pl.all()))
        seen = pl.concat([seen, own]).unique()
    return [pl.concat(frames, how="diagonal") for frames in rows], repeated


def _mixed(rows: pl.DataFrame) -> pl.DataFrame:
    """Order rows by prompt, and let `test` stay last where recipes have columns that others lack."""
    return rows.select(pl.exclude("test"), "test").sort("prompt_id", maintain_order=True)


def publish(out: Path, whole: Whole) -> None:
    """Write `out`/dataset/sft and /dpo; a dataset without a row is not written. Raises RunError."""
    template = asset("cards", "mixture.md.j2").read_text(encoding="utf-8")
    with replacing(out / "dataset") as new:
        for kind in KINDS:
            rows: pl.DataFrame = getattr(whole, kind)
            if rows.height:
                _publish(new / kind, kind, whole, rows, template, out)


_WRITTEN = frozenset({".md", ".toml", ".svg"})
"""Endings of what a recipe's own dataset holds beside its rows: cards, licences, pictures, the recipe."""


def _publish(folder: Path, kind: str, whole: Whole, rows: pl.DataFrame, template: str, out: Path) -> None:
    splits = {"train": rows.filter(~pl.col("test")), "test": rows.filter("test")}
    data = {split: write_split(folder, split, part.drop("test")) for split, part in splits.items() if part.height}
    _write(folder / "README.md", render(template, kind, whole, data))
    _write(folder / "recipe.toml", tomli_w.dumps(whole.mixture.model_dump() | {"recipes": list(whole.recipes)}))
    for name, part in whole.parts.items():
        if getattr(part, kind).height:
            own = out / name / "dataset" / kind
            for path in sorted(path for path in own.rglob("*") if path.suffix in _WRITTEN):
                inside = str(path).removeprefix(f"{own}/")
                _write((folder / card_of(name)).parent / inside, path.read_text(encoding="utf-8"))
    _write(folder / LICENSE_FILE, license_file(licences_of(rows, whole)))
    every = checksums(folder, known=sums(data.values()))
    _write(folder / "checksums.json", orjson.dumps(every, option=orjson.OPT_INDENT_2).decode() + "\n")


def _write(path: Path, text: str) -> None:
    with writing(path) as file:
        file.write(text.encode())


@dataclass(frozen=True)
class _Named:
    """A reporter that says which recipe a stage belongs to."""

    name: str
    reporter: Reporter

    def changed(self, fields: Sequence[Difference], redone: Sequence[str]) -> None:
        self.reporter.changed([(f"{self.name}: {key}", before, after) for key, before, after in fields], redone)

    def stage(self, name: str, total: int | None) -> AbstractContextManager[Advance]:
        return self.reporter.stage(f"{self.name}: {name}", total)
