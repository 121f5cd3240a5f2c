"""Build SFT and DPO datasets from several LLMs by implicit model fusion (FuseChat-3.0)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from fusedata.inspect_ import Opened

__version__ = "0.1.0"
__all__ = ["__version__", "open"]


def open(source: "str | Path") -> "Opened":  # noqa: A001 - `fusedata.open` reads as gzip.open does
    """Open a run, a folder or file of SFT rows or pairs, or a dataset on a hub: its tables as lazy frames.

    `prompts`, `responses`, `verdicts`, `rewards`, `dropped`, `sft` and `dpo` are attributes; of anything but a run only
    the last two may be there. Raises RunError, CorpusError or HubError where it cannot be read.

    >>> fusedata.open("runs/math").dpo.select("prompt_id", "chosen_reward").collect()
    """
    from fusedata.inspect_ import opened  # noqa: PLC0415 - polars takes a while, and `fusedata --help` needs none

    return opened(source)
