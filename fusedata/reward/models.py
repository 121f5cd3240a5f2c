"""Which reward model a recipe's name means."""

from fusedata.errors import ConfigError
from fusedata.profile import RewardHost
from fusedata.recipe import Reward
from fusedata.reward.preference_head import WEIGHTS, PreferenceHead
from fusedata.reward.protocol import RewardModel


def make_reward(reward: Reward, host: RewardHost) -> RewardModel:
    """Give the reward model that `reward` names, not loaded yet. Raises ConfigError, RewardError, MissingExtraError."""
    if reward.model == PreferenceHead.name:
        return PreferenceHead(weights=host.weights or WEIGHTS, device=host.device)
    raise ConfigError(
        f"reward model {reward.model}: this version scores with {PreferenceHead.name} only; choose --profile local, "
        "where it stands in."
    )
