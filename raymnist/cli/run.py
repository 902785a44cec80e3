"""`raymnist run`."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Annotated, Any

import typer

from raymnist.errors import InputError


def run(
    experiment: Annotated[str, typer.Argument(help="A file, or the name of a bundled experiment.")],
    study: Annotated[list[str] | None, typer.Argument(help="With --fresh: the studies to train anew.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Put a value at a dotted key; * is every key of a mapping."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget earlier results: all, or those of the STUDY named after it.")
    ] = False,
    results: Annotated[
        Path | None,
        typer.Option(
            metavar="PARENT", envvar="RAYMNIST_RESULTS", help="The folder above the results folder.  [default: results]"
        ),
    ] = None,
    address: Annotated[str | None, typer.Option(metavar="RAY", help="A Ray cluster to join, such as auto.")] = None,
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="Show the experiments in the Ray dashboard, at /raymnist.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, say what would run, run nothing.")
    ] = False,
) -> None:
    """Run an experiment, or go on with what is there."""
    from raymnist import jobs, pipeline

    if study and not fresh:
        raise InputError(f"{' '.join(study)}: a study is named after --fresh only")
    sets = parse_sets(set_ or [])
    if results is None:  # a job's working folder is gone with its cluster
        results = Path.home() / "raymnist_results" if jobs.IN_A_JOB in os.environ else Path("results")
    if dry_run:
        for line in pipeline.dry_run(experiment, sets, results=results, fresh=study or fresh, address=address):
            typer.echo(line)
        return
    outcome = pipeline.run(
        experiment, sets, results=results, fresh=study or fresh, address=address, dashboard=dashboard
    )
    from raymnist.cli import look

    if jobs.IN_A_JOB in os.environ:  # whose log is all that its user sees of it
        look.show([outcome.folder.path])
        typer.echo(f"{jobs.RESULTS_LIE}{outcome.folder.path.absolute()} on {platform.node()}")
    else:
        look.print_leaderboard([outcome])
    if outcome.manifest["status"] != "complete":
        raise typer.Exit(1)


def parse_sets(texts: list[str]) -> dict[str, Any]:
    """Read `key=value` arguments, the values as YAML."""
    from raymnist import yaml_file

    sets = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InputError(f"--set {text}: expected key=value")
        sets[key] = yaml_file.parse(value, f"--set {text}")
    return sets
