"""Which engine serves a source model."""

from fnmatch import fnmatch

from fusedata import profile as profiles
from fusedata.errors import ConfigError
from fusedata.profile import EngineHost, Profile
from fusedata.recipe import SourceModel
from fusedata.sample.protocol import Engine
from fusedata.sample.transformers_engine import TransformersEngine
from fusedata.sample.vllm_engine import VllmEngine


def find_host(model: SourceModel, profile: Profile) -> EngineHost:
    """Give the profile's first engine table whose patterns fit `model`. Raises ConfigError where none fits."""
    for host in profile.engines:
        if any(fnmatch(model.id, pattern) for pattern in host.models):
            return host
    remedy = "add an [[engines]] table whose `models` fit it, or choose another --profile"
    raise ConfigError(f"profile {profile.name}: no engine serves {model.id}; {remedy}.")


def make_engine(model: SourceModel, profile: Profile) -> Engine:
    """Give the engine that serves `model`, not loaded yet.

    Raises ConfigError where none does, EngineError where the weights are not there, MissingExtraError.
    """
    match find_host(model, profile):
        case profiles.VllmEngine() as host:
            return VllmEngine(model, host)
        case profiles.TransformersEngine() as host:
            return TransformersEngine(model, host)
        case host:
            raise ConfigError(f"profile {profile.name}: the engine {host.engine} is not there yet.")
