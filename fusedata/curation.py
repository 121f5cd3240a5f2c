"""What a recipe asks of its prompts and responses, beside being right: filters, screening, decontamination."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from fusedata.config import Model
from fusedata.contamination.benchmarks import DATASETS
from fusedata.corpus import Count, Text, Texts

Share = Annotated[float, Field(ge=0, le=1)]


class Filters(Model):
    """What a prompt must be like; what is absent filters nothing. Each prompt that is dropped bears the reason."""

    topics: Annotated[tuple[Literal["code", "math", "other"], ...], Field(min_length=1)] | None = None
    """Keep prompts of these topics: by the corpus's label (`[corpora.topic]`), else told from the text."""
    languages: Texts | None = None
    """Keep prompts in these languages: ISO 639-1 codes."""
    min_chars: Count | None = None
    """Characters of what the user says, in all turns."""
    max_chars: Count | None = None
    """Characters of all turns: of the system's and the assistant's, too."""
    max_repetition: Share | None = None
    """Most of the text that may be repetition of itself (`fusedata.texts.repetition`): standing twice is 0.5."""
    near_duplicates: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Drop a prompt whose shingles are this similar (Jaccard) to those of one that was kept, in any corpus."""


class Screen(Model):
    """What a response must be like to be chosen or rejected; one that is not takes no part."""

    truncated: bool = True
    """Leave out responses that ended at `max_tokens`, or break off."""
    refusals: bool = True
    """Leave out responses that refuse or speak of themselves as an AI."""
    max_repetition: Share | None = None
    min_chars: Count | None = None
    max_chars: Count | None = None
    languages: Texts | None = None


class Decontamination(Model):
    """Prompts that share text with a benchmark are dropped; on unless it is switched off."""

    enabled: bool = True
    benchmarks: tuple[Text, ...] = ()
    """Names of benchmarks; empty: all that fusedata knows."""
    revisions: dict[str, Text] = Field(default={})
    """The commit of a benchmark's dataset to read, by its id on the hub; others are read as `fusedata` pins them, else
    the newest."""
    words: Count = 13
    """Consecutive words, after normalisation, that make a match."""
    characters: Count = 20
    """Consecutive Chinese, Japanese or Korean characters that make a match."""

    @field_validator("revisions")
    @classmethod
    def _known(cls, revisions: dict[str, str]) -> dict[str, str]:
        if unknown := sorted(set(revisions) - set(DATASETS)):
            raise ValueError(f"{unknown[0]} holds no benchmark; there are {', '.join(DATASETS)}")
        return revisions
