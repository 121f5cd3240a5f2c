"""What is looked at before the first step: turns, the target's chat template, lengths, and what the loss will see."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import polars as pl
from jinja2 import TemplateError

from fusedata.errors import ConfigError
from fusedata.schema import Message
from fusedata.train.settings import Settings, Stage

SIDES: Mapping[Stage, tuple[str, ...]] = {"sft": ("completion",), "dpo": ("chosen", "rejected")}
"""The columns of responses, by stage; each holds one turn of the assistant, and `prompt` the turns before it."""


class Tokenizer(Protocol):
    """The part of a tokenizer of transformers that is needed."""

    chat_template: Any

    def apply_chat_template(self, conversation: Sequence[Message], **arguments: object) -> Any:  # noqa: ANN401
        """Render a conversation as text or as tokens."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Give the text of tokens."""
        ...


@dataclass(frozen=True)
class Checked:
    """The rows that are trained on and held out, and the counts of what was left out, by reason."""

    train: pl.DataFrame
    test: pl.DataFrame
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Seen:
    """A row as the loss sees it: the text it is conditioned on, and the text it is computed on."""

    context: str
    target: str


def checked(stage: Stage, train: pl.DataFrame, test: pl.DataFrame, tokenizer: Tokenizer, settings: Settings) -> Checked:
    """Check every row, and leave out those that are too long. Raises ConfigError for rows that cannot be meant."""
    if not tokenizer.chat_template:
        raise ConfigError("The target has no chat template: name an instruction model, or add one to its tokenizer.")
    counts: dict[str, int] = {}
    kept: list[pl.DataFrame] = []
    for split, rows in (("train", train), ("test", test)):
        _refuse_bad_turns(stage, rows)
        limit = settings.max_tokens
        longer = pl.Series([length > limit for length in _lengths(stage, rows, tokenizer)], dtype=pl.Boolean)
        counts[f"{split} rows"] = rows.height
        counts[f"{split} rows of more than {limit} tokens"] = int(longer.sum())
        if settings.longer == "cut":  # what is cut before its response begins has nothing to train on
            begun = (_tokens(tokenizer, turns, add_generation_prompt=True) for turns in rows["prompt"])
            longer = pl.Series([len(tokens) >= limit for tokens in begun], dtype=pl.Boolean)
            counts[f"{split} rows of so long a prompt, left out"] = int(longer.sum())
        kept.append(rows.filter(~longer))
    if not train.height:
        raise ConfigError("The dataset has no rows to train on: its train split is empty or not there.")
    if not kept[0].height:
        raise ConfigError(f"Nothing is left to train on: all {train.height} rows are longer than max_tokens.")
    return Checked(kept[0], kept[1], counts)


def _where(row: Mapping[str, Any]) -> str:
    return f"Row {row['row']} of the {row['split']} split"


def _refuse_bad_turns(stage: Stage, rows: pl.DataFrame) -> None:
    for row in rows.iter_rows(named=True):
        where = _where(row)
        if why := _bad_prompt(row["prompt"]):
            raise ConfigError(f"{where}: {why}: mend the dataset (`fusedata audit` lists all such rows).")
        for side in SIDES[stage]:
            turns = row[side] or []
            if len(turns) != 1 or turns[0]["role"] != "assistant" or not (turns[0]["content"] or "").strip():
                found = f"its {side} is not one turn of the assistant with a text"
                raise ConfigError(f"{where}: {found}: mend the dataset (`fusedata audit` lists all such rows).")
        if stage == "dpo" and row["chosen"] == row["rejected"]:
            raise ConfigError(f"{where}: chosen and rejected are the same: leave such pairs out (`fusedata audit`).")


def _bad_prompt(turns: Sequence[Message] | None) -> str | None:
    roles = [turn["role"] for turn in turns or ()]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    if not spoken or spoken[-1] != "user":
        return "its prompt does not end with a turn of the user"
    if spoken != [("user", "assistant")[place % 2] for place in range(len(spoken))]:
        return f"its turns do not alternate ({', '.join(roles)})"
    if not all((turn["content"] or "").strip() for turn in turns or () if turn["role"] != "system"):
        return "a turn of its prompt has no text"
    return None


def _lengths(stage: Stage, rows: pl.DataFrame, tokenizer: Tokenizer) -> Iterator[int]:
    """Count the tokens of each row, of the longer side of a pair, as the target's chat template renders it."""
    for row in rows.iter_rows(named=True):
        try:
            yield max(len(_tokens(tokenizer, row["prompt"] + row[side])) for side in SIDES[stage])
        except TemplateError as error:
            found = f"the target's chat template refuses it ({error})"
            raise ConfigError(f"{_where(row)}: {found}: leave such rows out.") from error


def _tokens(tokenizer: Tokenizer, turns: Sequence[Message], **arguments: object) -> Sequence[int]:
    tokens: Sequence[int] = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False, **arguments)
    return tokens


def seen(stage: Stage, prepared: Mapping[str, Any], tokenizer: Tokenizer) -> Seen:
    """Show a row that TRL has prepared: what the loss leaves out, and what it counts."""
    if stage == "dpo":
        return Seen(tokenizer.decode(prepared["prompt_ids"]), tokenizer.decode(prepared["chosen_ids"]))
    pairs = list(zip(prepared["input_ids"], prepared["labels"], strict=True))
    context = [token for token, label in pairs if label < 0]
    return Seen(tokenizer.decode(context), tokenizer.decode([token for token, label in pairs if label >= 0]))


def check_mask(shown: Seen, prompt: Sequence[Message], response: str) -> None:
    """Hold the loss to the response: all of it, and nothing of the prompt. Raises ConfigError.

    Blanks do not count: decoding may move them. A prompt may say what the response says.
    """
    said, context, target = map(_without_blanks, (response, shown.context, shown.target))
    in_prompt = sum(_without_blanks(turn["content"]).count(said) for turn in prompt)
    if said not in target or context.count(said) > in_prompt:
        raise ConfigError(
            "The loss would not see the response alone: the target's chat template renders a prompt and its answer in"
            f" a way that TRL cannot tell apart (it would train on {shown.target[:80]!r})."
        )


def _without_blanks(text: str) -> str:
    return "".join(text.split())
