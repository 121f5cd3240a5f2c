"""What run.json records: the recipe in force and, for each table, a fingerprint of just what it depends on."""

import json
from collections.abc import Mapping, Sequence

from fusedata import __version__
from fusedata.collect import filters
from fusedata.collect.carried import carried_label
from fusedata.collect.locate import Located
from fusedata.corpus import Corpus
from fusedata.differences import differences
from fusedata.profile import Profile
from fusedata.recipe import Recipe
from fusedata.screen.stage import RULES
from fusedata.store import State, entry

Difference = tuple[str, object, object]
Identity = Mapping[str, str]


def ledger(
    asked: Recipe,
    recipe: Recipe,
    profile: Profile,
    corpora: Sequence[tuple[Corpus, Located]],
    engines: Mapping[str, Identity],
    scorer: Identity | None,
    check: Mapping[str, object] | None,
    benchmarks: Mapping[str, str],
) -> State:
    """Give run.json for building `recipe`, which `profile` made of the recipe `asked`.

    `engines` identifies the engine of each source model, `scorer` the reward model, `check` what judges responses, and
    `benchmarks` are the states of those that prompts are held against. How many samples are drawn, how many prompts are
    taken, and what is selected, is in no fingerprint of a table that it leaves valid.
    """
    sources = [_corpus_identity(corpus, located) for corpus, located in corpora]
    cut = {"take": [corpus.take for corpus in recipe.corpora], "limit": recipe.limit, "seed": recipe.seed}
    passed = {key: recipe.model_dump(mode="json", include={key})[key] for key in ("filters", "decontamination")}
    passed["rules"] = filters.RULES
    prompts = entry({"corpora": sources, "check": check, **cut, **passed, "benchmarks": dict(benchmarks)})
    responses = _carried(corpora, sources) | _sampled(recipe, engines)
    tables: State = {"prompts": {"": prompts}, "dropped": {"": prompts}, "responses": responses}
    if check:
        tables["verdicts"] = _made_from(responses, {"check": check})
    if recipe.screen:
        tables["flaws"] = _made_from(responses, {"screen": recipe.screen.model_dump(mode="json"), "rules": RULES})
    if scorer:
        tables["rewards"] = _made_from(responses, scorer, _carried_rewards(corpora, recipe))
    return {
        "fusedata": __version__,
        "recipe": recipe.model_dump(mode="json", exclude_none=True),
        "profile": profile.name,
        "stand_ins": [list(difference) for difference in stand_ins(asked, recipe)],
        "tables": tables,
    }


def revisions(state: State) -> dict[str, str]:
    """Give the exact state of each corpus and model that a ledger names: a hub's commit, or a digest of the files."""
    tables = state["tables"]
    (prompts,) = tables["prompts"].values()
    found = {corpus["id"]: corpus["revision"] for corpus in prompts["identity"]["corpora"]}
    found |= {m: t["identity"]["weights"] for m, t in tables["responses"].items() if "weights" in t["identity"]}
    scorers = [table["identity"] for table in tables.get("rewards", {}).values()]
    return found | {f"{s['name']} (body)": s["weights"] for s in scorers if "weights" in s}


FOUND_OF_REWARDS = ("reward_tolerance", "reward_self_test")
"""What run.json keeps of the reward models that were loaded, by their names: no build forgets it."""


def reward_self_test(state: State) -> str:
    """Say what the self-test of the model in force found when it was loaded; "" where it has none, or never was."""
    known: dict[str, str] = state.get("reward_self_test", {})
    return "; ".join(known[name] for name in sorted(_scorers(state)) if name in known)


def _scorers(state: State) -> set[str]:
    return {table["identity"]["name"] for table in state["tables"].get("rewards", {}).values()}


def reward_tolerance(state: State) -> float:
    """Give the most that the shape of a batch was found to move a reward of the model in force."""
    scorers = _scorers(state)
    known: dict[str, float] = state.get("reward_tolerance", {})
    return max((known.get(name, 0.0) for name in scorers), default=0.0)


def stand_ins(asked: Recipe, built: Recipe) -> list[Difference]:
    """List what a profile replaced in the recipe that was asked for; `limit` is no stand-in."""
    before, after = (r.model_dump(mode="json", exclude={"limit"}, exclude_none=True) for r in (asked, built))
    return differences(before, after)


def redone(before: State, after: State) -> list[str]:
    """Say which tables are made anew or added to, each with the fields that make it so."""
    lines = []
    for stage, tables in after["tables"].items():
        old = before["tables"].get(stage, {})
        for label, new in tables.items():
            if change := _change(old.get(label), new):
                lines.append(f"{stage}{f' of {label}' if label else ''}: {change}")
    return lines


def _change(old: State | None, new: State) -> str:
    """Say in words what becomes of a table; empty: nothing."""
    if old is None:
        return "new"
    if old["fingerprint"] != new["fingerprint"]:
        return f"made anew ({_changed_fields(old, new)})"
    more = new.get("samples", 0) - old.get("samples", 0)
    return f"{more} more samples a prompt" if more > 0 else ""


def _changed_fields(before: State, after: State) -> str:
    identities = [json.loads(json.dumps(table["identity"])) for table in (before, after)]
    return ", ".join(key for key, _, _ in differences(*identities))


def _carried(corpora: Sequence[tuple[Corpus, Located]], sources: Sequence[Mapping[str, object]]) -> State:
    aside = {"license", "reward"}
    return {
        carried_label(corpus): entry({"corpus": source, "responses": corpus.responses.model_dump(exclude=aside)})
        | {"corpus": corpus.id}
        for (corpus, _), source in zip(corpora, sources, strict=True)
        if corpus.responses
    }


def _sampled(recipe: Recipe, engines: Mapping[str, Identity]) -> State:
    aside = {"samples", "license", "revision"}
    sampling = {m.id: m.model_dump(exclude=aside, exclude_none=True) for m in recipe.source_models}
    return {
        model.id: entry({"sampling": sampling[model.id], "seed": recipe.seed, **engines[model.id]})
        | {"samples": model.samples}
        for model in recipe.source_models
    }


def _made_from(
    responses: State, identity: Mapping[str, object], more: Mapping[str, Mapping[str, object]] | None = None
) -> State:
    """Give the tables that judge `responses`; `more` is what some depend on besides, by label."""
    return {
        label: table | entry({"responses": table["fingerprint"], **identity, **(more or {}).get(label, {})})
        for label, table in responses.items()
    }


def _carried_rewards(corpora: Sequence[tuple[Corpus, Located]], recipe: Recipe) -> dict[str, dict[str, object]]:
    """What rewards depend on where the corpus gives them."""
    held = {carried_label(corpus): recipe.reward.carried_by(corpus) if recipe.reward else None for corpus, _ in corpora}
    return {label: {"carried": reward.model_dump()} for label, reward in held.items() if reward}


def _corpus_identity(corpus: Corpus, located: Located) -> dict[str, object]:
    """What the rows of a corpus depend on, whatever is taken of them and wherever they lie on this machine."""
    aside = {"take", "path", "license", "modelscope", "revision", "modelscope_revision", "responses"}
    return {**corpus.model_dump(mode="json", exclude=aside), "revision": located.revision, "names": list(located.names)}
