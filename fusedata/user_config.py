"""What a user has chosen once for all builds: `fusedata/config.toml` in the user's configuration folder."""

import os
from pathlib import Path

from fusedata.config import Model, load
from fusedata.corpus import Text, rebased_path
from fusedata.publishing import HubName, Namespace


class UserConfig(Model):
    """The user's choices; each gives way to an option on the command line."""

    profile: Text | None = None
    """The profile of builds that name none: a shipped name, or a .toml file, relative to the configuration's folder."""
    hubs: tuple[HubName, ...] = ()
    """The hubs of pushes that name none."""
    namespace: Namespace | None = None
    """The account or organisation of pushes that name no repository: NAMESPACE/RECIPE-{split}-Data."""


def user_config_path() -> Path:
    """Where the file is looked for: under XDG_CONFIG_HOME, or ~/.config."""
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111 - does not raise
    return Path(home) / "fusedata" / "config.toml"


def load_user_config() -> UserConfig:
    """Read the user's choices; none where there is no such file. Raises ConfigError with every mistake."""
    path = user_config_path()
    if not os.path.exists(path):  # noqa: PTH110 - false where Path.exists raises
        return UserConfig()
    chosen = load(UserConfig, path, {})
    if chosen.profile and chosen.profile.endswith(".toml"):
        return chosen.model_copy(update={"profile": rebased_path(chosen.profile, path.parent)})
    return chosen
