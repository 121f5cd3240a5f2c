"""Write docs/cli.md from the command line's own help.

python scripts/make_cli_docs.py
"""

from collections.abc import Iterator
from pathlib import Path

import click

from fusedata.cli import cli

TARGET = Path(__file__).resolve().parent.parent / "docs" / "cli.md"


def sections(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[str]:
    settings = {**cli.context_settings, **command.context_settings, "max_content_width": 100}
    context = click.Context(command, info_name=name, parent=parent, **settings)
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found is not None
            yield from sections(found, child, context)


def text() -> str:
    return "# The command line\n\nMade by scripts/make_cli_docs.py.\n\n" + "\n".join(sections(cli, "fusedata"))


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
