"""Histograms as SVG, the same text for the same numbers: pictures of a card, charts of a report. Pure."""

from collections.abc import Sequence
from html import escape

from fusedata.plots import number

Bin = tuple[float, float, int]
"""From, to, how many."""

_STYLE = (
    "<style>text{font:11px system-ui,sans-serif;fill:#57606a}.bar{fill:#2f6fb4}.bar.other{fill:#b4552f}"
    ".window{fill:#2f6fb4;opacity:.12}.axis{stroke:#8c959f}"
    "@media(prefers-color-scheme:dark){text{fill:#9ba7b4}.bar{fill:#6cb0f2}.bar.other{fill:#f29e6c}"
    ".window{fill:#6cb0f2}}</style>"
)
_PAD = (4, 22, 4, 34)
"""Pixels left free at the left, above, at the right and below."""


def histogram(
    title: str,
    bins: Sequence[Bin],
    *,
    window: tuple[float, float] | None = None,
    other: Sequence[Bin] = (),
    unit: str = "",
    size: tuple[int, int] = (460, 190),
    standalone: bool = False,
) -> str:
    """Draw a histogram; a bar of more than nothing is at least a pixel high.

    `window` is shaded, `other` are bins with the same edges, drawn beside the first. `standalone` gives a file of its
    own, which follows the reader's dark mode; else the page styles it by its classes.
    """
    width, height = size
    left, top, right, bottom = _PAD
    low, high = bins[0][0], bins[-1][1]
    span = high - low or 1.0
    most = max(count for *_, count in (*bins, *other)) or 1
    room, base = width - left - right, height - bottom

    def across(value: float) -> float:
        return left + room * min(max((value - low) / span, 0.0), 1.0)

    marks = [] if window is None else [_shade(across(window[0]), across(window[1]), top, base)]
    for series, name, place in ((bins, "bar", 0.0), (other, "bar other", 0.5)):
        share = 0.5 if other else 1.0
        for start, end, count in series:
            wide = (across(end) - across(start)) * share if high > low else room * share
            x = across(start) + (wide if place else 0.0)
            marks.append(_bar(name, (x, wide), base, (base - top) * count / most, f"{_span(start, end)}: {count:,}"))
    ends = zip((left, width / 2, width - right), (low, (low + high) / 2, high), ("start", "middle", "end"), strict=True)
    marks += [_text(x, base + 14, anchor, number(value, span / 20)) for x, value, anchor in ends]
    marks += [_text(left, 14, "start", title), _text(width - right, 14, "end", f"most: {most:,}")]
    marks += [_text(width / 2, base + 28, "middle", unit)] if unit else []
    marks.append(f'<line class="axis" x1="{left}" y1="{base}.5" x2="{width - right}" y2="{base}.5"/>')
    told = escape(_told(title, bins), quote=True)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{told}">'
    return head + (_STYLE if standalone else "") + "".join(marks) + "</svg>"


def _told(title: str, bins: Sequence[Bin]) -> str:
    start, end, most = max(bins, key=lambda one: one[2])
    total = sum(count for *_, count in bins)
    return (
        f"{title}: {total:,} from {number(bins[0][0])} to {number(bins[-1][1])}; most, {most:,}, in {_span(start, end)}"
    )


def _span(start: float, end: float) -> str:
    step = end - start
    return f"{number(start, step or None)} to {number(end, step or None)}"


def _shade(start: float, end: float, top: float, base: float) -> str:
    return f'<rect class="window" x="{start:.1f}" y="{top}" width="{max(end - start, 1):.1f}" height="{base - top}"/>'


def _bar(name: str, across: tuple[float, float], base: float, tall: float, told: str) -> str:
    x, wide = across
    tall = max(tall, 1.0) if tall else 0.0
    place = f'x="{x + 0.5:.1f}" y="{base - tall:.1f}" width="{max(wide - 1, 1):.1f}" height="{tall:.1f}"'
    return f'<rect class="{name}" {place}><title>{escape(told)}</title></rect>'


def _text(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'
