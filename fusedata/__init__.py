"""Build SFT and DPO datasets from several LLMs by implicit model fusion (FuseChat-3.0)."""

__version__ = "0.1.0"
