"""The numbers of a report, read from a run: keys, rewards, verdicts and lengths, and no text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import orjson
import polars as pl

from fusedata.candidates import Tables, run_tables
from fusedata.dataset import placed
from fusedata.errors import RunError
from fusedata.funnel import composition, dropped
from fusedata.readers import collect_files, of_prompts, recipe_of, scan_dataset
from fusedata.recipe import Recipe
from fusedata.schema import KEY, PROMPTS
from fusedata.store import Run, collect, first_line, read_prompts
from fusedata.svg import Bin

BINS = 32
_EDGE = 0.001
"""Share of the numbers at each end that share the outermost bin, so that a few outliers do not flatten the rest."""


@dataclass(frozen=True)
class OfModel:
    """One source model: its responses, and where its rewards and lengths lie.

    `agreement`: of all its right and wrong responses to one prompt, how often the right one has the higher reward
    (equal rewards count half). `bias`: the correlation of reward and tokens among the responses to one prompt.
    """

    name: str
    responses: int
    passed: int
    judged: int
    scored: int
    mean: float | None
    agreement: float | None
    contrasts: int
    bias: float | None
    rewards: tuple[Bin, ...]
    wrong_rewards: tuple[Bin, ...]
    tokens: tuple[Bin, ...]


@dataclass(frozen=True)
class Win:
    """How often `model` has the higher mean reward than `against`, of the prompts that both answered."""

    model: str
    against: str
    share: float
    prompts: int


@dataclass(frozen=True)
class Figures:
    """What the report states beside single pairs. A tuple of bins is empty where there is nothing to count."""

    recipe: Recipe
    profile: str
    stand_ins: int
    funnel: tuple[tuple[str, str, int], ...]
    composition: tuple[Mapping[str, object], ...]
    rows: Mapping[str, int]
    models: tuple[OfModel, ...]
    wins: tuple[Win, ...]
    gap: tuple[Bin, ...]
    longer: Mapping[str, int]
    length_gap: tuple[Bin, ...]


def figures(run: Run) -> Figures:
    """Read and count. Raises RunError: the run has no dataset, or a file cannot be read."""
    recipe, prompts = recipe_of(run), read_prompts(run)
    tables = run_tables(run, prompts)
    found, _, places = placed(tables, recipe)
    scored = _with_tokens(found, tables)
    pairs, rows = _pairs(run), {kind: _height(run, kind) for kind in ("sft", "dpo")}
    if not any(rows.values()):
        raise RunError(f"{run.root}: has no dataset yet; `fusedata status {run.root}` says what is left.")
    return Figures(
        recipe=recipe,
        profile=str(run.state.get("profile", "")),
        stand_ins=len(run.state.get("stand_ins", ())),
        funnel=(*funnel(run), *dropped(places)),
        composition=tuple(composition(places, recipe)),
        rows=rows,
        models=tuple(_models(scored)),
        wins=tuple(_wins(scored)),
        gap=bins(pairs["chosen_reward"] - pairs["rejected_reward"]),
        longer=_longer(pairs),
        length_gap=bins(pairs["chosen_completion_tokens"] - pairs["rejected_completion_tokens"]),
    )


def funnel(run: Run) -> list[tuple[str, str, int]]:
    """Give what collecting counted: corpus, what, how many. Raises RunError."""
    path = run.parts("prompts", "", PROMPTS).folder / "funnel.json"
    try:
        return [(corpus, what, count) for corpus, what, count in orjson.loads(path.read_bytes())]
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({first_line(error)}); build again.") from error


_NUMBERS = [f"{side}_{name}" for side in ("chosen", "rejected") for name in ("reward", "completion_tokens")]


def _pairs(run: Run) -> pl.DataFrame:
    folder = run.root / "dataset" / "dpo"
    rows = scan_dataset(folder)
    if rows is None:
        kinds = (pl.Float64, pl.Int32, pl.Float64, pl.Int32)
        return pl.DataFrame(schema=dict(zip(_NUMBERS, kinds, strict=True)))
    return collect_files(rows.select(_NUMBERS), [folder])


def _height(run: Run, kind: str) -> int:
    folder = run.root / "dataset" / kind
    rows = scan_dataset(folder)
    return 0 if rows is None else int(collect_files(rows.select(pl.len()), [folder]).item())


def _with_tokens(found: pl.DataFrame, tables: Tables) -> pl.DataFrame:
    """Add the tokens of each response, as its own model's tokenizer counts them."""
    on = [pl.col(name).cast(found.schema[name], strict=False) for name in KEY]
    counting = (of_prompts(table.scan(), table.asked(tables.prompts)) for table in tables.responses)
    tokens = [rows.select(*on, tokens="completion_tokens") for rows in counting]
    answered = found.lazy().filter(pl.col("text_id").is_not_null()).drop("text_id")
    return collect(answered.join(pl.concat(tokens), on=KEY, how="left"), tables.responses)


def _models(rows: pl.DataFrame) -> list[OfModel]:
    edges = {name: _edges(rows[name]) for name in ("reward", "tokens")}
    agreement = {name: (share, n) for name, share, n in _agreement(rows).iter_rows()}
    bias = dict(_bias(rows).iter_rows())
    parts = {str(name): own for (name,), own in rows.group_by("source_model")}
    return [_of_model(name, parts[name], edges, agreement.get(name), bias.get(name)) for name in sorted(parts)]


def _of_model(
    name: str,
    own: pl.DataFrame,
    edges: Mapping[str, Sequence[float]],
    agreement: tuple[float, int] | None,
    bias: float | None,
) -> OfModel:
    wrong = own.filter(~pl.col("passed"))["reward"]
    good = own.filter(pl.col("passed").fill_null(value=True))["reward"]
    mean = own["reward"].mean()
    return OfModel(
        name=name,
        responses=own.height,
        passed=int(own["passed"].sum() or 0),
        judged=own["passed"].count(),
        scored=own["reward"].count(),
        mean=None if mean is None else float(mean),  # type: ignore[arg-type]
        agreement=agreement[0] if agreement else None,
        contrasts=agreement[1] if agreement else 0,
        bias=bias,
        rewards=_counted(good, edges["reward"]),
        wrong_rewards=_counted(wrong, edges["reward"]),
        tokens=_counted(own["tokens"], edges["tokens"]),
    )


def _agreement(rows: pl.DataFrame) -> pl.DataFrame:
    """Count, a model, the pairs of a right and a wrong response to one prompt that the reward orders as the check does.

    By ranks (Mann and Whitney): of r right ones whose ranks add up to s, s - r (r + 1) / 2 contrasts are ordered so.
    """
    group = ["prompt_id", "source_model"]
    judged = rows.filter(pl.col("passed").is_not_null() & pl.col("reward").is_finite())
    both = judged.filter(pl.col("passed").any().over(group) & ~pl.col("passed").all().over(group))
    ranked = both.with_columns(rank=pl.col("reward").rank("average").over(group))
    right = pl.col("passed").sum().cast(pl.Float64)
    sums = ranked.group_by(group).agg(
        ordered=pl.col("rank").filter("passed").sum() - right * (right + 1) / 2,
        contrasts=right * (pl.len() - right),
    )
    found = sums.group_by("source_model").agg(pl.col("ordered", "contrasts").sum())
    return found.select(
        pl.col("source_model").cast(pl.String), pl.col("ordered") / pl.col("contrasts"), pl.col("contrasts").cast(int)
    )


def _bias(rows: pl.DataFrame) -> pl.DataFrame:
    """Correlate reward and tokens a model, both less their means over the prompt's responses."""
    group = ["prompt_id", "source_model"]
    both = rows.filter(pl.col("reward").is_finite() & pl.col("tokens").is_not_null())
    less = both.select(
        "source_model", *(pl.col(name) - pl.col(name).mean().over(group) for name in ("reward", "tokens"))
    )
    found = less.group_by("source_model").agg(bias=pl.corr("reward", "tokens"))
    return found.select(pl.col("source_model").cast(pl.String), pl.when(pl.col("bias").is_finite()).then("bias"))


def _wins(rows: pl.DataFrame) -> list[Win]:
    means = rows.filter(pl.col("reward").is_finite()).group_by("prompt_id", "source_model").agg(pl.col("reward").mean())
    wide = means.with_columns(pl.col("source_model").cast(pl.String)).pivot(
        "source_model", index="prompt_id", values="reward"
    )
    names = sorted(wide.columns[1:])
    wins = []
    for model in names:
        for against in (name for name in names if name != model):
            both = wide.select(a=pl.col(model), b=pl.col(against)).drop_nulls()
            if both.height:
                better = both.select((pl.col("a") > pl.col("b")).sum() + (pl.col("a") == pl.col("b")).sum() / 2).item()
                wins.append(Win(model, against, float(better) / both.height, both.height))
    return wins


def _longer(pairs: pl.DataFrame) -> dict[str, int]:
    more = (pairs["chosen_completion_tokens"] - pairs["rejected_completion_tokens"]).drop_nulls()
    return {"longer": int((more > 0).sum()), "equal": int((more == 0).sum()), "shorter": int((more < 0).sum())}


def bins(values: pl.Series, count: int = BINS) -> tuple[Bin, ...]:
    """Count the finite numbers of a column in equal bins; the outermost ones hold what lies beyond them, too."""
    return _counted(values, _edges(values, count))


def _edges(values: pl.Series, count: int = BINS) -> list[float]:
    numbers = _finite(values)
    if not len(numbers):
        return []
    ends = (numbers.quantile(share, "nearest") for share in (_EDGE, 1 - _EDGE))
    low, high = (float(end) for end in ends if end is not None)
    return [low + (high - low) * i / count for i in range(count + 1)] if high > low else [low, low]


def _counted(values: pl.Series, edges: Sequence[float]) -> tuple[Bin, ...]:
    numbers = _finite(values)
    if not edges or not len(numbers):
        return ()
    if edges[0] == edges[-1]:
        return ((edges[0], edges[0], len(numbers)),)
    places = ((numbers - edges[0]) / (edges[-1] - edges[0]) * (len(edges) - 1)).floor().cast(pl.Int64)
    found = dict(places.clip(0, len(edges) - 2).value_counts().iter_rows())
    return tuple((low, high, found.get(i, 0)) for i, (low, high) in enumerate(pairwise(edges)))


def _finite(values: pl.Series) -> pl.Series:
    numbers = values.cast(pl.Float64).drop_nulls()
    return numbers.filter(numbers.is_finite())
