"""The report as one file: figures drawn, pairs as data beside the script that shows them.

Nothing that a model or a corpus wrote is ever markup: the template escapes what it is given, the data block has no `<`,
and the script makes text nodes of texts. A content security policy allows this page's own script and style alone, by
their hashes, and no address at all.
"""

import base64
import hashlib
from pathlib import Path

import orjson
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from fusedata import __version__
from fusedata.errors import RunError
from fusedata.mixture import is_mixture
from fusedata.plots import number
from fusedata.readers import settled
from fusedata.report.figures import Figures, OfModel, Win, figures
from fusedata.report.pairs import Shown, shown
from fusedata.store import Run, read_run, writing
from fusedata.svg import Bin, histogram

_HERE = Path(__file__).parent
_ESCAPED = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def write_report(root: Path, path: Path, pairs: int | None = None) -> int:
    """Write the report of the run `root` to `path`, and give its size in bytes. Raises RunError.

    `pairs` says of how many pairs the texts are in it; None: of 2,000, as far as the page stays below 25 MB.
    """
    run = _one_run(root)
    html = settled(lambda: render(figures(run), shown(root / "dataset" / "dpo", pairs))).encode(errors="replace")
    with writing(path) as file:
        file.write(html)
    return len(html)


def _one_run(root: Path) -> Run:
    """Open the run of one recipe. Raises RunError where `root` is a dataset's folder, or a mixture's run."""
    if not (root / "run.json").is_file() and root.is_dir():
        look = f"`fusedata inspect {root}` and `fusedata audit {root}` read datasets without one"
        raise RunError(f"{root}: is no run, and a report is drawn from a run's tables; {look}.")
    run = read_run(root)
    if is_mixture(run):
        pages = ", ".join(f"`fusedata report {root / name} --html`" for name in run.state["recipe"]["recipes"])
        raise RunError(f"{root}: is a mixture, and each of its recipes has a report of its own: {pages}.")
    return run


def render(found: Figures, pairs: Shown) -> str:
    """Write the page."""
    style, script = _read("page.css"), _read("tex.js") + _read("compare.js") + _read("page.js")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"thousands": "{:,}".format, "percent": percent, "number": number}
    return environment.from_string(_read("page.html")).render(
        version=__version__,
        found=found,
        pairs=pairs,
        gap_window=found.recipe.dpo.reward_gap if found.recipe.dpo else None,
        charts=_charts(found),
        matrix=_matrix(found.wins),
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own files
        data=Markup(_data(pairs, found)),  # noqa: S704 - JSON without a character that ends or begins markup
        policy=f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; "
        "form-action 'none'",
    )


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def percent(share: float | None) -> str:
    """Write a share as a percentage, "-" where there is none."""
    return "-" if share is None else f"{100 * share:.1f} %"


def _data(pairs: Shown, found: Figures) -> str:
    gap = found.recipe.dpo.reward_gap if found.recipe.dpo else None
    texts = {str(place): row for place, row in pairs.texts.items()}
    value = {"names": pairs.names, "columns": pairs.columns, "texts": texts, "total": pairs.total, "window": gap}
    text = orjson.dumps(value).decode()
    for character, escape in _ESCAPED.items():
        text = text.replace(character, escape)
    return text


def _charts(found: Figures) -> dict[str, object]:
    gap = found.recipe.dpo.reward_gap if found.recipe.dpo else None
    tokens = "tokens, chosen minus rejected"
    return {
        "gap": _chart("Pairs by reward gap", found.gap, window=gap, unit="reward, chosen minus rejected"),
        "length_gap": _chart("Pairs by difference of length", found.length_gap, window=None, unit=tokens),
        "rewards": [(model, _rewards(model)) for model in found.models],
        "tokens": [(model, _chart(model.name, model.tokens, unit="tokens of a response")) for model in found.models],
    }


def _chart(title: str, bins: tuple[Bin, ...], *, window: tuple[float, float] | None = None, unit: str) -> str | Markup:
    return Markup(histogram(title, bins, window=window, unit=unit)) if bins else ""  # noqa: S704 - escapes its texts


def _rewards(model: OfModel) -> str | Markup:
    """Draw right and wrong responses beside each other; all together where nothing was judged."""
    if not (model.rewards and model.wrong_rewards):
        return _chart(model.name, model.rewards or model.wrong_rewards, unit="reward")
    return Markup(histogram(model.name, model.rewards, other=model.wrong_rewards, unit="reward"))  # noqa: S704 - as above


def _matrix(wins: tuple[Win, ...]) -> dict[str, dict[str, Win]]:
    rows: dict[str, dict[str, Win]] = {}
    for win in wins:
        rows.setdefault(win.model, {})[win.against] = win
    return rows
