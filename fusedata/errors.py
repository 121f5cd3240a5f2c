"""The exceptions that fusedata raises.

    FusedataError
    ├── ConfigError          a recipe, a profile or a command line is wrong
    ├── CorpusError          a corpus cannot be had or read
    ├── HubError             Hugging Face or ModelScope refused or did not answer
    ├── RunError             a run folder cannot be used
    │   └── RunLockedError   another process writes it
    ├── EngineError          an engine cannot start or broke down
    ├── VerifierError        a verifier cannot start or broke down
    ├── RewardError          a reward model cannot load or failed its self-test
    └── MissingExtraError    an optional dependency is not installed

A bad item (a prompt, a response) is never an exception: it is a row with a reason.
Every message is one sentence or two: the thing, what was found, what to do.
"""


class FusedataError(Exception):
    """The base of all of them. The command line prints it as one line and exits with 2."""


class ConfigError(FusedataError):
    """A recipe, a profile or a command line is wrong; the message lists every mistake with file and key."""


class CorpusError(FusedataError):
    """A corpus cannot be found, fetched or read as the recipe describes it."""


class HubError(FusedataError):
    """Hugging Face or ModelScope refused a request or did not answer."""


class RunError(FusedataError):
    """A run folder cannot be read or written, or belongs to another recipe."""


class RunLockedError(RunError):
    """Another process is writing this run folder."""


class EngineError(FusedataError):
    """An engine cannot load its model or broke down as a whole."""


class VerifierError(FusedataError):
    """A verifier cannot start or broke down as a whole."""


class RewardError(FusedataError):
    """A reward model cannot load, or its self-test failed."""


class MissingExtraError(FusedataError):
    """An optional dependency is not installed; the message names the extra that brings it."""

    def __init__(self, extra: str, need: str) -> None:
        """Say that `need` (what the user asked for) takes the extra `extra`."""
        super().__init__(f"{need} needs an extra that is not installed: pip install 'fusedata[{extra}]'.")
        self.extra = extra
