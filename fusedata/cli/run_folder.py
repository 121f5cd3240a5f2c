"""A run folder on a command line: a path, or the URL of one on an object store."""

from pathlib import Path

import click


class RunFolder(click.ParamType[Path]):
    """Takes what `storage.place` takes."""

    name = "path"

    def convert(self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None) -> Path:  # noqa: ARG002
        """Open no run; a path loads no library."""
        if not isinstance(value, str) or "://" not in value:
            return Path(value)
        from fusedata.storage import place

        return place(value)
