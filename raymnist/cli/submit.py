"""`raymnist submit`."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from raymnist.cli.run import parse_sets
from raymnist.errors import InputError
from raymnist.folder import Folder

if TYPE_CHECKING:
    from raymnist.jobs import Ending, Head


def submit(
    experiment: Annotated[
        str | None, typer.Argument(help="A file, or the name of a bundled experiment.", show_default=False)
    ] = None,
    study: Annotated[list[str] | None, typer.Argument(help="With --fresh: the studies to train anew.")] = None,
    head: Annotated[
        str,
        typer.Option(metavar="URL", envvar="RAY_API_SERVER_ADDRESS", help="The cluster's head, as http://HEAD:8265."),
    ] = "http://127.0.0.1:8265",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Put a value at a dotted key; * is every key of a mapping."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget earlier results: all, or those of the STUDY named after it.")
    ] = False,
    results: Annotated[
        str | None,
        typer.Option(metavar="PARENT", help="The folder above the results folder, which the cluster's nodes share."),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Begin the job, and do not wait for it.")] = False,
    job: Annotated[str | None, typer.Option(metavar="ID", help="Come back to a job that was submitted.")] = None,
) -> None:
    """Run an experiment as a job of a Ray cluster, and follow its log."""
    if experiment is None and job is None:
        raise InputError("submit: expected an experiment, or --job ID to come back to one")
    if job is not None and (experiment or study or set_ or fresh or results or detach):
        raise InputError("--job: expected nothing but --head beside it, as the job has begun")
    if study and not fresh:
        raise InputError(f"{' '.join(study)}: a study is named after --fresh only")
    if results and not PurePosixPath(results).is_absolute():
        raise InputError(f"--results {results}: expected the full path of a folder that the cluster's nodes share")
    from raymnist.jobs import Head, HeadLost

    if experiment is not None:
        job, cluster = _begin(experiment, parse_sets(set_ or []), head, results, [*(study or [])], fresh)
        typer.echo(f"{job} runs on {cluster.address}")
    else:
        cluster = Head(head)
    assert job is not None
    if detach:
        _tell_how_to_go_on(job, cluster)
        return
    try:
        ending = cluster.follow(job, lambda text: typer.echo(text, nl=False))
    except KeyboardInterrupt:
        typer.echo("\nthe job goes on")
        _tell_how_to_go_on(job, cluster)
        raise typer.Exit(130) from None
    except HeadLost as error:
        typer.echo(f"{error}; come back with: raymnist submit --job {job} --head {cluster.address}", err=True)
        raise typer.Exit(1) from None
    _tell(ending, cluster)
    raise typer.Exit(ending.status)


def _begin(
    source: str, sets: dict[str, object], head: str, results: str | None, studies: list[str], fresh: bool
) -> tuple[str, Head]:
    """Check what can be checked here, ship it, and begin the job."""
    from raymnist import experiment_file, provenance, shipping
    from raymnist.jobs import Head

    chosen = experiment_file.load(source, sets)
    shipping.check(chosen, source, studies)
    cluster = Head(head)
    with tempfile.TemporaryDirectory(prefix="raymnist-") as place:
        words = ["run", shipping.ship(chosen, source, Path(place)), *(["--fresh", *studies] if fresh else [])]
        labels = provenance.labels(chosen.name, chosen.studies)
        return cluster.submit(chosen.name, words, Path(place), results, labels), cluster


def _tell_how_to_go_on(job: str, cluster: Head) -> None:
    typer.echo(f"come back with: raymnist submit --job {job} --head {cluster.address}")
    typer.echo(f"or end it with: RAY_AUTH_MODE=token ray job stop {job} --address {cluster.address}")


def _tell(ending: Ending, cluster: Head) -> None:
    """Say why a job failed, where its log does not, and where the results lie."""
    if ending.lacks:
        typer.echo(f"the cluster's Python lacks {ending.lacks}; the cluster file's setup_commands install it", err=True)
    elif ending.reason:
        typer.echo(f"the job ended: {ending.reason}", err=True)
    if ending.results is None:
        return
    path, host = ending.results
    if Folder(path).manifest.get("host") == host:
        typer.echo(f"this machine shares them: raymnist show {shlex.quote(str(path))}")
        return
    reached = urlsplit(cluster.address).hostname or ""
    if reached in ("localhost", "127.0.0.1"):
        typer.echo(f"bring them here with: ray rsync-down CLUSTER.yaml {path}/ results/{path.name}/")
    else:
        typer.echo(f"bring them here with: rsync -a {shlex.quote(f'{reached}:{path}')} results/")
