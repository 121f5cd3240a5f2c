"""What a dataset's card tells: its licence."""

import re
from pathlib import Path

from fusedata.audit.report import Finding

_FRONT = re.compile(r"\A---\s*\n(.*?)\n---\s*$", re.DOTALL | re.MULTILINE)


def card_license(name: str, folder: Path) -> Finding:
    """Say which licence the card in a folder names; a warning where there is no card, or none in it."""
    found = card_facts(folder)
    if found is None:
        return Finding("card licence", "warning", "there is no README.md whose front matter names a licence", name)
    named = found.get("license")
    stated = ", ".join(map(str, named)) if isinstance(named, list) else str(named or "")
    if not stated or stated == "unknown":
        return Finding("card licence", "warning", "the front matter of README.md names no licence", name)
    if stated == "other" and not found.get("license_name") and not found.get("license_link"):
        return Finding("card licence", "note", "the card says `other`: its text must say which licences apply", name)
    return Finding("card licence", "ok", f"the card names {stated}", name)


def card_facts(folder: Path) -> dict[str, object] | None:
    """Read the front matter of a folder's README.md; None where there is none."""
    import yaml  # noqa: PLC0415 - few audits read more than one card

    try:
        match = _FRONT.match((folder / "README.md").read_text(encoding="utf-8"))
        facts = yaml.safe_load(match[1]) if match else None
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return facts if isinstance(facts, dict) else None
