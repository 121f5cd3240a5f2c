"""The card of a trained model: base, data, hyper-parameters, curves, licences. Pure."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

from fusedata.assets import asset
from fusedata.licenses import Rollup, rollup
from fusedata.train.settings import TARGETS, settings_for

_COMMIT = re.compile("[0-9a-f]{40}")
"""What a model's weights are known by on a hub; those in a folder have a digest of other length."""
Record = Mapping[str, Any]
"""What `train.json` holds."""


def published(record: Record) -> dict[str, Any]:
    """Leave out where files lie on this machine: of a local model or dataset only the last part of its path stays."""
    local = {"model": not _COMMIT.fullmatch(record["weights"]), "dataset": record["revision"] is None}
    return {**record, **{key: PurePath(record[key]).name for key, is_local in local.items() if is_local}}


def licences(record: Record) -> Rollup:
    """Roll up the licences of the base model and of what wrote the rows, as far as the dataset's recipe tells."""
    told: Mapping[str, Sequence[tuple[str, str | None]]] = record.get("licences") or {}
    target = TARGETS[record["target"]]
    base = (record["base"], target.license if record["base"] == target.model else None)
    rows = [(source, licence) for source, licence in told.get("models", ())]
    return rollup([(c, licence) for c, licence in told.get("corpora", ())], [base, *(r for r in rows if r != base)])


def model_card(record: Record) -> str:
    """Write README.md of a trained model from its record."""
    shown, found = published(record), licences(record)
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701 - Markdown, not HTML
    environment.filters["cell"] = lambda value: str(value).replace("|", "&#124;")
    made_from = {
        "base model": shown["base"],
        "begun with": shown["model"],
        "its weights": shown["weights"],
        "dataset": shown["dataset"],
        "its revision": shown["revision"] or "as it was found",
        "its files": shown["files"],
        **shown["rows"],
    }
    return environment.from_string(asset("cards", "model.md.j2").read_text(encoding="utf-8")).render(
        front_matter=yaml.safe_dump(_front_matter(shown, found), sort_keys=False, allow_unicode=True),
        target=shown["target"],
        stage=shown["stage"],
        kept=shown["kept"],
        made_from=made_from,
        command=command(shown),
        settings={key: value for key, value in shown["settings"].items() if value is not None},
        licences=found,
        data_licences=bool(record.get("licences")),
        versions={**shown["versions"], "devices": shown["devices"]},
    )


def command(record: Record) -> str:
    """Give the command line that trains the same, with every field that is not the published one."""
    target = TARGETS[record["target"]]
    preset = settings_for(target, record["stage"]).model_dump()
    words = ["--dataset", record["dataset"], "--stage", record["stage"], "--target", record["target"]]
    words += ["--model", record["model"]] if record["model"] != target.model else []
    words += ["--revision", record["revision"]] if record["revision"] else []
    changed = {key: value for key, value in record["settings"].items() if preset[key] != value and value is not None}
    words += [word for key, value in changed.items() for word in ("--set", f"{key}={_toml(value)}")]
    return shlex.join(["fusedata", "train", *map(str, words)])


def _front_matter(record: Record, found: Rollup) -> dict[str, Any]:
    front: dict[str, Any] = {
        "base_model": record["base"],
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        **found.tag,
        "tags": ["fusedata", "fusechat-3.0", record["stage"], "trl"],
    }
    dataset = str(record["dataset"]).removeprefix("ms:").partition(":")[0]  # without its split
    return front | ({"datasets": [dataset]} if record["revision"] else {})


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
