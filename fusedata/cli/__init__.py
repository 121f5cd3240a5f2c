"""The command line: the only part of fusedata that prints or exits."""

import os
import sys
from importlib import import_module

import click

from fusedata import __version__
from fusedata.errors import FusedataError

_COMMANDS = {
    "audit": "Audit datasets, ours or anyone's: schema, leakage, duplicates, lengths, verdicts.",
    "build": "Build the SFT and DPO datasets of a recipe.",
    "calibrate": "Propose a reward window for another reward model, from scored responses.",
    "doctor": "Say what is here (GPU, vLLM, Docker, hubs, tokens, disk) and what else would enable what.",
    "evaluate": "Evaluate a model on the method's benchmarks, beside the one it was trained from.",
    "export": "Write datasets as TRL, LLaMA-Factory, ms-swift, ShareGPT or FuseAI read them.",
    "inspect": "Look into a run: counts, distributions, sample rows, SQL.",
    "push": "Push a finished dataset to Hugging Face and ModelScope.",
    "recipes": "List the recipes and profiles that ship, or copy one to edit.",
    "report": "Write a page about a run: figures, and its pairs side by side.",
    "reward": "Score responses by a reward model, one JSON line each.",
    "sandbox": "Build the image in which programs are judged, and test it on this machine.",
    "status": "Say what a run has done, what failed and why, and what is left.",
    "train": "Train a target model on a dataset: SFT, then DPO.",
    "verify": "Judge answers or programs, one JSON line each.",
}


MEMORY = {
    "_RJEM_MALLOC_CONF": "dirty_decay_ms:10000,muzzy_decay_ms:10000",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}
"""How polars and Arrow keep memory that they may want again, where nobody says otherwise.

Polars: as long as jemalloc does by itself; it would set 0.5 and 1 s, and passes over big tables take a fifth longer
then, as the system clears every page anew. Arrow: as malloc does; its own pool gives back at once what it wrote from.
"""
os.environ.update({**MEMORY, **os.environ})


class _Lazy(click.Group):
    """A group whose commands are imported when they run: `fusedata --help` loads none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"fusedata.cli.{cmd_name}_command"), f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fusedata")
def cli() -> None:
    """Build SFT and DPO datasets from several LLMs by implicit model fusion (FuseChat-3.0)."""


def main() -> None:
    """Run the command line. Exits with 0, with 2 and one clear message on bad input, with 130 on Ctrl-C."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        cli.main(prog_name="fusedata", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except FusedataError as error:
        from fusedata.plots import clean

        click.echo(f"fusedata: {clean(str(error))}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("\nfusedata: stopped; what is finished is kept: the same command goes on from there.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
