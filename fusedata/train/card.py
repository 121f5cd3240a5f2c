"""The card of a trained model: base, data, hyper-parameters, curves, licences. Pure."""

from collections.abc import Mapping
from typing import Any

import yaml

from fusedata.train.settings import Target

_TITLE = {"sft": "Supervised fine-tuning", "dpo": "Direct preference optimisation"}


def model_card(record: Mapping[str, Any], target: Target) -> str:
    """Write README.md of a trained model from its record (`train.json`)."""
    front = {
        "base_model": record["model"],
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "license": "other",
        "license_name": target.license,
        "tags": ["fusedata", "fusechat-3.0", record["stage"], "trl"],
    }
    if "/" in str(record["dataset"]) and not str(record["dataset"]).startswith(("/", ".", "~", "ms:")):
        front["datasets"] = [record["dataset"]]
    kept = record["kept"]
    metric = "nothing was held out" if kept["metric"] is None else f"held-out metric {kept['metric']:.4f}"
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False, allow_unicode=True).rstrip(),
        "---",
        "",
        f"# {record['target']}, {record['stage'].upper()}",
        "",
        (
            f"{_TITLE[record['stage']]} after FuseChat-3.0, by fusedata and TRL. The checkpoint at step"
            f" {kept['step']} was kept, the better of the last two ({metric})."
        ),
        "",
        "![curves](curves.png)",
        "",
        "## What it was made from",
        "",
        *_table(
            {
                "model": record["model"],
                "its weights": record["weights"],
                "dataset": record["dataset"],
                "its revision": record["revision"] or "as it was found",
                "its files": record["files"],
                **record["rows"],
            }
        ),
        "",
        "## Hyper-parameters in force",
        "",
        *_table(record["settings"]),
        "",
        "## Licences",
        "",
        (
            f"The target model {target.model} is under `{target.license}`; what it demands holds for this model. The"
            " dataset's card says which licences its corpora and the models that wrote its responses bring with them."
        ),
        "",
        "## Versions",
        "",
        *_table({**record["versions"], "devices": record["devices"]}),
        "",
    ]
    return "\n".join(lines)


def _table(cells: Mapping[str, Any]) -> list[str]:
    rows = [f"| {name} | {str(value).replace('|', '&#124;')} |" for name, value in cells.items() if value is not None]
    return ["| what | value |", "|---|---|", *rows]
