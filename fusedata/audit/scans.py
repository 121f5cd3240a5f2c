"""Checks that read every text: languages, secrets, personal data. Each states its own rate, and can be left out."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import polars as pl

from fusedata.audit.expected import Expected
from fusedata.audit.private import Found, personal, secrets
from fusedata.audit.report import Finding, Severity
from fusedata.audit.rows import EXAMPLES, finding
from fusedata.errors import ConfigError, MissingExtraError
from fusedata.shapes import PARTS, Kind
from fusedata.store import batches, first_line
from fusedata.texts.language import language
from fusedata.texts.similar import NearDuplicates

if TYPE_CHECKING:
    from fusedata.audit.benchmarks import Held
    from fusedata.contamination.overlap import Index

READ_ALL = ("language", "near duplicates", "contamination", "contaminated answers", "secrets", "personal data")
"""The checks that read every text."""
SIMILAR = 0.8
"""Jaccard similarity of the prompts' shingles from which on they are near duplicates."""
_ROWS = 2_000
_QUOTED = 200
_FOUND = {"split": pl.String(), "row": pl.Int64(), "prompt_id": pl.String(), "detail": pl.String()}
Row = tuple[str, int, str | None, tuple[str, ...]]
"""Split, row, prompt id, and the texts of the row's parts."""
Look = Callable[[Sequence[Row]], Iterable[str | None]]
"""Says of each row what is wrong with it; None: nothing."""


@dataclass
class Scan:
    """One check under way over all rows of a dataset: what it found so far, and the seconds that it took."""

    name: str
    severity: Severity
    message: str
    look: Look
    told: Counter[str] = field(default_factory=Counter)
    found: list[tuple[str, int, str | None, str]] = field(default_factory=list)
    seconds: float = 0.0

    def read(self, rows: Sequence[Row]) -> None:
        """Look at some rows. Raises MissingExtraError."""
        began = time.perf_counter()
        for (split, row, prompt_id, _), said in zip(rows, self.look(rows), strict=True):
            if said is not None:
                self.found.append((split, row, prompt_id, said))
        self.seconds += time.perf_counter() - began


def scan_findings(
    name: str,
    kind: Kind,
    rows: pl.LazyFrame,
    expected: Expected,
    skip: Sequence[str],
    *,
    held: "Held | None" = None,
    tokenizer: str | None = None,
) -> list[Finding]:
    """Read every text of a dataset once, for all checks that are not to be skipped.

    `held`: the benchmarks that texts are held against; `tokenizer`: a folder or a hub's model, to count tokens by.
    Raises RunError, ConfigError.
    """
    scans = [_languages(expected), _near_duplicates(), _secrets(), _personal()]
    scans += [_contamination(held.index, expected), _contaminated_answers(held.index)] if held and held.index else []
    scans += [_lengths(tokenizer, expected)] if tokenizer else []
    scans = [scan for scan in scans if scan.name not in skip]
    absent: list[Finding] = []
    if held and held.index is None:
        absent.append(Finding("contamination", "skipped", held.why, name))
    count = chars = 0
    for batch in _batches(kind, rows) if scans else ():
        count, chars = count + len(batch), chars + sum(len(text) for *_, texts in batch for text in texts)
        for scan in list(scans):
            try:
                scan.read(batch)
            except MissingExtraError as error:
                scans.remove(scan)
                absent.append(Finding(scan.name, "skipped", str(error), name))
    return [*absent, *(_finding(scan, name, count, chars) for scan in scans)]


def _finding(scan: Scan, name: str, count: int, chars: int) -> Finding:
    rows = pl.DataFrame(scan.found, schema=_FOUND, orient="row")
    told = ", ".join(f"{what} {number:,}" for what, number in scan.told.most_common(EXAMPLES))
    message = f"{scan.message} ({told})" if told else scan.message
    found = finding(name, count, scan.name, scan.severity, message, rows)
    rate = chars / scan.seconds if scan.seconds else None
    return Finding(**{**found.__dict__, "rate": rate})


def _batches(kind: Kind, rows: pl.LazyFrame) -> Iterator[list[Row]]:
    texts = {
        part: pl.col(part).list.eval(pl.element().struct.field("content")).list.join("\n\n", ignore_nulls=True)
        for part in PARTS[kind]
    }
    columns = rows.select("split", "row", "prompt_id", *(text.fill_null("").alias(p) for p, text in texts.items()))
    for batch in batches(columns, (), _ROWS, in_order=True):
        yield [(split, row, prompt_id, tuple(said)) for split, row, prompt_id, *said in batch.iter_rows()]


def _languages(expected: Expected) -> Scan:
    """Tell the language of prompts and answers; one that is not expected is worth a warning."""
    told: Counter[str] = Counter()

    def one(texts: Sequence[str]) -> str | None:
        spoken = [language(text) for text in texts]
        told[spoken[0] or "unknown"] += 1
        other = [code for code in spoken if code and expected.languages and code not in expected.languages]
        changed = [code for code in spoken[1:] if code and spoken[0] and code != spoken[0]]
        return ", ".join(code or "?" for code in spoken) if other or changed else None

    wanted = f"not in {', '.join(expected.languages)}, or " if expected.languages else ""
    message = f"a text is {wanted}not in its prompt's language; prompts are in"
    return Scan("language", "note", message, _each(one), told)


def _secrets() -> Scan:
    """Models make keys up, and programs hold passwords that are none: somebody must look, and no push is stopped."""
    return _private("secrets", "warning", "a text holds what looks like a key, token or password", secrets)


def _personal() -> Scan:
    message = "a text holds an e-mail address, a telephone number, a payment card or an IBAN"
    return _private("personal data", "warning", message, personal)


def _private(name: str, severity: Severity, message: str, search: Callable[[str], Iterator[Found]]) -> Scan:
    told: Counter[str] = Counter()

    def one(texts: Sequence[str]) -> str | None:
        found = dict.fromkeys(one for text in texts for one in search(text))
        told.update(kind for kind, _ in found)
        return "; ".join(f"{kind} {beginning}" for kind, beginning in found) or None

    return Scan(name, severity, message, _each(one), told)


def _each(one: Callable[[Sequence[str]], str | None]) -> Look:
    """Look at the texts of one row after the other."""

    def look(rows: Sequence[Row]) -> Iterator[str | None]:
        return (one(texts) for *_, texts in rows)

    return look


def _near_duplicates() -> Scan:
    """Find prompts that resemble an earlier one; equal prompts are another check's."""
    told: Counter[str] = Counter()
    kept = NearDuplicates(SIMILAR)
    given: list[tuple[str, int]] = []
    seen: set[str] = set()

    def look(rows: Sequence[Row]) -> Iterator[str | None]:
        new = [not (texts[0].strip() in seen or seen.add(texts[0].strip())) for *_, texts in rows]  # type: ignore[func-returns-value]
        given.extend(row[:2] for row, is_new in zip(rows, new, strict=True) if is_new)
        likenesses = iter(kept.add([row[3][0] for row, is_new in zip(rows, new, strict=True) if is_new]))
        for row, is_new in zip(rows, new, strict=True):
            like = next(likenesses) if is_new else None
            if like is not None:
                split, number = given[like.place]
                told["within a split" if split == row[0] else "across splits"] += 1
            yield f"like {split} {number}: {like.similarity:.2f}" if like is not None else None

    message = f"the prompt shares {SIMILAR:.0%} of its shingles with an earlier one"
    return Scan("near duplicates", "note", message, look, told)


def _lengths(name: str, expected: Expected) -> Scan:
    """Count the tokens of each conversation, texts alone: a chat template adds a few a turn."""
    load = lru_cache(maxsize=1)(_tokenizer)

    def one(texts: Sequence[str]) -> str | None:
        prompt, *answers = (len(tokens) for tokens in load(name)(list(texts))["input_ids"])
        most = prompt + max(answers)
        return f"{most:,}" if most > expected.max_tokens else None

    message = f"the conversation has more than {expected.max_tokens:,} tokens of {name}"
    return Scan("too long, counted", "warning", message, _each(one))


def _tokenizer(name: str) -> Any:  # noqa: ANN401 - a class of a library without types here
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise MissingExtraError("reward", "Counting tokens") from None
    try:
        return AutoTokenizer.from_pretrained(name)
    except Exception as error:  # noqa: BLE001 - a foreign library, and a foreign model
        found = f"--tokenizer {name}: cannot be loaded ({first_line(error)}); name a folder or a hub's model"
        raise ConfigError(f"{found}.") from None


def _contamination(index: "Index", expected: Expected) -> Scan:
    """Find prompts that share words with a benchmark; an error where a recipe promises that there are none."""
    severity: Severity = "error" if expected.decontaminated else "warning"
    return _shared("contamination", severity, "a prompt shares a run of words with a benchmark", index, slice(1))


def _contaminated_answers(index: "Index") -> Scan:
    """Find answers that do: decontamination looks at prompts, and a model may know a benchmark by heart."""
    message = "an answer shares a run of words with a benchmark"
    return _shared("contaminated answers", "warning", message, index, slice(1, None))


def _shared(name: str, severity: Severity, message: str, index: "Index", parts: slice) -> Scan:
    told: Counter[str] = Counter()

    def one(texts: Sequence[str]) -> str | None:
        match = next(filter(None, map(index.find, texts[parts])), None)
        if match is None:
            return None
        told[match.benchmark] += 1
        return f"{match.benchmark} {match.item}: {match.text[:_QUOTED]}"

    return Scan(name, severity, message, _each(one), told)
