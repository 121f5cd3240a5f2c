"""A reward model used alone: rows that nobody planned, `{"prompt" | "messages", "response"}`, scored in order."""

from collections.abc import Iterable, Iterator, Sequence

from fusedata.reward.protocol import Item, RewardModel, Scored

WINDOW_ROWS = 4096
WINDOW_CHARS = 16 << 20
"""A window, which is what is held in memory at a time, ends at so many rows or characters."""

NO_OBJECT = "could not be scored: the row is no JSON object"
NO_RESPONSE = 'could not be scored: the row needs the text "response"'
NO_PROMPT = 'could not be scored: the row needs the text "prompt", or "messages"'
BOTH = 'could not be scored: the row holds both "prompt" and "messages"'
NO_TURNS = 'could not be scored: "messages" must be turns {"role", "content"}, both of them texts'


def score_rows(rows: Iterable[object], model: RewardModel, batch_size: int) -> Iterator[Scored]:
    """Score rows in order; one that is no item has the reason as its `error`. Raises RewardError.

    A window of rows is read before its first score is given. Batches are cut from it in order of length, so the same
    rows make the same batches.
    """
    for window in _windows(map(item, rows)):
        yield from _scored(window, model, batch_size)


def item(row: object) -> Item | str:
    """Read a row: what is to be scored, or why it cannot be. Other keys are ignored."""
    if not isinstance(row, dict):
        return NO_OBJECT
    if not isinstance(row.get("response"), str):
        return NO_RESPONSE
    if "prompt" in row and "messages" in row:
        return BOTH
    if "messages" not in row:
        prompt = row.get("prompt")
        return Item(({"role": "user", "content": prompt},), row["response"]) if isinstance(prompt, str) else NO_PROMPT
    turns = row["messages"]
    if not (isinstance(turns, list) and turns and all(map(_is_turn, turns))):
        return NO_TURNS
    return Item(tuple({"role": t["role"], "content": t["content"]} for t in turns), row["response"])


def _is_turn(turn: object) -> bool:
    return isinstance(turn, dict) and all(isinstance(turn.get(key), str) for key in ("role", "content"))


def _windows(items: Iterable[Item | str]) -> Iterator[list[Item | str]]:
    window: list[Item | str] = []
    held = 0
    for one in items:
        window.append(one)
        held += _size(one)
        if len(window) == WINDOW_ROWS or held >= WINDOW_CHARS:
            yield window
            window, held = [], 0
    if window:
        yield window


def _scored(window: Sequence[Item | str], model: RewardModel, batch_size: int) -> list[Scored]:
    found = {number: Scored(None, None, one) for number, one in enumerate(window) if isinstance(one, str)}
    items = {number: one for number, one in enumerate(window) if isinstance(one, Item)}
    order = sorted(items, key=lambda number: _size(items[number]))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        found.update(zip(batch, model.score([items[number] for number in batch]), strict=True))
    return [found[number] for number in range(len(window))]


def _size(one: Item | str) -> int:
    """Characters of an item, which order them about as tokens do."""
    return 0 if isinstance(one, str) else sum(len(m["content"]) for m in one.messages) + len(one.response)
