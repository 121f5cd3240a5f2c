"""The shapes in which preference data are kept, and one that all are brought into: pure, on schemas and lazy frames.

Read are fusedata's own rows, TRL's (messages or plain texts, the prompt explicit or at the head of both answers),
FuseAI's, ShareGPT's and LLaMA-Factory's `conversations`, ms-swift's `rejected_response`, and Alpaca's `instruction`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import polars as pl

from fusedata.errors import CorpusError
from fusedata.schema import MESSAGES

Kind = Literal["sft", "dpo"]
Schema = Mapping[str, pl.DataType]

PARTS: dict[str, tuple[str, ...]] = {"sft": ("prompt", "response"), "dpo": ("prompt", "chosen", "rejected")}
"""The columns of a common row that hold turns: MESSAGES each, an answer's as a rule one turn."""
_SIDE = {
    "sample": pl.Int32(),
    "reward": pl.Float64(),
    "verdict": pl.String(),
    "finish_reason": pl.String(),
    "completion_tokens": pl.Int32(),
    "tokens": pl.Int32(),
}
_TOLD = {
    "prompt_id": pl.String(),
    "corpus": pl.String(),
    "license": pl.String(),
    "source_model": pl.String(),
    "weight": pl.Float64(),
}
TOLD: dict[str, dict[str, pl.DataType]] = {
    "sft": {**_TOLD, **_SIDE},
    "dpo": {
        **_TOLD,
        "rejected_source_model": pl.String(),
        **{f"{side}_{name}": dtype for side in ("chosen", "rejected") for name, dtype in _SIDE.items()},
    },
}
"""What else a common row tells; null where its dataset does not."""
_OTHER_NAMES = {
    "dataset": "corpus",
    "score_chosen": "chosen_reward",
    "score_rejected": "rejected_reward",
    "chosen_score": "chosen_reward",
    "rejected_score": "rejected_reward",
}
_ROLES = {"human": "user", "gpt": "assistant", "observation": "tool", "function_call": "assistant"}
COLUMNS = frozenset(
    {
        *("messages", "conversations", "prompt", "completion", "chosen", "rejected", "rejected_response", "system"),
        *("instruction", "input", "output", "response", *TOLD["sft"], *TOLD["dpo"], *_OTHER_NAMES),
    }
)
"""Every column that this module looks at."""


@dataclass(frozen=True)
class Shape:
    """What rows are: `kind`, and the name of the shape, as messages say it."""

    kind: Kind
    name: str


def recognised(schema: Schema) -> Shape | None:
    """Tell the shape of rows by their columns; None: they are no SFT or DPO data."""
    names = set(schema)
    if {"chosen", "rejected"} <= names:
        return Shape("dpo", _pairs_shape(schema))
    if {"messages", "rejected_response"} <= names:
        return Shape("dpo", "ms-swift")
    return next((Shape("sft", name) for wanted, name in _ANSWERED if wanted <= names), None)


_ANSWERED = (
    ({"messages", "prompt_id", "source_model", "sample"}, "fusedata"),
    ({"messages"}, "messages"),
    ({"conversations", "dataset", "source_model"}, "FuseAI"),
    ({"conversations"}, "ShareGPT"),
    ({"prompt", "completion"}, "prompt and completion"),
    ({"instruction", "output"}, "Alpaca"),
)


def _pairs_shape(schema: Schema) -> str:
    if {"prompt_id", "chosen_sample", "rejected_sample"} <= set(schema):
        return "fusedata"
    if "conversations" in schema:
        return "LLaMA-Factory"
    if {"dataset", "source_model", "prompt"} <= set(schema):
        return "FuseAI"
    return "TRL" if "instruction" not in schema else "Alpaca"


def common(rows: pl.LazyFrame, schema: Schema, shape: Shape) -> pl.LazyFrame:
    """Bring rows into the common shape: PARTS and TOLD of their kind, and their `split` and `row`.

    Raises CorpusError where a column that should hold turns or a text holds something else.
    """
    parts = _pair(schema) if shape.kind == "dpo" else _answered(schema)
    named = {column: name for column, name in _OTHER_NAMES.items() if column in schema and name not in schema}
    there = {named.get(column, column): column for column in schema}
    told = {name: _told(there.get(name), dtype, schema) for name, dtype in TOLD[shape.kind].items()}
    return rows.select("split", "row", **told, **parts)


def _told(column: str | None, dtype: pl.DataType, schema: Schema) -> pl.Expr:
    if column is None or isinstance(schema[column], pl.List | pl.Struct | pl.Array):
        return pl.lit(None, dtype)
    return pl.col(column).cast(dtype, strict=False)


def _answered(schema: Schema) -> dict[str, pl.Expr]:
    """Give prompt and response of an SFT row: the response is the last turn."""
    column = next((name for name in ("messages", "conversations") if name in schema), None)
    if column is not None:
        turns = _with_system(_turns(schema, column, "user"), schema)
        return {"prompt": _head(turns), "response": turns.list.tail(1)}
    if "completion" in schema:
        return {"prompt": _turns(schema, "prompt", "user"), "response": _turns(schema, "completion", "assistant")}
    return {"prompt": _instruction(schema), "response": _turns(schema, "output", "assistant")}


def _pair(schema: Schema) -> dict[str, pl.Expr]:
    if "rejected_response" in schema:
        turns = _turns(schema, "messages", "user")
        rejected = _turns(schema, "rejected_response", "assistant")
        return {"prompt": _head(turns), "chosen": turns.list.tail(1), "rejected": rejected}
    chosen, rejected = (_turns(schema, side, "assistant") for side in ("chosen", "rejected"))
    return {"prompt": _asked(schema, chosen), "chosen": _answer(chosen), "rejected": _answer(rejected)}


def _asked(schema: Schema, chosen: pl.Expr) -> pl.Expr:
    """Give the prompt of a pair: a column of its own, or the head of the chosen turns."""
    column = next((name for name in ("prompt", "conversations") if name in schema), None)
    if column is not None:
        return _with_system(_turns(schema, column, "user"), schema)
    return _instruction(schema) if "instruction" in schema else _head(chosen)


def _answer(turns: pl.Expr) -> pl.Expr:
    """Leave the answer of turns that may begin with their prompt."""
    whole = turns.list.first().struct.field("role") == "assistant"
    return pl.when(whole.fill_null(value=True)).then(turns).otherwise(turns.list.tail(1))


def _head(turns: pl.Expr) -> pl.Expr:
    return turns.list.head(turns.list.len().cast(pl.Int64).sub(1).clip(0))


def _instruction(schema: Schema) -> pl.Expr:
    texts = [pl.col(name).cast(pl.String) for name in ("instruction", "input") if name in schema]
    filled = [pl.when(text.str.len_bytes() > 0).then(text) for text in texts]
    return _with_system(_turn("user", pl.concat_str(filled, separator="\n", ignore_nulls=True)), schema)


def _with_system(turns: pl.Expr, schema: Schema) -> pl.Expr:
    if schema.get("system") != pl.String:
        return turns
    there = pl.col("system").str.len_bytes() > 0
    return pl.when(there).then(pl.concat_list(_turn("system", pl.col("system")), turns)).otherwise(turns)


def _turn(role: str, text: pl.Expr) -> pl.Expr:
    return pl.concat_list(pl.struct(role=pl.lit(role), content=text))


def _turns(schema: Schema, column: str, role: str) -> pl.Expr:
    """Give a column as MESSAGES: turns, one turn, or a text that `role` said; null stays null."""
    dtype, cell = schema[column], pl.col(column)
    if dtype in (pl.String, pl.Null):
        return pl.when(cell.is_not_null()).then(_turn(role, cell.cast(pl.String)))
    one = isinstance(dtype, pl.Struct)
    inner = dtype.inner if isinstance(dtype, pl.List) else dtype
    names = _turn_names(inner)
    if names is None:
        wanted = "a text, or turns of `role` and `content` or of `from` and `value`"
        raise CorpusError(f"The column {column!r} holds {dtype}, which fusedata cannot read; it takes {wanted}.")
    turns = pl.concat_list(cell) if one else cell
    if dtype == MESSAGES:
        return turns
    said, text = (pl.element().struct.field(name).cast(pl.String) for name in names)
    each = turns.list.eval(pl.struct(role=said.replace(_ROLES), content=text))
    return pl.when(cell.is_not_null()).then(each) if one else each


def _turn_names(inner: object) -> tuple[str, str] | None:
    fields = {field.name: field.dtype for field in inner.fields} if isinstance(inner, pl.Struct) else {}
    for names in (("role", "content"), ("from", "value")):
        if all(fields.get(name) in (pl.String, pl.Null) for name in names):
            return names
    return None
