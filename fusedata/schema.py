"""The tables: one polars schema a stage, and the keys that join them.

A response is known by (`prompt_id`, `source_model`, `sample`); a prompt by `prompt_id`, a hash of what it says.
"""

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import polars as pl

Message = dict[str, str]
"""One turn: `{"role": "system" | "user" | "assistant", "content": text}`."""

MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
KEY: tuple[str, ...] = ("prompt_id", "source_model", "sample")
_KEY = {"prompt_id": pl.String(), "source_model": pl.String(), "sample": pl.Int32()}

PROMPTS = pl.Schema(
    {
        "prompt_id": pl.String(),
        "corpus": pl.String(),
        "corpus_row": pl.Int64(),  # 0-based row of the corpus, its files taken in order
        "messages": MESSAGES,
        "answer": pl.String(),  # null where the corpus has none; where there are tests, a digest of them
        "tests": pl.String(),  # what programs are judged by, as JSON: tests or check, entry_point, setup, preamble
        "sampled": pl.Boolean(),  # false: only the answers that the corpus carries are used
        "chars": pl.Int64(),  # characters over all turns: what batches are planned by
    }
)
DROPPED = pl.Schema(
    {
        "stage": pl.String(),
        "corpus": pl.String(),
        "corpus_row": pl.Int64(),
        "prompt_id": pl.String(),
        "reason": pl.String(),
        "detail": pl.String(),
    }
)
RESPONSES = pl.Schema(
    {
        **_KEY,
        "text": pl.String(),  # null only where `error` is set
        "text_id": pl.String(),  # equal texts have equal ids, blanks at their ends aside; null: no text, or a blank one
        "finish_reason": pl.String(),  # "stop", "length", "carried" (from the corpus), "too_long" (a prompt), "error"
        "prompt_tokens": pl.Int32(),
        "completion_tokens": pl.Int32(),
        "seed": pl.Int64(),
        "engine": pl.String(),
        "error": pl.String(),
    }
)
VERDICTS = pl.Schema(
    {
        **_KEY,
        "text_id": pl.String(),  # what was judged
        "answer": pl.String(),  # the gold answer, or the digest of the tests, that it was judged by
        "check": pl.String(),
        "passed": pl.Boolean(),  # null: could not be judged
        "status": pl.String(),
        "detail": pl.String(),
    }
)
_RUN = (
    "passed",
    "failed",
    "error",
    "syntax_error",
    "static_error",
    "timeout",
    "memory",
    "output",
    "killed",
    "forbidden",
)
STATUSES = {"math_answer": ("right", "wrong", "unjudged"), "unit_tests": (*_RUN, "unavailable")}
"""What a verdict's status may be, by its check; the last one: it could not be judged."""
REWARDS = pl.Schema(
    {
        **_KEY,
        "text_id": pl.String(),  # what was scored
        "reward_model": pl.String(),
        "reward": pl.Float64(),  # null: could not be scored
        "tokens": pl.Int32(),  # the whole conversation under the reward model's tokenizer; null: the corpus's reward
        "error": pl.String(),
    }
)
FLAWS = pl.Schema(
    {
        **_KEY,
        "text_id": pl.String(),  # what was screened
        "flaw": pl.String(),  # why the response takes no part, one of FLAW_NAMES; null: it does
    }
)
FLAW_NAMES = ("truncated", "refusal", "repetition", "too short", "too long", "language")


def digest(*parts: str, size: int = 12) -> str:
    """Hash strings to `2 * size` hexadecimal digits, the same on every machine and version."""
    pieces: list[bytes] = []
    for part in parts:
        data = part.encode(errors="surrogatepass")
        pieces += len(data).to_bytes(8, "little"), data
    return hashlib.blake2b(b"".join(pieces), digest_size=size).hexdigest()


def normalise(text: str) -> str:
    r"""Text as prompts are compared: Unicode NFC, line ends `\n`, nothing blank at the ends."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.strip()


def prompt_id(messages: Sequence[Mapping[str, str]]) -> str:
    """Identify a prompt by its turns alone: 24 hexadecimal digits, whatever the corpus or the row."""
    return digest(*(part for turn in messages for part in (turn["role"], normalise(turn["content"]))))


def text_prompt_ids(texts: Iterable[str]) -> list[str]:
    """Give what `prompt_id` gives of prompts that are one text of the user, faster."""
    begun: dict[int, hashlib.blake2b] = {}  # by the length of the text, which is hashed before it
    ids = []
    for text in texts:
        data = normalise(text).encode(errors="surrogatepass")
        if (head := begun.get(len(data))) is None:
            head = _USER.copy()
            head.update(len(data).to_bytes(8, "little"))
            begun[len(data)] = head
        hashed = head.copy()
        hashed.update(data)
        ids.append(hashed.hexdigest())
    return ids


_USER = hashlib.blake2b((4).to_bytes(8, "little") + b"user", digest_size=12)


def rank(purpose: str, seed: int, ids: Iterable[str]) -> pl.Series:
    """Give each id a stable pseudo-random number (UInt64), independent between purposes and seeds.

    A prompt's id is a hash already: its first 64 bits are mixed with what the number is for, by the finalizer of
    SplitMix64 (Steele, Lea and Flood, 2014). Other ids count as their digest.
    """
    ids = pl.Series(ids, dtype=pl.String)
    bits = _bits(ids)
    other = bits.is_null() | (ids.str.len_bytes() != _ID_DIGITS)
    if other.any():
        digests = pl.Series(map(digest, ids.filter(other)), dtype=pl.String)
        bits = bits.scatter(other.arg_true(), _bits(digests))
    mixed = bits.to_numpy() ^ np.uint64(int(digest(purpose, str(seed), size=8), 16))
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return pl.Series("rank", mixed ^ (mixed >> np.uint64(31)))


def ranked(purpose: str, seed: int, ids: Iterable[str]) -> list[int]:
    """Give the places of ids in the order of their ranks; equal ids stay as they stand."""
    places: list[int] = rank(purpose, seed, ids).to_numpy().argsort(stable=True).tolist()
    return places


_ID_DIGITS = 24


def _bits(ids: pl.Series) -> pl.Series:
    return ids.str.head(16).str.to_integer(base=16, dtype=pl.UInt64, strict=False)


def sample_seed(seed: int, prompt: str, source_model: str, sample: int) -> int:
    """Derive the seed of one sample, in [0, 2**31): every engine and server takes such a seed."""
    return int(digest(str(seed), prompt, source_model, str(sample), size=4), 16) >> 1


def fingerprint(identity: Mapping[str, object]) -> str:
    """Hash what a stage depends on to 16 hexadecimal digits; the order of the keys does not matter."""
    return hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=8).hexdigest()


def text_id(text: str | None) -> str | None:
    """Identify a text, whatever blanks are at its ends; None for one that is absent or blank: it is never selected."""
    return digest(text.strip()) if text and not text.isspace() else None


def keys_digest(rows: pl.DataFrame) -> str:
    """Name a part after the responses in it (prompt_id, sample): the same batch made again replaces itself."""
    return digest(*(f"{prompt}/{sample}" for prompt, sample in rows.select("prompt_id", "sample").iter_rows()))
