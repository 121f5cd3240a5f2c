"""Corpora into the tables of a run: PROMPTS, DROPPED, and the RESPONSES that corpora carry."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import orjson
import polars as pl

from fusedata.assets import asset
from fusedata.collect.carried import carried, carried_label
from fusedata.collect.decontamination import held_against, report
from fusedata.collect.filters import make_filters, near_duplicates
from fusedata.collect.gold import GoldCheck, gold_check
from fusedata.collect.locate import Located, locate
from fusedata.collect.prompts import Collected, collect
from fusedata.collect.protocol import PromptFilter
from fusedata.contamination.overlap import Item
from fusedata.contamination.report import write_report
from fusedata.contamination.sources import Shelf, read_items
from fusedata.corpus import Corpus
from fusedata.plan import Advance
from fusedata.profile import Profile
from fusedata.recipe import Recipe, Reward
from fusedata.schema import DROPPED, KEY, PROMPTS, RESPONSES, REWARDS, keys_digest
from fusedata.store import Parts, Run, count, writing
from fusedata.store import collect as read

Corpora = Sequence[tuple[Corpus, Located]]
Funnel = list[tuple[str, str, int]]
StageReport = Callable[[str, int | None], AbstractContextManager[Advance]]

_CARRIED = "carried"
"""What the names of parts of REWARDS begin with that a corpus gave; others are the reward model's."""


def corpus_path(corpus: Corpus) -> Path | None:
    """Where the recipe says that a corpus lies on this machine; None: on a hub."""
    if corpus.path and corpus.path.startswith("embedded:"):
        return asset("recipes", "embedded", corpus.path.removeprefix("embedded:"))
    return Path(corpus.path) if corpus.path else None


def locate_corpus(corpus: Corpus, profile: Profile) -> Located:
    """Find a corpus where recipe and profile say that it is, fetching it from a hub. Raises CorpusError, HubError."""
    return locate(
        corpus.id,
        files=corpus.files,
        split=corpus.split,
        path=corpus_path(corpus),
        mirror=Path(profile.corpora) if profile.corpora else None,
        hub=profile.hub,
        modelscope_id=corpus.modelscope,
        revision=corpus.revision if profile.hub == "huggingface" else corpus.modelscope_revision,
    )


def is_here(corpus: Corpus, profile: Profile) -> bool:
    """Whether a corpus lies on this machine, and is not fetched from a hub."""
    twin = Path(profile.corpora or "").expanduser() / corpus.id.replace("/", "__")
    return corpus.path is not None or (profile.corpora is not None and twin.is_dir())


def prompt_filters(
    recipe: Recipe,
    gold: GoldCheck | None,
    items: Sequence[Item],
) -> list[PromptFilter]:
    """List what a prompt must pass, in this order: the cheap first, and what remembers its prompts last.

    `items` are the texts of benchmarks that it must not share text with.
    """
    return [
        *make_filters(recipe.filters),
        *held_against(items, recipe.decontamination),
        *([gold_check(gold)] if gold else []),
        *([near_duplicates(recipe.filters.near_duplicates)] if recipe.filters.near_duplicates else []),
    ]


Collecting = Callable[[Sequence[Item]], Funnel | None]
"""Writes PROMPTS and DROPPED, held against these texts, and gives the funnel; None: it is to be done here."""


def collected(
    run: Run,
    recipe: Recipe,
    corpora: Corpora,
    gold: GoldCheck | None,
    shelf: Shelf | None,
    stage: StageReport,
    elsewhere: Collecting | None = None,
) -> Funnel:
    """Give the funnel, filling PROMPTS and DROPPED where they are not whole, here or `elsewhere`.

    `shelf` holds the benchmarks that prompts are held against; `stage` is told what is done. Raises CorpusError,
    RunError.
    """
    parts = run.parts("prompts", "", PROMPTS)
    finished = parts.folder / "funnel.json"
    funnel = _funnel(finished)
    if funnel is None or sum(n for _, what, n in funnel if what == "prompts") != count(parts.scan(), parts):
        with stage("collect", None):
            items, shelf = read_items(shelf) if shelf else ([], None)
            funnel = elsewhere(items) if elsewhere else None
            if funnel is None:
                found = collect(corpora, recipe, prompt_filters(recipe, gold, items))
                write_prompts(run, found)
                funnel = found.funnel
            if shelf:
                dropped = run.parts("dropped", "", DROPPED)
                write_report(run, report(shelf, read(dropped.scan().select("reason"), [dropped])))
            with writing(finished) as file:
                file.write(orjson.dumps(funnel))
    return funnel


def write_prompts(run: Run, found: Collected) -> None:
    """Write PROMPTS and DROPPED. Raises RunError."""
    run.parts("prompts", "", PROMPTS).write("all", found.prompts)
    run.parts("dropped", "", DROPPED).write("all", found.dropped)


def _funnel(path: Path) -> Funnel | None:
    """Read a funnel; None where there is none, or a broken one."""
    try:
        return [(corpus, what, number) for corpus, what, number in orjson.loads(path.read_bytes())]
    except (OSError, ValueError):
        return None


def carry(run: Run, corpus: Corpus, located: Located, asked: Reward | None) -> Callable[[], None] | None:
    """Give what writes the responses that `corpus` carries, and their rewards, that are not there; None: all are.

    What it gives raises CorpusError, RunError.
    """
    source, reward = corpus.responses, asked.carried_by(corpus) if asked else None
    prompts = run.parts("prompts", "", PROMPTS).scan()
    if source is None:
        return None
    label = carried_label(corpus)
    parts = run.parts("responses", label, RESPONSES)
    rewards = run.parts("rewards", label, REWARDS) if reward else None
    own = parts.asked(prompts)
    tables = [(parts, ""), *([(rewards, _CARRIED)] if rewards else [])]
    name = f"whole-{run.parts('prompts', '', PROMPTS).folder.name}.json"
    if all(_note(table.folder / name) == str(_held(table, kind, own)) for table, kind in tables):
        return None

    def write() -> None:
        done = [table.done() for table, _ in tables]
        for answers in carried(corpus, source, located, own.select("prompt_id").collect(), reward):
            for (table, kind), known, rows in zip(tables, done, answers, strict=False):
                new = rows.join(known, on=KEY, how="anti", maintain_order="left")
                if new.height:
                    table.write(f"{kind}-{keys_digest(new)}" if kind else keys_digest(new), new)
        for table, kind in tables:
            with writing(table.folder / name) as file:
                file.write(str(_held(table, kind, own)).encode())

    return write


def _note(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def _held(table: Parts, kind: str, prompts: pl.LazyFrame) -> int:
    """Count the rows of a table, in its parts of this kind, that are of one of `prompts`."""
    asked = prompts.select("prompt_id")
    rows = table.scan_paths(table.paths(f"part-{kind}" if kind else "part"))
    return count(rows.join(asked, on="prompt_id", how="semi"), table)
