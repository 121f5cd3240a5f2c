"""What a build will take, told before anything is spent: requests, tokens, GPU-hours, disk, rows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import polars as pl

from fusedata.collect.gold import gold_check
from fusedata.collect.prompts import collect as collect_prompts
from fusedata.collect.stage import is_here, locate_corpus
from fusedata.plan import asked_of
from fusedata.profile import Profile
from fusedata.recipe import Recipe, SourceModel
from fusedata.sample.engines import host_of
from fusedata.schema import RESPONSES
from fusedata.store import count, read_prompts, read_run
from fusedata.trial import Trial

Number = TypeVar("Number", int, float)

PROMPT_TOKENS = 150
"""Tokens of a prompt whose corpus is not on this machine, chat template included: an assumption."""
CHARACTERS_A_TOKEN = 4.0
"""Of English text; what the tokenizers of the published source models come to, roughly."""
TEMPLATE_TOKENS = 30
"""What a chat template adds to a prompt: an assumption."""
COMPLETION_TOKENS = 512
"""Tokens of a response, unless `max_tokens` is less: an assumption."""
BYTES_A_TOKEN, BYTES_A_ROW = 2.0, 220.0
"""On disk, compressed: text, and the rows of RESPONSES, VERDICTS and REWARDS together: assumptions.
English answers were seen to take 0.35 to 0.54 bytes a character, in parts of 256 and of 32 rows."""
JUDGED_A_SECOND = {"math_answer": 20_000, "unit_tests": 100}
"""Responses a core: `benchmarks/math_verification.py` and `benchmarks/sandbox.py` on 2 cores, rounded down."""
RAY_START_SECONDS, RAY_SECONDS_A_RESPONSE = 12, 0.0006
"""On a Ray cluster: until a model's workers run, its weights not loaded yet, and what a response costs a worker beside
the model's own time: `benchmarks/ray_scaling.py` on 2 cores."""


class Yield(NamedTuple):
    """What FuseChat-3.0 published of a corpus: prompts, SFT rows, pairs."""

    prompts: int
    sft: int
    dpo: int


PUBLISHED = {
    "openbmb/UltraFeedback": Yield(51_098, 20_439, 30_659),
    "Magpie-Align/Magpie-Pro-DPO-100K-v0.1": Yield(20_374, 8_149, 12_225),
    "nvidia/HelpSteer2": Yield(9_435, 3_774, 5_661),
    "nvidia/OpenMathInstruct-2": Yield(58_546, 40_188, 11_615),
    "greengerong/leetcode": Yield(2_360, 1_877, 1_236),
    "bigcode/self-oss-instruct-sc2-exec-filter-50k": Yield(13_696, 10_160, 2_732),
    "llamafactory/alpaca_gpt4_zh": Yield(2_471, 2_471, 0),
    "Magpie-Align/Magpie-Qwen2-Pro-200K-Chinese": Yield(7_481, 7_481, 0),
}
"""The README's counts. Of the instruction corpora and the Chinese ones only prompts with a row were counted."""


@dataclass(frozen=True)
class Work:
    """What one model has to do, at most; None: not known.

    `completion_tokens` is expected, `…_at_most` what `max_tokens` allows. For a reward model `requests` are responses
    to score and `prompt_tokens` all that it reads. `done` rows lie in the run already, and are not asked for again.
    """

    model: str
    prompts: int | None
    samples: int
    requests: int | None
    done: int
    prompt_tokens: int | None
    completion_tokens: int | None
    completion_tokens_at_most: int | None
    tokens_per_second: float | None
    gpus: int | None
    side_by_side: int = 1
    """Engines of this model that work at a time: as many as the GPUs of the profile's Ray cluster hold."""
    on_ray: bool = False
    """Whether the profile states a Ray cluster, whose own time is in `hours`."""

    @property
    def hours(self) -> float | None:
        """Hours on the clock, the model's loading not counted."""
        tokens = self.completion_tokens if self.completion_tokens_at_most is not None else self.prompt_tokens
        if tokens is None or self.tokens_per_second is None:
            return None
        ray = RAY_START_SECONDS + RAY_SECONDS_A_RESPONSE * (self.requests or 0) / self.side_by_side
        seconds = tokens / self.tokens_per_second / self.side_by_side
        return (seconds + (ray if self.on_ray and self.requests else 0)) / 3600

    @property
    def gpu_hours(self) -> float | None:
        """Hours times devices."""
        return None if self.hours is None or self.gpus is None else self.hours * self.gpus * self.side_by_side


@dataclass(frozen=True)
class Estimate:
    """What a build will take; `assumptions` say what its numbers rest on."""

    work: tuple[Work, ...]
    disk_bytes: int | None
    sft_rows: int | None
    dpo_pairs: int | None
    verify_core_hours: float | None
    """Of one core that judges every sampled response; 0 where nothing is judged."""
    assumptions: tuple[str, ...]

    @property
    def hours(self) -> float | None:
        """Hours on the clock of the models, one after another."""
        return total(work.hours for work in self.work)

    @property
    def gpu_hours(self) -> float | None:
        """Of all models."""
        return total(work.gpu_hours for work in self.work)


def estimate(recipe: Recipe, profile: Profile, root: Path | None, measured: Trial | None) -> Estimate:
    """Reckon what building `recipe` takes; `root` is its run, whose finished rows are not asked for again.

    Prompts are counted where corpora lie on this machine; for a corpus on a hub, which is not fetched, the recipe's
    `take` stands in. Raises CorpusError.
    """
    held, tokens = _prompts(recipe, profile)
    counts = {corpus.id: held[corpus.id] for corpus in recipe.corpora if corpus.sampled}
    there = total(counts.values())
    prompts = None if there is None else min(there, recipe.limit or there)
    sampled = [
        _sampling(model, profile, _answering(recipe, model, prompts), tokens, _done(root, recipe, model), measured)
        for model in recipe.source_models
    ]
    work = [*sampled, *_scoring(recipe, profile, sampled, held, measured)]
    sft, dpo = _rows(recipe, counts, prompts, measured)
    told = tuple(_assumptions(recipe, profile, work, tokens, measured))
    return Estimate(tuple(work), _disk(sampled, measured), sft, dpo, _judging(recipe, sampled), told)


def longest(plans: Iterable[Estimate]) -> tuple[str, float] | None:
    """Give the model that works longest on the clock, over all of its recipes, and its share.

    None: there is nothing to do, or the hours of some model are not known.
    """
    every = [work for plan in plans for work in plan.work]
    hours: dict[str, float] = {}
    for work in every:
        hours[work.model] = hours.get(work.model, 0.0) + (work.hours or 0.0)
    whole = total(work.hours for work in every)
    most = max(hours, key=lambda model: hours[model], default="")
    return (most, hours[most] / whole) if whole else None


def total(numbers: Iterable[Number | None]) -> Number | None:
    """Add up; None where one is not known."""
    known = list(numbers)
    return None if None in known else sum(known)  # type: ignore[arg-type]


def _judging(recipe: Recipe, sampled: Sequence[Work]) -> float | None:
    if recipe.correctness is None:
        return 0.0
    responses = total(work.requests for work in sampled)
    return None if responses is None else responses / JUDGED_A_SECOND[recipe.correctness.check] / 3600


def _prompts(recipe: Recipe, profile: Profile) -> tuple[dict[str, int | None], float | None]:
    """Count each corpus's prompts (None: not known), and the mean tokens of those that are sampled and were read."""
    here = [corpus for corpus in recipe.corpora if is_here(corpus, profile)]
    unchecked = [gold_check(lambda rows: (None for _ in range(rows.height)))] if recipe.correctness else []
    found = collect_prompts([(c, locate_corpus(c, profile)) for c in here], recipe, unchecked).prompts
    counts = dict(found["corpus"].value_counts().iter_rows())
    mean = found.filter("sampled")["chars"].mean()
    tokens = None if mean is None else float(mean) / CHARACTERS_A_TOKEN + TEMPLATE_TOKENS  # type: ignore[arg-type]
    return {c.id: counts.get(c.id, 0) if c in here else c.take or _published(c.id) for c in recipe.corpora}, tokens


def _published(corpus: str) -> int | None:
    return PUBLISHED[corpus].prompts if corpus in PUBLISHED else None


def _side_by_side(profile: Profile, gpus: int | None, most: int | None) -> int:
    """Say how many workers a cluster runs at a time: `most`, or as many as its GPUs hold."""
    fit = max(profile.ray.gpus // gpus, 1) if profile.ray.gpus and gpus else 1
    return min(most or fit, fit)


def _answering(recipe: Recipe, model: SourceModel, prompts: int | None) -> int | None:
    """Leave out of a target model's prompts those that feed SFT, as `split.asked` does, to within one a corpus."""
    if prompts is None or recipe.dpo is None or recipe.dpo.target != model.id:
        return prompts
    return prompts - int(recipe.split.share * prompts)


def _sampling(
    model: SourceModel,
    profile: Profile,
    prompts: int | None,
    tokens: float | None,
    done: int,
    measured: Trial | None,
) -> Work:
    host, found = host_of(model, profile), measured.models.get(model.id) if measured else None
    expected = found.completion_tokens if found else min(COMPLETION_TOKENS, model.max_tokens)
    read = found.prompt_tokens if found else tokens or PROMPT_TOKENS
    left = None if prompts is None else max(prompts * model.samples - done, 0)
    rate = found.rows_per_second * expected if found and found.rows_per_second else (host.throughput if host else None)
    gpus = host.gpus if host else None
    return Work(
        model=model.id,
        prompts=prompts,
        samples=model.samples,
        requests=left,
        done=done,
        prompt_tokens=None if left is None else round(left * read),
        completion_tokens=None if left is None else round(left * expected),
        completion_tokens_at_most=None if left is None else left * model.max_tokens,
        tokens_per_second=rate,
        gpus=gpus,
        side_by_side=_side_by_side(profile, gpus, profile.ray.engines),
        on_ray=bool(profile.ray.gpus),
    )


def _scoring(
    recipe: Recipe,
    profile: Profile,
    sampled: Sequence[Work],
    held: Mapping[str, int | None],
    measured: Trial | None,
) -> list[Work]:
    """Reckon the reward model's work: every sampled response, and one carried by each prompt of a corpus that does.

    Carried responses whose rewards are carried as well are not scored.
    """
    reward = recipe.reward
    if reward is None or not reward.is_asked(recipe.source_models, recipe.corpora):
        return []
    carried = [held[c.id] for c in recipe.corpora if c.responses and not reward.carried_by(c)]
    asked = [*(work.requests for work in sampled), *carried]
    read = [total((work.prompt_tokens, work.completion_tokens)) for work in sampled]
    read += [None if n is None else n * (PROMPT_TOKENS + COMPLETION_TOKENS) for n in carried]
    found, host = measured.reward if measured else None, profile.reward
    rate = found.rows_per_second * found.prompt_tokens if found and found.rows_per_second else host.throughput
    gpus = None if host.server else int(host.device != "cpu")
    side = _side_by_side(profile, gpus, profile.ray.rewards)
    counts = (None, 1, total(asked), 0, total(read), None, None)
    return [Work(reward.model, *counts, rate, gpus, side, bool(profile.ray.gpus))]


def _done(root: Path | None, recipe: Recipe, model: SourceModel) -> int:
    """Count the responses of `model` in a run whose recipe samples it the same way."""
    if root is None or not (root / "run.json").exists():
        return 0
    run = read_run(root)
    then = [entry for entry in run.state["recipe"]["source_models"] if entry["id"] == model.id]
    aside = {"samples", "license"}
    now = model.model_dump(mode="json", exclude_none=True, exclude=aside)
    if (
        not then
        or {k: v for k, v in then[0].items() if k not in aside} != now
        or model.id not in run.labels("responses")
    ):
        return 0
    parts = run.parts("responses", model.id, RESPONSES)
    asked = asked_of(parts, read_prompts(run), recipe, model.id).lazy().select("prompt_id")
    rows = parts.scan("part").filter(pl.col("sample") < model.samples).join(asked, on="prompt_id", how="semi")
    return count(rows, parts)


def _rows(
    recipe: Recipe, counts: Mapping[str, int | None], prompts: int | None, measured: Trial | None
) -> tuple[int | None, int | None]:
    """Expect so many SFT rows and pairs: by the calibration's shares, else by the published ones of each corpus."""
    if prompts is None:
        return None, None
    if measured and measured.prompts:
        shares = [(prompts, (measured.sft_rows / measured.prompts, measured.dpo_pairs / measured.prompts))]
    elif set(counts) <= set(PUBLISHED) and counts and recipe.limit is None:
        found = [(number or 0, PUBLISHED[corpus]) for corpus, number in counts.items()]
        shares = [(number, (told.sft / told.prompts, told.dpo / told.prompts)) for number, told in found]
    else:
        return None, None
    sft, dpo = (round(sum(number * share[i] for number, share in shares)) for i in (0, 1))
    return sft, dpo if recipe.dpo else 0


def _disk(sampled: Sequence[Work], measured: Trial | None) -> int | None:
    tokens, rows = total(w.completion_tokens for w in sampled), total(w.requests for w in sampled)
    if tokens is None or rows is None:
        return None
    if measured:
        drawn = sum(m.completion_tokens * m.rows for m in measured.models.values())
        return round(measured.disk_bytes * tokens / drawn) if drawn else None
    return round(tokens * BYTES_A_TOKEN + rows * BYTES_A_ROW)


def _assumptions(
    recipe: Recipe, profile: Profile, work: Sequence[Work], tokens: float | None, measured: Trial | None
) -> Iterator[str]:
    if measured:
        yield f"tokens, speed, disk and rows: measured on a real sample of {measured.prompts} prompts"
        return
    if recipe.source_models:
        yield f"{COMPLETION_TOKENS} completion tokens a response, where max_tokens allows them"
        yield (
            f"prompt tokens: {CHARACTERS_A_TOKEN:g} characters each, and {TEMPLATE_TOKENS} for the chat template"
            if tokens
            else f"{PROMPT_TOKENS} tokens a prompt, for the corpora are not on this machine"
        )
    yield "SFT rows and pairs: the shares that FuseChat-3.0 published for each corpus; ?: it published none"
    counted = [c.id for c in recipe.corpora if not (c.take or is_here(c, profile)) and c.id in PUBLISHED]
    if counted:
        yield f"prompts that FuseChat-3.0 counted of {', '.join(counted)}: those that end without a row come on top"
    if any(w.side_by_side > 1 for w in work):
        yield f"--on ray: engines side by side on the cluster's {profile.ray.gpus} GPUs, each as fast as alone"
    if any(w.on_ray for w in work):
        beside = f"{RAY_START_SECONDS} s to start its workers, {RAY_SECONDS_A_RESPONSE * 1000:g} ms a response"
        yield f"--on ray: {beside} beside the model's own time, as measured on ours without a GPU"
    if recipe.correctness:
        rate = JUDGED_A_SECOND[recipe.correctness.check]
        yield f"verification: {rate:,} responses a second on one core, as measured on ours"
    if any(w.tokens_per_second for w in work):
        yield "tokens a second: `throughput` in the profile; the time that models take to load is not counted"
    if any(w.tokens_per_second is None for w in work):
        yield "hours are not known where the profile states no `throughput`: --calibrate N measures it"
