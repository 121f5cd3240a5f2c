"""What an audit knows of each row: keys, numbers and flags instead of texts, so that all rows fit into memory. Pure.

One streaming pass over a dataset gives its facts; the checks are functions of them.
"""

import polars as pl

from fusedata.shapes import PARTS, TOLD, Kind

SPECIAL = (
    *("<|im_start|>", "<|im_end|>", "<|im_sep|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|begin_of_text|>"),
    *("<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|user|>", "<|assistant|>", "<|system|>"),
    *("<|end|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|python_tag|>", "<|start|>", "<|message|>"),
    *("<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>", "<pad>", "<unk>", "</s>", "[INST]", "[/INST]", "<<SYS>>"),
    *(
        "<</SYS>>",
        "[TOOL_CALLS]",
        "[AVAILABLE_TOOLS]",
        "<extra_id_0>",
        "<extra_id_1>",
        "<\uff5cUser\uff5c>",
        "<\uff5cAssistant\uff5c>",
    ),
    *(
        "<\uff5cbegin\u2581of\u2581sentence\uff5c>",
        "<\uff5cend\u2581of\u2581sentence\uff5c>",
        "<think>",
        "</think>",
        "<|channel|>",
        "<tool_call>",
    ),
)
"""Control tokens of chat templates; `<s>` alone is left out, for it is HTML too."""

ESTIMATE = "estimated: 4 ASCII characters a token, 1.5 others"


def facts(rows: pl.LazyFrame, kind: Kind) -> pl.LazyFrame:
    """Give the facts of common rows (see `shapes`): `split`, `row`, what rows tell, and facts of each part `p`.

    `p_key` and `p_turns`: hashes of its text, blanks at the ends aside, and of all its turns. `p_null`: there are no
    turns, or none has a text. `p_blank`: the last turn is blank. `p_chars`; `p_tokens_estimate`. `p_roles`: the roles,
    joined by a comma. `p_special`: the first control token of a chat template in it. `p_fence`: it ends inside a code
    block.
    """
    columns: dict[str, pl.Expr] = {}
    for part in PARTS[kind]:
        columns |= {f"{part}_{name}": fact for name, fact in _of_turns(pl.col(part), part).items()}
    return rows.select("split", "row", *TOLD[kind], **columns)


def _of_turns(turns: pl.Expr, part: str) -> dict[str, pl.Expr]:
    content = pl.element().struct.field("content")
    texts = turns.list.eval(content)
    text = texts.list.join("\n\n", ignore_nulls=True)
    last = texts.list.last()
    other = text.str.len_bytes() - text.str.len_chars()  # bytes beyond the first of characters that are not ASCII
    wide = (other / 2).cast(pl.Int64)  # most of them are of three bytes
    narrow = text.str.len_chars().cast(pl.Int64) - wide
    found = {
        "key": text.str.strip_chars().hash(),
        "turns": turns.list.eval(pl.element().struct.field("role") + "\0" + content.str.strip_chars())
        .list.join("\1")
        .hash(),
        "null": turns.is_null() | (turns.list.len() == 0) | texts.list.eval(pl.element().is_null()).list.any(),
        "blank": last.is_null() | (last.str.strip_chars().str.len_bytes() == 0),
        "chars": text.str.len_chars().cast(pl.Int64),
        "tokens_estimate": (narrow / 4 + wide / 1.5).ceil().cast(pl.Int64),
        "roles": turns.list.eval(pl.element().struct.field("role")).list.join(",", ignore_nulls=True),
        "special": text.str.extract_many(list(SPECIAL)).list.first(),
    }
    if part != "prompt":
        found["fence"] = last.str.count_matches("```", literal=True) % 2 == 1
    return found
