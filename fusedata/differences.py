"""What differs between two dumped configurations, told field by field."""

from collections.abc import Sequence

Entries = Sequence[dict[str, object]]


def differences(before: object, after: object, key: str = "") -> list[tuple[str, object, object]]:
    """List what differs between two dumped configurations as (dotted key, before, after); None: not there."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [*before, *(k for k in after if k not in before)]
        return [d for k in keys for d in differences(before.get(k), after.get(k), f"{key}.{k}" if key else str(k))]
    if isinstance(before, list | tuple) and isinstance(after, list | tuple) and _identified(before, after):
        return [*_moved(before, after, key), *differences(_by_id(before, key), _by_id(after, key))]
    return [] if before == after else [(key, before, after)]


def _identified(*sides: Entries) -> bool:
    return all(isinstance(entry, dict) and "id" in entry for side in sides for entry in side)


def _moved(before: Entries, after: Entries, key: str) -> list[tuple[str, object, object]]:
    """Say that entries changed places, which a comparison by id would not tell."""
    old, new = ([entry["id"] for entry in side] for side in (before, after))
    stayed = [i for i in old if i in new] == [i for i in new if i in old]
    return [] if stayed else [(key, old, new)]


def _by_id(entries: Entries, key: str) -> dict[str, object]:
    return {f"{key}[{entry['id']}]": entry for entry in entries}
