"""Which licences a dataset follows from, what their texts demand, and which of them cannot be met together. Pure.

What is known of each text, with its address, stands in `cards/licenses.toml`. It is a summary and no legal advice: the
texts decide. A licence that is not listed there is named as unknown, never guessed.

Read: https://www.llama.com/llama3/license/ (1.b.v: outputs improve Llama 3 alone) and
https://www.llama.com/llama3_1/license/ (1.b.i: naming instead), https://ai.google.dev/gemma/terms (1.1.e, 3.1, 3.3),
https://mistral.ai/licenses/MRL-0.1.md (outputs under the limits of section 3),
https://huggingface.co/Qwen/Qwen2.5-72B-Instruct/blob/main/LICENSE, the Tongyi Qianwen agreement (5.b), Creative Commons
(ShareAlike 4.0, section 3.b: no further terms), Open Data Commons.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Any, Literal

from fusedata.assets import asset

Stated = tuple[str, str | None]
"""A corpus or a model by its id, and the licence that a recipe states for it."""
Role = Literal["corpus", "source model", "reward model"]
Said = Mapping[str, str]
"""One sentence in each language of the cards: `en`, `zh`."""

LICENSE_FILE = "LICENSE.md"
"""The file of a dataset folder that says which terms apply, where no single tag does."""
SEVERAL = "terms-of-every-source"
"""The name of the licence of rows that follow from several."""


@dataclass(frozen=True)
class Terms:
    """What is known of one licence text; the fields are explained in `cards/licenses.toml`."""

    tag: str
    name: str
    url: str
    demands: tuple[str, ...]
    demands_zh: tuple[str, ...]
    unsure: tuple[str, ...] = ()
    unsure_zh: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    hub: bool = True
    attribution_only: bool = False
    non_commercial: bool = False
    share_alike: str | None = None
    no_derivatives: bool = False
    outputs_bound: bool = False
    improves_only: str | None = None
    prefix: str | None = None


@dataclass(frozen=True)
class Applies:
    """One source of the rows, its licence as stated (None: not stated), and its terms (None: unknown)."""

    source: str
    role: Role
    licence: str | None
    terms: Terms | None

    @property
    def demands(self) -> tuple[str, ...]:
        """What the text demands; empty where it is unknown."""
        return self.terms.demands if self.terms else ()


@dataclass(frozen=True)
class Rollup:
    """The licences behind a dataset.

    `conflicts` cannot be met together, `forbids_publishing` says why the rows may not be shared at all; both in English
    and, sentence by sentence, in Chinese (`…_zh`). `tag` is what the front matter of a card says: `license`, and where
    that is `other` also `license_name` and `license_link`.
    """

    applies: tuple[Applies, ...]
    conflicts: tuple[str, ...]
    conflicts_zh: tuple[str, ...]
    forbids_publishing: tuple[str, ...]
    forbids_publishing_zh: tuple[str, ...]
    tag: Mapping[str, str]

    @property
    def unknown(self) -> tuple[Applies, ...]:
        """The sources whose licence is not stated, or is none that fusedata knows."""
        return tuple(one for one in self.applies if one.terms is None)

    @property
    def non_commercial(self) -> tuple[str, ...]:
        """The sources whose terms grant no commercial use."""
        return tuple(one.source for one in self.applies if one.terms and one.terms.non_commercial)

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Words that the names of models trained on the rows begin with; a longer one serves for its beginning.

        Those of a reward model are left out: nobody is trained on its scores.
        """
        models = [one.terms for one in self.applies if one.terms and one.role != "reward model"]
        words = dict.fromkeys(text.prefix for text in models if text.prefix)
        longer = [word for word in words if not any(w != word and w.startswith(f"{word} ") for w in words)]
        return tuple(longer)


def rollup(
    corpora: Iterable[Stated], models: Iterable[Stated], reward: Stated | None = None, *, commercial: bool = False
) -> Rollup:
    """Roll up the licences of every corpus, every model that wrote a row, and the reward model that chose it.

    `commercial` says that the rows are to be used commercially: what excludes that is then a conflict.
    """
    roles: list[tuple[Role, Iterable[Stated]]] = [("corpus", corpora), ("source model", models)]
    roles.append(("reward model", [reward] if reward else []))
    applies = tuple(Applies(source, role, told, terms(told)) for role, given in roles for source, told in given)
    known = [(one, one.terms) for one in applies if one.terms]
    conflicts = [*_share_alike(known), *_families(known), *(_commercial(known) if commercial else ())]
    forbidden = list(_adapted(known))
    return Rollup(
        applies,
        conflicts=tuple(said["en"] for said in conflicts),
        conflicts_zh=tuple(said["zh"] for said in conflicts),
        forbids_publishing=tuple(said["en"] for said in forbidden),
        forbids_publishing_zh=tuple(said["zh"] for said in forbidden),
        tag=_tag(applies),
    )


@cache
def known_terms() -> Mapping[str, Terms]:
    """Give every licence that is known, by its tag and by its other names."""
    table = tomllib.loads(asset("cards", "licenses.toml").read_text(encoding="utf-8"))
    listed = [_terms(tag, entry) for tag, entry in table.items()]
    return {name: one for one in listed for name in (one.tag, *one.also)}


def _terms(tag: str, entry: Mapping[str, Any]) -> Terms:
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    return Terms(tag=tag, **fields)


def terms(stated: str | None) -> Terms | None:
    """Look a stated licence up, whatever its case and its blanks; None where it is unknown."""
    return known_terms().get(re.sub(r"[\s_]+", "-", stated.strip().lower())) if stated else None


Known = Sequence[tuple[Applies, Terms]]


def _of(one: Applies) -> str:
    return f"{one.source} ({one.licence})"


def _said(en: str, zh: str) -> Said:
    return {"en": en, "zh": zh}


def _share_alike(known: Known) -> Iterator[Said]:
    """What must be shared under one licence and nothing more, beside what asks for more or for another."""
    texts = [(one, text) for one, text in known if one.role != "reward model"]
    for one, text in texts:
        if text.share_alike is None:
            continue
        for other, more in texts:
            same = more.share_alike == text.share_alike
            twice = more.share_alike is not None and more.tag < text.tag  # the pair was told the other way round
            if not same and not twice and (more.share_alike or more.non_commercial or more.outputs_bound):
                yield _said(
                    f"{_of(one)} is to be shared under its own licence without more terms, and {_of(other)} adds some.",
                    f"{_of(one)} 须以其自身许可证共享且不得附加条款，而 {_of(other)} 附加了条款。",  # noqa: RUF001 - Chinese
                )


def _families(known: Known) -> Iterator[Said]:
    """Outputs that may improve one family of models only, beside those of another."""
    bound = {text.improves_only: one for one, text in known if text.improves_only and one.role != "reward model"}
    for (family, one), (other_family, other) in combinations(bound.items(), 2):
        yield _said(
            f"Outputs of {_of(one)} may improve {family} models alone, those of {_of(other)} {other_family} models "
            "alone: no model may be trained on both.",
            f"{_of(one)} 的输出只可改进 {family} 模型，"  # noqa: RUF001 - Chinese
            f"{_of(other)} 的输出只可改进 {other_family} 模型：不得用两者训练同一模型。",  # noqa: RUF001 - Chinese
        )


def _commercial(known: Known) -> Iterator[Said]:
    for one, text in known:
        if text.non_commercial:
            yield _said(f"{_of(one)} grants no commercial use.", f"{_of(one)} 不授予商业使用权。")


def _adapted(known: Known) -> Iterator[Said]:
    """What may not be shared once it is adapted: a dataset made of it is an adaptation."""
    for one, text in known:
        if text.no_derivatives and one.role != "reward model":
            yield _said(
                f"{_of(one)} lets nobody share adapted material, and these rows are adapted from it.",
                f"{_of(one)} 不允许共享改编材料，而这些数据由其改编而来。",  # noqa: RUF001 - Chinese
            )


def _tag(applies: Sequence[Applies]) -> dict[str, str]:
    """Give the one licence of all sources as the hub knows it; `other` where there are several.

    Of the reward model only what a text asks beyond names and notices counts: its numbers are a column, not the rows.
    """
    counted = [one for one in applies if one.role != "reward model" or (one.terms and not one.terms.attribution_only)]
    names = {one.terms.tag if one.terms else (one.licence or "unknown") for one in counted}
    if len(names) != 1:
        return {"license": "other", "license_name": SEVERAL, "license_link": LICENSE_FILE}
    (name,) = names
    text = known_terms().get(name)
    if name == "unknown" or (text and text.hub):
        return {"license": name}
    slug = re.sub("[^a-z0-9.-]+", "-", name.lower()).strip("-.") or SEVERAL
    return {"license": "other", "license_name": slug, "license_link": text.url if text else LICENSE_FILE}
