"""`fusedata train`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fusedata.publishing import HubName
    from fusedata.train.checks import Checked, Seen
    from fusedata.train.fit import Trained
    from fusedata.train.settings import Stage


@click.command("train")
@click.option(
    "--dataset",
    "datasets",
    multiple=True,
    required=True,
    metavar="RUN|FOLDER|ID",
    help="What to train on: a run, a folder, a Hugging Face id, or ms:ID on ModelScope (with :SPLIT where several could"
    " be meant); for --stage fuse one that holds both datasets, or SFT and DPO one after the other.",
)
@click.option("--stage", type=click.Choice(["sft", "dpo", "fuse"]), help="Default: told from the dataset's columns.")
@click.option("--target", help="The published hyper-parameters in force: a target model of FuseChat-3.0.")
@click.option("--model", help="The model to begin with: a folder or hub id (default: the target's own).")
@click.option(
    "--revision",
    "revisions",
    multiple=True,
    help="The dataset's revision on its hub (default: the newest, recorded); of two datasets once for each.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Where the model goes (default: models/TARGET-STAGE).")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Override a hyper-parameter; sft.FIELD and dpo.FIELD that of one stage.",
)
@click.option("--report-to", metavar="TRACKER", help="Log to a tracker that TRL knows: tensorboard, wandb, trackio, …")
@click.option("--push", is_flag=True, help="Push what was trained; what follows says where.")
@click.option("--to", "hubs", multiple=True, type=click.Choice(["hf", "modelscope"]), help="A hub to push to.")
@click.option("--repo", metavar="ORG/NAME-{stage}", help="The model's repository; {stage} becomes SFT or DPO.")
@click.option("--public", is_flag=True, help="Make new repositories public; without it they are private.")
@click.option("--tag", help="Name the release (default: model- and a digest of its files).")
@click.option("--launch", metavar="NAME|FILE", help="Run under accelerate: multi-gpu, fsdp, zero3, or its own YAML.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def train_command(**options: Any) -> None:  # noqa: ANN401
    """Train a target model: SFT, then DPO, on published datasets.

    A training that was stopped goes on from its last checkpoint: run the same command again.
    """
    _train(**options)


def _train(
    datasets: tuple[str, ...],
    stage: str | None,
    target: str | None,
    model: str | None,
    revisions: tuple[str, ...],
    out: Path | None,
    *,
    overrides: tuple[str, ...],
    report_to: str | None,
    launch: str | None,
    push: bool,
    hubs: "tuple[HubName, ...]",
    repo: str | None,
    public: bool,
    tag: str | None,
    as_json: bool,
) -> None:
    import json
    import os

    from fusedata.cli.push_command import chosen_model_target, push_trained, show_or_json
    from fusedata.cli.train_view import watching
    from fusedata.train.launch import launched
    from fusedata.train.push import check_models
    from fusedata.train.run import check, planned, run

    is_first = os.environ.get("RANK", "0") == "0"
    overrides = (*overrides, f"tracker={report_to}") if report_to else overrides
    steps = planned(datasets, stage, target, model, revisions=revisions, out=out, overrides=overrides)
    if push and is_first:
        stages = [step.stage for step in steps]
        check_models(steps[0].target, stages, chosen_model_target(steps[0].target, hubs, repo, public=public))
    # What would stop a later stage, or every process, is better known before the first step.
    check(steps[0].model, steps if launch else steps[1:])
    if launch:
        sys.exit(launched(launch))
    trained: list[Trained] = []
    for step in steps:
        for doubt in step.doubts if is_first else ():
            click.echo(f"Warning: {doubt}.", err=True)
        if is_first:
            click.echo(f"{step.stage.upper()} of {step.model} on {step.dataset} → {step.out}", err=True)
        with watching(step.stage.upper()) as said:
            trained.append(run(step, said, _shown))
        _curves(trained[-1], step.stage)
    for result in trained if is_first else ():
        if as_json:
            facts = {"folder": str(result.folder), "checkpoint": result.best.step, "metric": result.best.metric}
            click.echo(json.dumps({**facts, "rows": dict(result.counts)}))
        else:
            metric = "" if result.best.metric is None else f" (held out: {result.best.metric:.4f})"
            click.echo(f"{result.folder}  checkpoint {result.best.step}{metric}; curves.png, train.json, README.md")

    if push and is_first:
        folders = [result.folder for result in trained]
        show_or_json(push_trained(folders, hubs, repo, tag, public=public), as_json, public=public)


def _shown(rows: "Checked", example: "Seen") -> None:
    from fusedata.plots import clean

    for what, count in rows.counts.items():
        click.echo(f"{what}: {count:,}", err=True)
    click.echo("The first row as the loss sees it:", err=True)
    click.echo(f"  not trained on: {clean(example.context)[-400:]}", err=True)
    click.echo(f"  trained on:     {clean(example.target)[:400]}", err=True)


def _curves(result: "Trained", stage: "Stage") -> None:
    """Draw a stage's curves, in the first of its processes."""
    import os

    from fusedata.cli.train_view import plot
    from fusedata.train.outcome import CURVES, curve

    if os.environ.get("RANK", "0") != "0":
        return
    for trained, held_out in CURVES[stage]:
        lines = plot(curve(result.log, trained), curve(result.log, held_out))
        for line in [f"{trained} (o: held out)", *lines] if lines else ():
            click.echo(line, err=True)
