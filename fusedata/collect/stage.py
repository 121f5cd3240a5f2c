"""Corpora into the tables of a run: PROMPTS, DROPPED, and the RESPONSES that corpora carry."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import orjson
import polars as pl

from fusedata.assets import asset
from fusedata.collect.carried import carried, carried_label
from fusedata.collect.locate import Located, locate
from fusedata.collect.prompts import GoldCheck, collect
from fusedata.corpus import Carried, Corpus
from fusedata.plan import Advance
from fusedata.profile import Profile
from fusedata.recipe import Recipe
from fusedata.schema import DROPPED, KEY, PROMPTS, RESPONSES, keys_digest
from fusedata.store import Parts, Run, count, read_prompts, writing

Corpora = Sequence[tuple[Corpus, Located]]
Funnel = list[tuple[str, str, int]]
StageReport = Callable[[str, int | None], AbstractContextManager[Advance]]


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


def collected(
    run: Run, recipe: Recipe, corpora: Corpora, gold: GoldCheck | None, stage: StageReport
) -> tuple[pl.DataFrame, Funnel]:
    """Give PROMPTS and the funnel, filling PROMPTS, DROPPED and the carried RESPONSES where they are not whole.

    `stage` is told what is done. Raises CorpusError, RunError.
    """
    parts = run.parts("prompts", "", PROMPTS)
    finished = parts.folder / "funnel.json"
    funnel = _funnel(finished)
    if funnel is None or sum(n for _, what, n in funnel if what == "prompts") != count(parts.scan(), parts):
        with stage("collect", None):
            found = collect(corpora, recipe, gold)
            parts.write("all", found.prompts)
            run.parts("dropped", "", DROPPED).write("all", found.dropped)
            with writing(finished) as file:
                file.write(orjson.dumps(found.funnel))
            funnel = found.funnel
    prompts = read_prompts(run)
    for corpus, located in corpora:
        if corpus.responses:
            _carry(run, corpus, corpus.responses, located, prompts, stage)
    return prompts, funnel


def _funnel(path: Path) -> Funnel | None:
    """Read a funnel; None where there is none, or a broken one."""
    try:
        return [(corpus, what, number) for corpus, what, number in orjson.loads(path.read_bytes())]
    except (OSError, ValueError):
        return None


def _carry(
    run: Run, corpus: Corpus, source: Carried, located: Located, prompts: pl.DataFrame, stage: StageReport
) -> None:
    """Write the carried responses of `prompts` that are not there, unless a note says that all are."""
    parts = run.parts("responses", carried_label(corpus), RESPONSES)
    own = parts.asked(prompts)
    note = parts.folder / f"whole-{run.parts('prompts', '', PROMPTS).folder.name}.json"
    if note.exists() and note.read_text() == str(_held(parts, own)):
        return
    with stage(f"read {carried_label(corpus)}", None):
        done = parts.done()
        for frame in carried(corpus, source, located, own):
            new = frame.join(done, on=KEY, how="anti", maintain_order="left")
            if new.height:
                parts.write(keys_digest(new), new)
        with writing(note) as file:
            file.write(str(_held(parts, own)).encode())


def _held(parts: Parts, prompts: pl.DataFrame) -> int:
    """Count the responses of a table that answer one of `prompts`."""
    asked = prompts.lazy().select("prompt_id")
    return count(parts.scan("part").join(asked, on="prompt_id", how="semi"), parts)
