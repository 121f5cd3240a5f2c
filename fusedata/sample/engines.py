"""Which engine serves a source model."""

from fnmatch import fnmatch

from fusedata import profile as profiles
from fusedata.errors import ConfigError
from fusedata.profile import EngineHost, Profile
from fusedata.recipe import SourceModel
from fusedata.sample.openai_engine import OpenaiEngine
from fusedata.sample.protocol import Engine
from fusedata.sample.transformers_engine import TransformersEngine
from fusedata.sample.vllm_engine import VllmEngine


def host_of(model: SourceModel, profile: Profile) -> EngineHost | None:
    """Give the profile's first engine table whose patterns fit `model`; None where none fits."""
    fitting = (h for h in profile.engines if any(fnmatch(model.id, pattern) for pattern in h.models))
    return next(fitting, None)


def make_engine(model: SourceModel, profile: Profile) -> Engine:
    """Give the engine that serves `model`, not loaded yet.

    Raises ConfigError where none does, EngineError where the weights are not there, MissingExtraError.
    """
    match host_of(model, profile):
        case profiles.VllmEngine() as host:
            return VllmEngine(model, host)
        case profiles.TransformersEngine() as host:
            return TransformersEngine(model, host)
        case profiles.OpenaiEngine() as host:
            return OpenaiEngine(model, host)
        case None:
            remedy = "add an [[engines]] table whose `models` fit it, or choose another --profile"
            raise ConfigError(f"profile {profile.name}: no engine serves {model.id}; {remedy}.")
