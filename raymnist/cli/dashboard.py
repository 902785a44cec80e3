"""`raymnist dashboard`."""

from __future__ import annotations

import contextlib
import signal
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from raymnist.errors import InputError


def dashboard(
    results: Annotated[
        Path | None,
        typer.Argument(help="A results folder, or the folder above such: show it until Ctrl-C.", show_default=False),
    ] = None,
    head: Annotated[
        str,
        typer.Option(metavar="URL", envvar="RAY_API_SERVER_ADDRESS", help="The dashboard to look for."),
    ] = "http://127.0.0.1:8265",
) -> None:
    """Say where the Ray dashboard is, and how to get in."""
    if results is None:
        _find(head.rstrip("/"))
    else:
        _show(results)


def _find(url: str) -> None:
    from raymnist.dashboard.hook import has_page
    from raymnist.jobs import Head, token

    try:
        url = Head(url).address
    except InputError as error:
        typer.echo(f"no way into a Ray dashboard: {error}")
        typer.echo("of what is in a folder: raymnist dashboard RESULTS")
        _tunnel()
        raise typer.Exit(1) from None
    typer.echo(f"Ray dashboard: {url}")
    if has_page(url, token()):
        typer.echo(f"experiments:   {url}/raymnist (after the token is given on the dashboard's first page)")
    else:
        typer.echo("experiments:   not shown; start the head with `python -m raymnist.dashboard start --head`")
    typer.echo("its token:     ray get-auth-token")
    _tunnel()


def _tunnel() -> None:
    typer.echo(
        "of a head elsewhere: ssh -N -L 8265:127.0.0.1:8265 USER@HEAD, or ray dashboard CLUSTER.yaml; then as here"
    )


def _show(results: Path) -> None:
    """Start a Ray of our own for its dashboard, and keep it until Ctrl-C."""
    from raymnist.dashboard.hook import has_page, page_in_dashboard
    from raymnist.dashboard.page import experiments
    from raymnist.jobs import token
    from raymnist.sweep.session import ray_session
    from raymnist.terminal import logging_to

    if not experiments(results):
        raise InputError(f"{results}: expected a results folder, or a folder with such inside")
    typer.echo("starting a Ray for its dashboard ...")
    with (
        tempfile.TemporaryDirectory(prefix="raymnist-") as scratch,
        logging_to(Path(scratch) / "log.txt") as terminal,
        page_in_dashboard(results),
        ray_session("local", scratch, {}) as url,
    ):
        if not url or not has_page(url, token()):
            raise InputError("dashboard: this Ray has no place for the page; open report.html instead")
        terminal.say(f"Ray dashboard: {url}/raymnist")
        terminal.say("its token:     ray get-auth-token, to be given once on the dashboard's first page")
        terminal.say("Ctrl-C ends it")
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
