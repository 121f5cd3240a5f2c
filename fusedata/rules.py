"""How a recipe selects: SFT rows, preference pairs, and which prompts feed which."""

from fractions import Fraction
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from fusedata.config import Model
from fusedata.corpus import Text

ARMORM = "RLHFlow/ArmoRM-Llama3-8B-v0.1"
"""The reward model of the published method; its window is 0.01 to 0.1."""


def _ordered(gap: tuple[float, float]) -> tuple[float, float]:
    low, high = gap
    if low > high:
        raise ValueError(f"[{low}, {high}] has its ends swapped: write [{high}, {low}]")
    return gap


Gap = Annotated[tuple[float, float], AfterValidator(_ordered)]
Per = Literal["prompt", "source_model"]
Temperature = Annotated[float, Field(gt=0)]
_DENOMINATOR = 1000


def _weighs(temperature: float | None, info: ValidationInfo) -> float | None:
    """Weights go with several rows a prompt, and only with them."""
    if info.data.get("per") == "source_model" and temperature is None:
        raise ValueError('per = "source_model" needs it: the temperature of the weights, on the scale of [reward]')
    if info.data.get("per") == "prompt" and temperature is not None:
        raise ValueError('goes with per = "source_model" only')
    return temperature


class Sft(Model):
    """How many SFT rows a prompt gives."""

    per: Per = "prompt"
    """`prompt`: the best response. `source_model`: the best of each source model, with a weight."""
    weight_temperature: Temperature | None = Field(default=None, validate_default=True)
    """A row's weight is the softmax of its reward over the rows of its prompt, rewards divided by this."""

    _weights = field_validator("weight_temperature")(_weighs)


class Dpo(Model):
    """How preference pairs are made; a recipe without this table is SFT only."""

    method: Literal["pairs", "wrpo"] = "pairs"
    """`wrpo`: chosen is the best response of any source model; the target model is sampled too, its best response
    stands beside the chosen one, and its worst is rejected (Weighted-Reward Preference Optimization)."""
    target: Text | None = None
    """With `wrpo`: the model that is trained, one of the source models. Its responses are never SFT rows, and it is
    asked only the prompts that feed DPO. Absent: it is not trained yet, and there are no pairs."""
    same_source_model: bool = True
    """False: best against worst over all models. With `wrpo` it says nothing."""
    per: Per = "prompt"
    """`prompt`: one pair. `source_model`: a pair of each source model that has one that fits, with a weight."""
    weight_temperature: Temperature | None = Field(default=None, validate_default=True)
    """A pair's weight is the softmax of its chosen reward over the pairs of its prompt, rewards divided by this."""
    reward_gap: Gap | None = None
    """Chosen minus rejected, both ends inclusive, on the scale of `reward_gap_model`; absent: any gap."""
    reward_gap_model: Text = ARMORM
    """The reward model that `reward_gap` was made for: rewards of two models do not compare."""

    _weights = field_validator("weight_temperature")(_weighs)

    @field_validator("target")
    @classmethod
    def _on_policy(cls, target: str | None, info: ValidationInfo) -> str | None:
        if target is not None and info.data.get("method") == "pairs":
            raise ValueError('goes with method = "wrpo" only')
        return target

    @field_validator("per")
    @classmethod
    def _within_one(cls, per: str, info: ValidationInfo) -> str:
        if per == "source_model" and (info.data.get("method") == "wrpo" or info.data.get("same_source_model") is False):
            raise ValueError(
                '"source_model" pairs within one model: it goes with neither wrpo nor same_source_model = false'
            )
        return per


class Split(Model):
    """Which prompts feed SFT and which feed DPO, and how many rows are held out."""

    order: Literal["pairs_first", "ratio", "random", "shared"] = "pairs_first"
    """`pairs_first`: a prompt with a pair feeds DPO, the others SFT. `ratio`: prompts with a pair are shared out a
    corpus, the first `sft * N` (rounded down) by hash to SFT; prompts without a pair are dropped. `random`: the same
    with all prompts, before any is answered; those that then give no row are dropped. `shared`: a prompt may feed
    both."""
    sft: Annotated[float, Field(ge=0, le=1)] | None = Field(default=None, validate_default=True)
    """Taken as the fraction that it stands for: 0.4 is 2/5, and 0.3333333333333333 a third."""
    test: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Share of each dataset held out as `test`, by a hash of the prompt: at least one prompt; 0: no test split."""

    @field_validator("sft")
    @classmethod
    def _ratio(cls, sft: float | None, info: ValidationInfo) -> float | None:
        order = info.data.get("order")
        if order in {"ratio", "random"} and sft is None:
            of = "prompts with a pair" if order == "ratio" else "prompts"
            raise ValueError(f'order = "{order}" needs it: the share of {of} that feed SFT')
        if order in {"pairs_first", "shared"} and sft is not None:
            raise ValueError(f'goes with order = "ratio" or "random" only (the order is "{order}")')
        return sft

    @property
    def share(self) -> Fraction:
        """`sft` as an exact fraction: of the floats that stand for it, 1/3 and 0.29 are not what they say."""
        near = Fraction(self.sft or 0).limit_denominator(_DENOMINATOR)
        return near if float(near) == self.sft else Fraction(str(self.sft or 0))
