"""Prompts of more than one text: conversations, marks between turns, system prompts."""

import re
from collections.abc import Mapping, Sequence
from itertools import groupby

import orjson
import polars as pl

from fusedata.corpus import Corpus
from fusedata.schema import MESSAGES, Message

_ROLES = {"user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant", "system": "system"}
_KEYS = (("role", "content"), ("from", "value"))

Turn = Mapping[str, str | None]


def turn_keys(kind: pl.DataType) -> tuple[str, str] | None:
    """Give the names under which a column of this type holds who speaks and what is said; None: no conversations."""
    inner = kind.inner if isinstance(kind, pl.List) else None
    if not isinstance(inner, pl.Struct):
        return None
    texts = {field.name for field in inner.fields if field.dtype == pl.String}
    return next((keys for keys in _KEYS if texts.issuperset(keys)), None)


def messages(text: str) -> list[Message]:
    """Give the turns of a prompt that is one text."""
    return [{"role": "user", "content": text}]


def read_said(said: str, *, plain: bool) -> list[Message]:
    """Give the turns that a row says: `said` is a text where the corpus is `plain`, else JSON."""
    if plain:
        return messages(said)
    turns: list[Message] = orjson.loads(said)
    return turns


def said_turns(*, plain: bool) -> pl.Expr:
    """What `read_said` gives, of the column `said`."""
    if plain:
        return pl.concat_list(pl.struct(role=pl.lit("user"), content=pl.col("said")))
    return pl.col("said").str.json_decode(MESSAGES)


def turn_texts() -> dict[str, pl.Expr]:
    """`text` and `turns` of CANDIDATES, of the column `messages`."""
    turn = pl.element().struct
    all_of_it = turn.field("content")
    said = {"text": all_of_it.filter(turn.field("role") == "user"), "turns": all_of_it}
    return {name: pl.col("messages").list.eval(each).list.join("\n\n") for name, each in said.items()}


def said(rows: pl.DataFrame, corpus: Corpus) -> list[str | None]:
    """Give for each row its turns as JSON; empty where the user says nothing, None where turns are out of order."""
    column = rows[corpus.prompt]
    keys = turn_keys(column.dtype)
    systems = rows[corpus.system].to_list() if corpus.system else [None] * rows.height
    return [
        _json(
            [
                *([("system", system.strip())] if system and system.strip() else []),
                *(_spoken(value or [], *keys) if keys else _cut(value or "", corpus)),
            ]
        )
        for value, system in zip(column.to_list(), systems, strict=True)
    ]


def last_answer(value: Sequence[Turn] | None, keys: tuple[str, str]) -> str | None:
    """Give what the assistant says at the end of a conversation; None where it does not have the last word."""
    role, content = keys
    last = value[-1] if value else {}
    return last[content] if _ROLES.get(last.get(role) or "") == "assistant" else None


def _spoken(value: Sequence[Turn], role: str, content: str) -> list[tuple[str, str]]:
    named = [(_ROLES.get(turn[role] or "", "other"), (turn[content] or "").strip()) for turn in value if turn]
    return named[1:] if named and named[0] == ("system", "") else named


def _cut(text: str, corpus: Corpus) -> list[tuple[str, str]]:
    if corpus.turns is None:
        return [("user", text.strip())]
    roles = {corpus.turns.user: "user", corpus.turns.assistant: "assistant"}
    pieces = re.split(f"({'|'.join(map(re.escape, roles))})", text)
    spoken = zip(("user", *(roles[mark] for mark in pieces[1::2])), pieces[::2], strict=True)
    return [(role, piece.strip()) for role, piece in spoken]


def _json(turns: list[tuple[str, str]]) -> str | None:
    """Give a prompt's turns as JSON, without the assistant's at its end: user and assistant by turns, the user first.

    Turns of one speaker that follow each other are one: many chat templates refuse to write them. HelpSteer2 has such,
    where a task is described before the first mark.
    """
    while turns and turns[-1][0] == "assistant":
        turns.pop()
    if not turns or turns[-1] == ("user", "") or all(role == "system" for role, _ in turns):
        return ""
    merged = [(role, "\n\n".join(content for _, content in each)) for role, each in groupby(turns, lambda t: t[0])]
    roles = [role for role, _ in merged if role != "system"]
    ordered = roles == [("user", "assistant")[number % 2] for number in range(len(roles))]
    late = any(role == "system" for role, _ in merged[1:])
    if not ordered or late or not all(content for _, content in turns):
        return None
    return orjson.dumps([{"role": role, "content": content} for role, content in merged]).decode()
