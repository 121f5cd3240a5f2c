"""Which reward model a recipe's name means."""

from typing import Any

from fusedata.errors import ConfigError
from fusedata.profile import RewardHost
from fusedata.recipe import Reward
from fusedata.reward.armorm import ARCHITECTURE, ArmoRM
from fusedata.reward.checkpoint import read_config
from fusedata.reward.local import reward_weights
from fusedata.reward.preference_head import WEIGHTS, PreferenceHead
from fusedata.reward.protocol import RewardModel
from fusedata.reward.sequence_classifier import SequenceClassifier
from fusedata.reward.served import ServedReward

_CLASSIFIER = "ForSequenceClassification"


def make_reward(reward: Reward, host: RewardHost) -> RewardModel:
    """Give the reward model that `reward` names, not loaded yet; its config.json says what kind it is.

    Raises ConfigError where that is none, or `output` and `weights` do not fit it; RewardError, MissingExtraError.
    """
    if host.server is not None:
        return ServedReward(reward, host.server)
    if reward.model == PreferenceHead.name:
        return _stand_in(reward, host)
    weights = reward_weights(reward.model, reward.model, host.weights, reward.revision)
    config = read_config(weights)
    if ARCHITECTURE in config.get("architectures", ()):
        _check_outputs(reward, ["the score"])
        return ArmoRM(reward.model, weights, host)
    _check_kind(reward, config)
    _check_outputs(reward, _labels(config))
    return SequenceClassifier(reward, weights, host)


def _stand_in(reward: Reward, host: RewardHost) -> PreferenceHead:
    """Give the stand-in, in float32 unless the profile says otherwise: its scores were recorded in that."""
    _check_outputs(reward, ["the score"])
    dtype = host.dtype if "dtype" in host.model_fields_set else "float32"
    return PreferenceHead(
        weights=host.weights or WEIGHTS, device=host.device, dtype=dtype, batch_tokens=host.batch_tokens
    )


def _check_kind(reward: Reward, config: dict[str, Any]) -> None:
    """Raise ConfigError for a checkpoint without a head that transformers knows."""
    names = [str(name) for name in config.get("architectures") or ["no architecture"]]
    if not any(_CLASSIFIER in name for name in names):
        found = f"its config.json says {', '.join(names)}, and a reward model is {ARCHITECTURE} or ...{_CLASSIFIER}"
        remedy = "name another one, or a server that holds this one in the profile; code of a model's own is not run"
        raise ConfigError(f"reward model {reward.model}: {found}: {remedy}.")


def _labels(config: dict[str, Any]) -> list[str]:
    """Give the names of the outputs; transformers takes two where config.json does not say."""
    labels = config.get("id2label") or {}
    names = [str(labels[key]) for key in sorted(labels, key=int)]
    return names or [f"LABEL_{n}" for n in range(int(config.get("num_labels") or 2))]


def _check_outputs(reward: Reward, labels: list[str]) -> None:
    """Raise ConfigError unless `output` or `weights` of the recipe's table make one number of the model's outputs."""
    count = f"it has {len(labels)} output{'s' * (len(labels) > 1)} ({', '.join(labels[:24])})"
    if reward.output is not None and reward.output >= len(labels):
        raise ConfigError(f"reward model {reward.model}: {count}, and [reward] says output = {reward.output}.")
    if reward.weights is not None and len(reward.weights) != len(labels):
        raise ConfigError(f"reward model {reward.model}: {count}, and [reward] has {len(reward.weights)} weights.")
    if len(labels) > 1 and reward.output is None and reward.weights is None:
        remedy = "say in [reward] which one counts (output = 0 is the first), or weights, one for each"
        raise ConfigError(f"reward model {reward.model}: {count}: {remedy}.")
