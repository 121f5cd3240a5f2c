"""Which engine serves a source model."""

from fnmatch import fnmatch

from fusedata.errors import ConfigError
from fusedata.profile import Profile
from fusedata.profile import TransformersEngine as Transformers
from fusedata.recipe import SourceModel
from fusedata.sample.protocol import Engine
from fusedata.sample.transformers_engine import TransformersEngine


def make_engine(model: SourceModel, profile: Profile) -> Engine:
    """Give the profile's first engine whose patterns fit `model`, not loaded yet.

    Raises ConfigError where none fits, EngineError where the weights are not there, MissingExtraError.
    """
    for host in profile.engines:
        if any(fnmatch(model.id, pattern) for pattern in host.models):
            if isinstance(host, Transformers):
                return TransformersEngine(model, host)
            raise ConfigError(f"profile {profile.name}: the engine {host.engine} is not there yet.")
    remedy = "add an [[engines]] table whose `models` fit it, or choose another --profile"
    raise ConfigError(f"profile {profile.name}: no engine serves {model.id}; {remedy}.")
