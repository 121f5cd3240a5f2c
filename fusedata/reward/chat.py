"""How a conversation becomes text and tokens, for every reward model that runs in this process.

The model's chat template sees all turns of the prompt, the assistant's earlier ones among them, and the response as the
last turn; nothing is cut, translated or added, and Chinese goes through as any text. A system prompt is kept: the
response was written under it, and without it the model would judge an answer to something else. ArmoRM was trained on
exchanges without one, but its template (Llama-3's) has a place for it; responses that are compared share their prompt,
so what it shifts is shared too. A template that has no place for a system prompt (Gemma's) refuses the conversation:
the response has no reward, and its row says so.
"""

from functools import cache
from typing import Any, NamedTuple

from fusedata.reward.protocol import Item


class Reading(NamedTuple):
    """One item as a model reads it."""

    tokens: list[int]
    at: tuple[int, ...]
    """Where the head looks: positions in `tokens`."""
    prefix: int = 0
    """Leading tokens that are the prompt's alone: what other responses to it begin with, too."""


def conversation(tokenizer: Any, item: Item) -> tuple[str, str]:  # noqa: ANN401
    """Texts of the prompt, up to and with the assistant's header, and of the whole, through the chat template.

    Text may hold anything: a special token inside it is broken with a space, so that it is read as plain characters,
    and a lone surrogate is read as U+FFFD.
    """
    turns = [{"role": m["role"], "content": plain(tokenizer, m["content"])} for m in item.messages]
    answer = {"role": "assistant", "content": plain(tokenizer, item.response)}
    prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return prompt, tokenizer.apply_chat_template([*turns, answer], tokenize=False)


def whole_tokens(tokenizer: Any, item: Item) -> tuple[list[int], int]:  # noqa: ANN401
    """Tokens of the whole conversation, read in one piece as reward models are trained, and how many are the prompt's.

    A template may write the prompt otherwise once it is answered: then fewer tokens count as the prompt's, or none.
    """
    prompt, whole = conversation(tokenizer, item)
    first, tokens = tokenizer([prompt, whole], add_special_tokens=False).input_ids
    differs = (n for n, (a, b) in enumerate(zip(first, tokens, strict=False)) if a != b)
    return tokens, next(differs, min(len(first), len(tokens)))


def plain(tokenizer: Any, text: str) -> str:  # noqa: ANN401
    """Give `text` without special tokens and lone surrogates."""
    readable = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    for token in _special(tokenizer):
        readable = readable.replace(token, f"{token[0]} {token[1:]}")
    return readable


@cache
def _special(tokenizer: Any) -> tuple[str, ...]:  # noqa: ANN401
    """Give the tokens that control a model. Added tokens that only abbreviate text (runs of spaces) are not."""
    added = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    return tuple(dict.fromkeys((*added, *tokenizer.all_special_tokens)))
