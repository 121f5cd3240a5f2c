"""Reward models: how good is a response to a prompt."""

from fusedata.reward.preference_head import PreferenceHead
from fusedata.reward.protocol import Item, RewardModel, Scored

__all__ = ["Item", "PreferenceHead", "RewardModel", "Scored"]
