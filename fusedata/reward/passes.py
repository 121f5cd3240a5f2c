"""Forward passes: which conversations go through a model together, and what is read off them.

Rows are cut by a budget of tokens from rows sorted by length, so little is padded. Padding stands on the right, where a
causal model never looks back at it: no mask is needed, which leaves the fastest attention kernels in force. Responses
to one prompt go as one row where that saves enough tokens: the prompt once, then each response, which sees the prompt
and itself (a mask of its own) and counts its positions from the prompt's end.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from fusedata.errors import RewardError
from fusedata.reward.chat import Reading

ROW = 1024
"""Tokens of a row that several responses share, at most: its mask makes every token look at the whole row."""
SAVING = 0.85
"""A row is shared where it takes at most this share of the tokens of separate rows: a mask costs about a tenth."""
CPU_TOKENS = 2048
"""Tokens a pass on processor cores, at most: larger buffers are mapped anew in every block, and were measured slower
(SmolLM2-135M, 8,192 tokens: by a third)."""
_NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


class Row(NamedTuple):
    """One sequence of a pass: the first `shared` tokens of its readings once, then what each goes on with."""

    shared: int
    readings: tuple[Reading, ...]
    numbers: tuple[int, ...]
    """Which item each reading is."""

    @property
    def size(self) -> int:
        """Tokens of the row."""
        return self.shared + sum(len(reading.tokens) - self.shared for reading in self.readings)

    def branches(self) -> Iterator[tuple[Reading, int]]:
        """Each reading with the place where its own tokens begin."""
        start = self.shared
        for reading in self.readings:
            yield reading, start
            start += len(reading.tokens) - self.shared


Forward = Callable[[Sequence[Row]], list[float]]
"""One pass: a score for each reading of each row, in order."""


class Passes:
    """Runs readings through a model; holds what it learned of the memory.

    Where memory runs out, the pass is split in two, and later passes take half as many tokens. A single reading that
    does not fit raises RewardError, since that says more of the device than of the reading.
    """

    def __init__(self, forward: Forward, tokens: int, device: str, *, share: bool) -> None:
        """`tokens` bounds a pass, padding counted; `share`: `forward` takes rows of several readings."""
        self._forward, self._device, self._share = forward, device, share
        self.tokens = min(tokens, CPU_TOKENS) if device == "cpu" else tokens

    def scores(self, readings: Sequence[Reading]) -> list[float]:
        """Score readings, in order. The same readings are cut into the same passes. Raises RewardError."""
        found: dict[int, float] = {}
        left = sorted(rows(readings, share=self._share), key=lambda row: row.size, reverse=True)
        while left:
            group = self._next(left)
            found.update(self._run(group))
        return [found[number] for number in range(len(readings))]

    def _next(self, left: list[Row]) -> list[Row]:
        """Take one pass off `left`, which is sorted with the shortest row last."""
        group = [left.pop()]
        while left and (len(group) + 1) * left[-1].size <= self.tokens:
            group.append(left.pop())
        return group

    def _run(self, group: list[Row]) -> Iterable[tuple[int, float]]:
        numbers = [number for row in group for number in row.numbers]
        try:
            return zip(numbers, self._forward(group), strict=True)
        except (RuntimeError, MemoryError) as error:
            if not _out_of_memory(error):
                raise RewardError(f"the model broke down on {self._device}: {error}") from error
            if len(numbers) == 1:
                what = f"one conversation of {group[0].size} tokens does not fit the memory of {self._device}"
                raise RewardError(f"{what}: take a larger device, or a smaller dtype.") from error
        # outside of `except`: the error holds the frames, and they hold what is to be freed
        _free(self._device)
        self.tokens = max(1, self.tokens // 2)
        return [scored for half in _halves(group) for scored in self._run(half)]


def rows(readings: Sequence[Reading], *, share: bool) -> list[Row]:
    """Lay readings into rows: those with the same prompt together where that saves enough."""
    alike: dict[tuple[int, ...], list[int]] = {}
    for number, reading in enumerate(readings):
        key = tuple(reading.tokens[: reading.prefix]) if share and reading.prefix else (-1, number)
        alike.setdefault(key, []).append(number)
    return [row for group in alike.values() for row in _laid([(number, readings[number]) for number in group])]


def _laid(group: list[tuple[int, Reading]]) -> Iterator[Row]:
    """Lay the readings of one prompt into rows of at most ROW tokens, the shortest first."""
    group.sort(key=lambda pair: (len(pair[1].tokens), pair[0]))
    held: list[tuple[int, Reading]] = []
    for pair in group:
        if held and _row([*held, pair]).size > ROW:
            yield from _settled(held)
            held = []
        held.append(pair)
    yield from _settled(held)


def _settled(held: list[tuple[int, Reading]]) -> list[Row]:
    row = _row(held)
    apart = sum(len(reading.tokens) for reading in row.readings)
    return [row] if row.size <= SAVING * apart else [_row([pair]) for pair in held]


def _row(held: list[tuple[int, Reading]]) -> Row:
    numbers, readings = zip(*held, strict=True)
    return Row(readings[0].prefix if len(held) > 1 else 0, readings, numbers)


_KNOWN_TO_SHARE = {"llama", "qwen2", "qwen3"}
"""Kinds of bodies that take a mask of rows that share a prompt, and were tested with it."""


def shares_prompts(body: Any) -> bool:  # noqa: ANN401
    """Whether responses to one prompt may go through `body` as one row: every layer looks at all that came before."""
    layers = getattr(body.config, "layer_types", None) or ["full_attention"]
    known = body.config.model_type in _KNOWN_TO_SHARE and body.config._attn_implementation == "sdpa"  # noqa: SLF001
    return known and set(layers) == {"full_attention"}


def last_hidden(body: Any, group: Sequence[Row]) -> Any:  # noqa: ANN401
    """Hidden states where each reading of a causal model is looked at: shape (readings, places, hidden size).

    They lie on the body's device, in its precision.
    """
    import torch

    width = max(row.size for row in group)
    tokens = torch.zeros((len(group), width), dtype=torch.long)
    for number, row in enumerate(group):
        flat = [t for reading, _ in row.branches() for t in reading.tokens[row.shared :]]
        tokens[number, : row.size] = torch.tensor(row.readings[0].tokens[: row.shared] + flat)
    extra = _branching(group, width, body.device) if any(row.shared for row in group) else {}
    looked = [
        (n, _places(reading, row.shared, start)) for n, row in enumerate(group) for reading, start in row.branches()
    ]
    with torch.inference_mode():
        states = body(tokens.to(body.device), use_cache=False, **extra).last_hidden_state
        return states[torch.tensor([[n] * len(at) for n, at in looked]), torch.tensor([at for _, at in looked])]


def _places(reading: Reading, shared: int, start: int) -> list[int]:
    return [place if place < shared else start + place - shared for place in reading.at]


def _branching(group: Sequence[Row], width: int, device: Any) -> dict[str, Any]:  # noqa: ANN401
    """Positions and mask of rows whose readings share a prompt: each sees it and itself, from the left."""
    import torch

    positions = torch.arange(width).repeat(len(group), 1)
    branch = torch.zeros((len(group), width), dtype=torch.long)  # 0: the prompt, or a row of one reading
    for number, row in enumerate(group):
        for name, (reading, start) in enumerate(row.branches() if row.shared else (), start=1):
            end = start + len(reading.tokens) - row.shared
            positions[number, start:end] = torch.arange(row.shared, len(reading.tokens))
            branch[number, start:end] = name
    asks, seen = branch[:, :, None], branch[:, None, :]
    mask = ((seen == 0) | (seen == asks)) & torch.ones((width, width), dtype=torch.bool).tril()
    return {"attention_mask": mask[:, None].to(device), "position_ids": positions.to(device)}


def _halves(group: list[Row]) -> list[list[Row]]:
    if len(group) > 1:
        middle = len(group) // 2
        return [group[:middle], group[middle:]]
    (row,) = group
    pairs = list(zip(row.numbers, row.readings, strict=True))
    return [[_row(half)] for half in (pairs[: len(pairs) // 2], pairs[len(pairs) // 2 :])]


def _out_of_memory(error: Exception) -> bool:
    """Whether memory ran out: torch has a class for it on GPUs only."""
    return isinstance(error, MemoryError) or any(text in str(error).lower() for text in _NO_MEMORY)


def _free(device: str) -> None:
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()
