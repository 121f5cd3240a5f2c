"""What `fusedata inspect` draws: distributions, tables, sample rows side by side, one prompt in full."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fusedata.cli.show import heading, hung, line, table, text, width

if TYPE_CHECKING:
    import polars as pl
    from rich.console import RenderableType
    from rich.text import Text

    from fusedata.cli.show import Cell
    from fusedata.inspect_ import Count, Length, Overview, Responses
    from fusedata.inspect_rows import Answer, Known, Sample
    from fusedata.plots import Distribution, Summary

LINES = 12
"""Most lines of a sample's text that are shown."""
CELL = 40
"""Most characters of a table's cell that are shown."""
_TWO_COLUMNS = 72
_STYLES = {"chosen": "green", "rejected": "red", "response": "cyan", "right": "green", "wrong": "red"}
_STYLES |= {"passed": "green", "chosen_own": "green"}
_STYLES |= dict.fromkeys(("failed", "error", "syntax_error", "static_error", "timeout"), "red")


def overview_parts(found: "Overview") -> "list[RenderableType]":
    """Draw the default view: counts, responses, distributions, lengths."""
    parts: list[RenderableType] = [line((str(found.root), "bold"))]
    parts += _counts(found.counts) if found.counts else [line(("No dataset rows yet.", "yellow"))]
    parts += _responses(found.responses)
    if found.verdicts and not found.responses:
        parts.append(heading("verdicts", ", ".join(f"{name} {count:,}" for name, count in found.verdicts.items())))
    return parts + _histograms(found.distributions) + _lengths(found.lengths, found.longer)


def _counts(counts: "Sequence[Count]") -> "list[RenderableType]":
    """One row a corpus and source model, one column a dataset and split."""
    columns = list(dict.fromkeys((c.dataset, c.split) for c in sorted(counts, key=_column_order)))
    groups = list(dict.fromkeys((c.corpus, c.source_model) for c in counts))
    found = {(c.corpus, c.source_model, c.dataset, c.split): c.rows for c in counts}
    rows: list[list[Cell]] = [
        [*(name or "-" for name in group), *(f"{found.get((*group, *column), 0):,}" for column in columns)]
        for group in groups
    ]
    sums = [sum(c.rows for c in counts if (c.dataset, c.split) == column) for column in columns]
    rows.append([("together", "bold"), "", *((f"{n:,}", "bold") for n in sums)])
    headers = ["corpus", "source model", *(f"{dataset.upper()} {split}" for dataset, split in columns)]
    return [line(), table(headers, rows, left=range(2))]


def _column_order(count: "Count") -> tuple[bool, bool, str]:
    return count.dataset != "sft", count.split != "train", count.split


def _responses(responses: "Sequence[Responses]") -> "list[RenderableType]":
    """One table of verdicts and numbers; two, one below the other, where the terminal is too narrow for one."""
    if not responses:
        return []
    from fusedata.schema import STATUSES

    verdicts = [v for names in STATUSES.values() for v in names if any(v in r.verdicts for r in responses)]
    names = [r.source_model for r in responses]
    counts: list[list[Cell]] = [
        [
            f"{r.responses:,}",
            (f"{r.failed:,}", "red" if r.failed else ""),
            *(f"{r.verdicts.get(v, 0):,}" for v in verdicts),
        ]
        for r in responses
    ]
    numbers = [
        [*_numbers(r.reward, "min", "median", "max"), *_numbers(r.completion_tokens, "median", "max")]
        for r in responses
    ]
    heads = [["all", "failed", *verdicts], ["reward: min", "median", "max", "tokens: median", "max"]]
    if (
        max(map(len, names)) + sum(len(name) + 3 for head in heads for name in head) <= width()
        or not sys.stdout.isatty()
    ):
        heads, blocks = [heads[0] + heads[1]], [[a + list(b) for a, b in zip(counts, numbers, strict=True)]]
    else:
        blocks = [counts, [list(row) for row in numbers]]
    return [
        part
        for head, block in zip(heads, blocks, strict=True)
        for part in (line(), table(["responses", *head], [[n, *row] for n, row in zip(names, block, strict=True)]))
    ]


def _numbers(summary: "Summary", *names: str) -> list[str]:
    from fusedata.plots import number

    return [number(getattr(summary, name)) for name in names]


def _histograms(distributions: "Mapping[str, Distribution]") -> "list[RenderableType]":
    from rich.table import Table

    if not distributions:
        return []
    side_by_side = width() >= _TWO_COLUMNS and len(distributions) > 1
    columns = len(distributions) if side_by_side else 1
    each = (width() - 3 * (columns - 1)) // columns
    drawn = [_histogram(name, one, min(each, 56)) for name, one in distributions.items()]
    if not side_by_side:
        return [part for one in drawn for part in (line(), one)]
    grid = Table.grid(padding=(0, 3, 0, 0))
    grid.add_row(*drawn)
    return [line(), grid]


def _histogram(name: str, found: "Distribution", columns: int) -> "RenderableType":
    from rich.console import Group

    from fusedata.plots import bars, number

    summary, bins = found.summary, found.bins
    step = bins[0][1] - bins[0][0] or None
    labels = [f"{number(low, step):>8} " for low, _, _ in bins]
    counts = [f" {count:,}" for _, _, count in bins]
    room = max(8, columns - max(map(len, labels)) - max(map(len, counts)) - 2)
    drawn = bars([count for _, _, count in bins], room)
    facts = " ".join(f"{what} {number(getattr(summary, what), step)}" for what in ("min", "median", "max"))
    rows = [line("  ", label, (bar, "cyan"), count) for label, bar, count in zip(labels, drawn, counts, strict=True)]
    return Group(line((name, "bold"), f"  {summary.count:,}"), line((f"  {facts}", "dim")), *rows)


def _lengths(lengths: "Sequence[Length]", longer: Mapping[str, int]) -> "list[RenderableType]":
    if not lengths:
        return []
    names = ("min", "median", "mean", "max", "total")
    rows = [[f"  {x.dataset.upper()} {x.part}, {x.unit}", *_numbers(x.summary, *names)] for x in lengths]
    parts: list[RenderableType] = [line(), table(["lengths", *names], rows)]
    pairs = sum(longer.values())
    if pairs:
        share = f"chosen is the longer text in {longer['longer']:,} of {pairs:,} pairs ({longer['longer'] / pairs:.0%})"
        parts.append(line(f"  {share}, as long in {longer['equal']:,}, the shorter in {longer['shorter']:,}"))
    return parts


def sample_parts(sample: "Sample") -> "list[RenderableType]":
    """Draw one row of a dataset: the prompt, and its answers side by side where there is room."""
    from rich.table import Table

    models = dict.fromkeys(answer.source_model for answer in sample.answers)
    facts = ", ".join(fact for fact in (sample.corpus, *models) if fact)
    parts: list[RenderableType] = [heading(f"{sample.dataset.upper()} {sample.split}", sample.prompt_id or "")]
    parts += [hung(line((facts, "dim")))] if facts else []
    parts.append(hung(_cut(sample.prompt, width() - 2)))
    columns = len(sample.answers) if width() >= _TWO_COLUMNS else 1
    each = (width() - 2 - 3 * (columns - 1)) // columns
    cells = [_answer(answer, each) for answer in sample.answers]
    if columns == 1:
        return [*parts, *(hung(part) for cell in cells for part in cell)]
    grid = Table.grid(padding=(0, 3, 0, 0))
    for _ in cells:
        grid.add_column(width=each)
    for row in zip(*cells, strict=True):
        grid.add_row(*row)
    return [*parts, hung(grid)]


def _answer(answer: "Answer", columns: int) -> "tuple[RenderableType, RenderableType]":
    from fusedata.plots import number

    role = " ".join(answer.roles)
    facts = [answer.verdict, None if answer.reward is None else f"reward {number(answer.reward)}", _tokens(answer)]
    facts.append("cut off" if answer.finish_reason == "length" else None)
    told = "  " + ", ".join(fact for fact in facts if fact)
    told = told if len(role) + len(told) <= columns else told.replace("reward ", "")
    title = line((role, f"bold {_STYLES.get(role, '')}"), (told, "dim"))
    return title, _cut(answer.text or "", columns)


def _tokens(answer: "Answer") -> str | None:
    if answer.completion_tokens is not None:
        return f"{answer.completion_tokens:,} tokens"
    return None if answer.tokens is None else f"{answer.tokens:,} tokens with the prompt"


def _cut(content: str, columns: int) -> "Text":
    """Wrap a text, and cut it after LINES lines with a mark that says how much is missing."""
    from rich.console import Console
    from rich.text import Text

    shown = text(content[: columns * LINES])
    wrapped = shown.wrap(Console(width=columns), columns, overflow="fold")
    if len(wrapped) <= LINES and len(content) <= columns * LINES:
        return shown
    kept = Text("\n").join([row.copy() for row in wrapped[:LINES]])
    missing = max(1, len(content) - len(kept.plain))
    return kept.append(f" … {missing:,} more characters", "dim italic")


def known_parts(known: "Known") -> "list[RenderableType]":
    """Draw everything known of one prompt; no text is cut."""
    where = "" if known.corpus is None else f"  {known.corpus}, row {known.corpus_row}"
    parts: list[RenderableType] = [line((known.prompt_id, "bold"), where)]
    parts += [hung(line((f"{turn['role']}: ", "bold"), turn["content"])) for turn in known.messages]
    if known.tests is not None:
        parts.append(hung(line(("tests: ", "bold"), _asserts(known.tests))))
    elif known.answer is not None:
        parts.append(hung(line(("gold answer: ", "bold"), known.answer)))
    parts += [hung(part) for part in _places(known)]
    for answer in known.answers:
        parts += _response(answer)
    return parts


def _asserts(tests: str) -> str:
    """Give the tests of a prompt, which stand in a table as JSON, as they are written."""
    held = json.loads(tests)
    asserts = held.get("tests") or held.get("check", "")
    return asserts if isinstance(asserts, str) else "\n".join(asserts)


def _places(known: "Known") -> "list[Text]":
    """Where a prompt went, or why it went nowhere."""
    lines = [line((f"dropped by {row['stage']}: {row['reason']}", "yellow"), _detail(row)) for row in known.dropped]
    if known.rows:
        lines.append(line((f"in {' and '.join(f'{kind.upper()} {split}' for kind, split in known.rows)}", "green")))
    kinds = {kind for kind, _ in known.rows}
    for kind, name, reason in (("sft", "no SFT row", known.sft_reason), ("dpo", "no pair", known.pair_reason)):
        if kind not in kinds and reason:
            lines.append(line((f"{name}: {reason}", "yellow")))
    return lines or [line(("in no dataset", "yellow"))]


def _detail(row: Mapping[str, object]) -> str:
    return f" ({row['detail']})" if row.get("detail") else ""


def _response(answer: "Answer") -> "list[RenderableType]":
    from fusedata.plots import number

    sample = "" if answer.sample is None else f" #{answer.sample}"
    facts: list[Cell] = [(role, f"bold {_STYLES[role]}") for role in answer.roles]
    if answer.verdict:
        facts.append(
            (answer.verdict + (f" ({answer.detail})" if answer.detail else ""), _STYLES.get(answer.verdict, ""))
        )
    if answer.reward is not None:
        facts.append(f"reward {number(answer.reward)}")
    facts += [fact for fact in (_tokens(answer), answer.finish_reason, answer.flaw) if fact]
    cells: list[Cell] = [cell for fact in facts for cell in ("  ", fact)]
    title = line("\n", (f"{answer.source_model or 'response'}{sample}", "bold"), *cells)
    body = [hung(line((answer.error, "red")))] if answer.error else []
    return [title, *body, *([hung(line(answer.text))] if answer.text is not None else [])]


def frame_parts(frame: "pl.DataFrame", total: int | None) -> "list[RenderableType]":
    """Draw a table row by row; where that is too wide for the terminal, column by column for the rows that fit.

    `frame` is the beginning of a table of `total` rows (None: more than these).
    """
    if frame.width == 0:
        return [line(("No rows.", "dim"))]
    columns = {name: [_shown(value) for value in frame[name].to_list()] for name in frame.columns}
    left = [number for number, dtype in enumerate(frame.dtypes) if not dtype.is_numeric()]
    if not sys.stdout.isatty() or _natural_width(columns) <= width():
        drawn = table(list(columns), list(zip(*columns.values(), strict=True)), left=left)
        return [drawn, *_cut_note(frame.height, total)]
    return _turned(columns, frame.height, total)


def _cut_note(shown: int, total: int | None, how: str = "") -> "list[Text]":
    of = " of more" if total is None else f" of {total:,}"
    return [line((f"The first {shown:,} rows{of}{how}.", "dim"))] if total != shown else []


def _natural_width(columns: Mapping[str, Sequence[str]]) -> int:
    from rich.cells import cell_len

    return sum(max(cell_len(cell) for cell in [name, *cells]) + 2 for name, cells in columns.items())


def _turned(columns: Mapping[str, Sequence[str]], height: int, total: int | None) -> "list[RenderableType]":
    names = max(map(len, columns)) + 2
    shown = max(1, min(height, (width() - names) // 26))
    rows: list[list[Cell]] = [[(name, "bold"), *cells[:shown]] for name, cells in columns.items()]
    headers = ["column", *(f"row {number + 1}" for number in range(shown))]
    how = ", a column a line; where the output is no terminal rows are as wide as they need to be"
    return [table(headers, rows, left=range(1, shown + 1)), *_cut_note(shown, total, how)]


def _shown(value: object) -> str:
    """Write one cell on one line."""
    from fusedata.plots import one_line

    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list) and value and isinstance(value[0], dict) and "content" in value[0]:
        value = "  ".join(f"{turn['role']}: {turn['content']}" for turn in value)
    return one_line(str(value), CELL)
