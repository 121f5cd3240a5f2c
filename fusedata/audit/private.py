"""Secrets and personal data in texts, by detectors that others keep: detect-secrets, phonenumbers, python-stdnum.

Covered: keys and tokens of 22 services, private keys, passwords in addresses; e-mail addresses, telephone numbers with
their country's code, payment cards in groups of four, IBANs. Not covered: names, postal addresses, passwords in prose.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from fusedata.errors import MissingExtraError

if TYPE_CHECKING:
    from detect_secrets.plugins.base import BasePlugin

_NOISY = {"Base64 High Entropy String", "Hex High Entropy String", "Secret Keyword", "IBM Cloud IAM Key"}
_NOISY |= {"Public IP (ipv4)"}
"""Detectors of detect-secrets made for files of configuration: in prose and programs they find nothing but noise."""
_EMAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}\b")
_MADE_UP = re.compile(r"(?i)@(?:[\w-]+\.)*(?:example|domain|test|email|mail|company|yourdomain|yourcompany)\.\w+$")
_CARD = re.compile(r"(?<![\d-])\d{4}([ -])\d{4}\1\d{4}\1\d{4}(?![\d-])")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b")
_SHOWN = 4

Found = tuple[str, str]
"""What kind of thing was found, and the beginning of it: a report that repeats a secret leaks it."""


def secrets(text: str) -> Iterator[Found]:
    """Find keys, tokens and passwords. Raises MissingExtraError."""
    for plugin in _plugins():
        for secret in plugin.analyze_string(text):
            yield plugin.secret_type, hidden(secret)


def personal(text: str) -> Iterator[Found]:
    """Find e-mail addresses (made-up ones aside), telephone numbers, cards and IBANs. Raises MissingExtraError."""
    valid_card, valid_iban, phones = _validators()
    if "@" in text:
        yield from (("e-mail address", hidden(m)) for m in _EMAIL.findall(text) if not _MADE_UP.search(m))
    if "+" in text:
        yield from (("telephone number", hidden(number)) for number in phones(text))
    cards = (match.group() for match in _CARD.finditer(text))
    yield from (("payment card", hidden(card)) for card in cards if valid_card(card))
    yield from (("IBAN", hidden(iban)) for iban in _IBAN.findall(text) if valid_iban(iban))


def hidden(found: str) -> str:
    """Give the beginning of what was found, enough to find it again."""
    return f"{found[:_SHOWN]}…"


@lru_cache(maxsize=1)
def _plugins() -> "tuple[BasePlugin, ...]":
    try:
        from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingExtraError("audit", "Looking for secrets") from None
    kinds: dict[str, type[BasePlugin]] = get_mapping_from_secret_type_to_class()
    return tuple(made() for kind, made in sorted(kinds.items()) if kind not in _NOISY)


@lru_cache(maxsize=1)
def _validators() -> tuple[Callable[[str], bool], Callable[[str], bool], Callable[[str], Iterator[str]]]:
    try:
        from phonenumbers import PhoneNumberMatcher  # noqa: PLC0415 - an extra
        from stdnum import iban, luhn  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingExtraError("audit", "Looking for personal data") from None

    def phones(text: str) -> Iterator[str]:
        return (match.raw_string for match in PhoneNumberMatcher(text, None))

    return (lambda card: bool(luhn.is_valid(re.sub("[ -]", "", card)))), iban.is_valid, phones
