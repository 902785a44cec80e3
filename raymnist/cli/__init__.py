"""The command line: a few lines over the package for each command.

Each command imports what it needs when it runs, so that `--help` answers at once.
"""

from __future__ import annotations

import sys

import typer

from raymnist.cli import dashboard, images, look, run, score, submit
from raymnist.errors import InputError

app = typer.Typer(
    help="Sweeps of GANs and autoencoders of handwritten digits on Ray, scored by how their embeddings cluster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(run.run)
app.command()(submit.submit)
app.command()(look.show)
app.command()(look.report)
app.command()(images.generate)
app.command()(images.reconstruct)
app.command()(score.score)
app.command()(dashboard.dashboard)
app.command("list")(look.list_parts)


def main() -> None:
    """Run the command line; wrong input ends in one line and status 2."""
    try:
        app()
    except InputError as error:
        print(f"raymnist: {error}", file=sys.stderr)
        sys.exit(2)
