"""What stands between a corpus's prompts and PROMPTS: filters that give each prompt that they drop a reason."""

from typing import Protocol

import polars as pl

CANDIDATES = pl.Schema(
    {
        "prompt_id": pl.String(),
        "messages": pl.List(pl.Struct({"role": pl.String, "content": pl.String})),
        "text": pl.String(),  # what the user says, all turns of the user joined by an empty line
        "turns": pl.String(),  # what is said in all turns, of the system and the assistant, too, joined likewise
        "topic": pl.String(),  # "code", "math" or "other" by the corpus's label; null: it has none
    }
)
"""What a filter is given of each prompt; more columns may be there."""


class PromptFilter(Protocol):
    """Looks at prompts a batch at a time, in the order in which they are taken."""

    def __call__(self, prompts: pl.DataFrame) -> pl.DataFrame:
        """Take CANDIDATES; give a row each, in order: `reason` (null: it stays) and `detail`, both String."""
        ...
