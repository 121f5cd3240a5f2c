"""What a hub's refusal to be written means, in a sentence.

The seam to both clients: no exception of theirs leaves it, and no message repeats what a server or a client said, so
that no token can slip into one.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from fusedata.causes import causes, status_of
from fusedata.errors import FusedataError, HubError

_KEPT = "Run the same command again: what has arrived is not sent again."


@dataclass(frozen=True)
class Login:
    """How a hub is called, and how a user comes by a token for it."""

    hub: str
    command: str
    variable: str

    @property
    def advice(self) -> str:
        """Say how to give a token."""
        return f"Set {self.variable} to a token with write access, or log in with `{self.command}`."


@contextlib.contextmanager
def seam(login: Login, what: str) -> Iterator[None]:
    """Let nothing but FusedataError leave; `what` names what was being read or written."""
    try:
        yield
    except FusedataError:
        raise
    except Exception as error:  # noqa: BLE001  # two clients, two HTTP libraries under them: nothing may leave
        raise HubError(_sentence(login, what, list(causes(error)))) from None


def _sentence(login: Login, what: str, chain: list[BaseException]) -> str:
    """What went wrong, by kinds and numbers only: never the error's own words."""
    hub = login.hub
    if code := next(filter(None, map(status_of, chain)), 0):
        return _answer(login, what, code)
    for link in chain:
        if isinstance(link, OSError) and link.errno and link.filename:
            return f"{link.filename} cannot be read ({os.strerror(link.errno)}). Nothing was committed to {what}."
    if str(chain[0]).startswith("Invalid metadata in README.md"):
        return f"{hub} does not accept the metadata at the top of README.md for {what}. Mend the card, then push again."
    kinds = {kind.__name__ for link in chain for kind in type(link).__mro__}
    if "OfflineModeIsEnabled" in kinds:
        return f"HF_HUB_OFFLINE forbids to push {what}. Unset it."
    if kinds & {"HFValidationError", "InvalidParameter"}:
        return f"{what} is no name of a dataset on {hub}. It must be owner/name, with no more than 96 characters."
    return f"{hub} could not be reached, or broke off, for {what} ({type(chain[-1]).__name__}). {_KEPT}"


def _answer(login: Login, what: str, code: int) -> str:
    """What a refusal with this HTTP status means."""
    hub = login.hub
    sentences = {
        401: f"{hub} does not accept the token (401). {login.advice}",
        403: f"{hub} forbids this account to write {what} (403). {login.advice}",
        404: f"{hub} does not know {what}, or does not show it to this account (404). Check owner and name.",
        409: f"{hub} reports a conflict on {what} (409): it was changed meanwhile. {_KEPT}",
        412: f"{hub} reports a conflict on {what} (412): it was changed meanwhile. {_KEPT}",
        429: f"{hub} limits requests and refused {what} (429). Wait some minutes. {_KEPT}",
    }
    fault = f"failed on {what}" if code >= 500 else f"refused {what}"  # noqa: PLR2004
    return sentences.get(code, f"{hub} {fault} ({code}). {_KEPT}")
