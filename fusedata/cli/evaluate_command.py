"""`fusedata evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fusedata.cli.show import heading, hung, line, say, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fusedata.cli.show import Cell
    from fusedata.evaluate.run import Evaluation, Score


@click.command("evaluate")
@click.argument("model")
@click.option("--base", help="A model to compare with (default: the one that MODEL was trained from, if it says so).")
@click.option("--benchmark", "-b", "names", multiple=True, help="A benchmark; repeatable (default: all judged here).")
@click.option("--benchmarks", type=click.Path(path_type=Path), help="A folder of benchmarks (default: from the hub).")
@click.option("--hub", type=click.Choice(["huggingface", "modelscope"]), default="huggingface", show_default=True)
@click.option("--limit", type=click.IntRange(min=1), help="Questions of each benchmark, the same ones each time.")
@click.option(
    "--engine",
    default="transformers",
    show_default=True,
    help="transformers, vllm, or the URL of an OpenAI-compatible server that serves the models (http://…/v1).",
)
@click.option("--max-tokens", type=click.IntRange(min=1), default=2048, show_default=True, help="Of an answer.")
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Of transformers.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Where answers and figures go (default: evaluations/MODEL)."
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def evaluate_command(
    model: str,
    *,
    base: str | None,
    names: tuple[str, ...],
    benchmarks: Path | None,
    hub: str,
    limit: int | None,
    engine: str,
    max_tokens: int,
    batch_size: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Evaluate MODEL (a folder or a hub's id) on the method's benchmarks, beside the model it was trained from.

    Mathematics is judged as builds judge it, programs in the sandbox, choices by their letter. For instruction
    benchmarks (-b alpaca-eval-2, arena-hard, …) the answers are written as their own tools read them, with the command
    to go on with. A run that was stopped goes on: run the same command again.
    """
    import json
    from dataclasses import asdict

    from fusedata.contamination.sources import Places
    from fusedata.errors import ConfigError
    from fusedata.evaluate.harness import Backend
    from fusedata.evaluate.run import evaluate, trained_from

    if benchmarks and not benchmarks.is_dir():
        raise ConfigError(f"--benchmarks {benchmarks}: there is no such folder.")
    base = base or trained_from(model)
    places = Places(folder=benchmarks) if benchmarks else Places(hub=hub)  # type: ignore[arg-type]
    found = evaluate(
        [base, model] if base and base != model else [model],
        names,
        places,
        Backend(engine, max_tokens, batch_size),
        out or Path("evaluations") / Path(model).name,
        limit=limit,
        said=lambda text: click.echo(text, err=True),
    )
    if as_json:
        click.echo(json.dumps(asdict(found)))
    else:
        say(*_parts(found), whole=True)


def _parts(found: "Evaluation") -> "list[RenderableType]":
    """Draw a table of models side by side, what was left out, and what other tools go on with."""
    parts: list[RenderableType] = []
    if found.results:
        headers = ["benchmark", "questions", *(_short(model) for model in found.models)]
        headers += ["difference"] if len(found.models) > 1 else []
        rows: list[list[Cell]] = []
        for result in found.results:
            row: list[Cell] = [result.benchmark, f"{result.of:,}", *map(_share, result.scores)]
            if result.gain:
                gain, low, high = (100 * value for value in result.gain)
                style = "green" if low > 0 else "red" if high < 0 else ""
                row.append((f"{gain:+.1f} ({low:+.1f} to {high:+.1f})", style))
            rows.append(row)
        parts = [table(headers, rows), line(("Right answers in %, with 95 % intervals.", "dim"))]
    for name, why in found.left_out.items():
        parts.append(line((f"{name} was not asked: ", "yellow"), why))
    for name, commands in found.handed_over.items():
        parts.append(heading(name, "judged by its own tool"))
        parts += [hung(line(command)) for command in commands]
    return parts


def _share(score: "Score") -> str:
    unjudged = f", {score.unjudged} unjudged" if score.unjudged else ""
    return f"{score.share:.1%} ({score.low:.1%} to {score.high:.1%}{unjudged})"


def _short(model: str) -> str:
    return "/".join(Path(model).parts[-2:]) if Path(model).is_dir() else model
