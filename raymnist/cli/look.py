"""`raymnist show`, `report` and `list`: what there is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raymnist.errors import choices

if TYPE_CHECKING:
    import pandas as pd

    from raymnist.results import Results

# What has room on a terminal.
COLUMNS = ["study", "trial_id", "encoder", "population", "features", "reducer", "clusterer", "metric", "value",
           "n_images"]  # fmt: skip
Folders = Annotated[list[Path], typer.Argument(help="Results folders.", show_default=False)]


def show(results: Folders) -> None:
    """Show the results table of each results folder, and one leaderboard of them all."""
    from raymnist.metrics import GENERATOR_METRICS
    from raymnist.results import Results

    opened = [Results(path) for path in results]
    for one in opened:
        for study in one.experiment.studies:
            front = one.pareto_front(study)
            if len(front):
                print_frame(f"{one.experiment.name}: Pareto front of {study}", front)
        table = one.table
        if table.empty:
            continue
        of_generators = table["metric"].isin(GENERATOR_METRICS)
        clustered, scored = table[~of_generators & (table["metric"] != "")], table[of_generators]
        scored = scored[~scored["trial_id"].isin(one.averaged)]
        print_frame(f"{one.experiment.name}: results table", clustered[COLUMNS])
        if len(scored):
            print_scores(scored.to_dict("records"), f"{one.experiment.name}: ")
        if "error" in table and (table["error"] != "").any():
            failed = table[table["error"] != ""]
            print_frame(f"{one.experiment.name}: failed", failed[[*COLUMNS[:7], "error"]])
    print_leaderboard(opened)


def report(results: Folders) -> None:
    """Draw the figures and report.html of results folders again."""
    from raymnist import pipeline
    from raymnist.folder import Folder
    from raymnist.results import Results

    for one in [Results(path) for path in results]:
        typer.echo(pipeline.draw(Folder(one.folder.path)).folder.report)


def list_parts(
    kind: Annotated[
        str | None, typer.Argument(help="models, datasets, metrics, reducers, clusterers, experiments.")
    ] = None,
) -> None:
    """List what an experiment can name."""
    from raymnist import experiment_file
    from raymnist.datasets import DATASETS
    from raymnist.evaluation.clusterers import CLUSTERERS
    from raymnist.evaluation.reducers import REDUCERS
    from raymnist.metrics import DESCRIPTIONS, METRICS
    from raymnist.models import MODELS

    parts: dict[str, dict[str, str]] = {
        "models": {name: _first_line(model) for name, model in MODELS.items()},
        "datasets": {name: _first_line(load) for name, load in DATASETS.items()},
        "metrics": {name: f"{metric.text} ({metric.direction})" for name, metric in METRICS.items()} | DESCRIPTIONS,
        "reducers": {name: reducer.text for name, reducer in REDUCERS.items()},
        "clusterers": {name: clusterer.text for name, clusterer in CLUSTERERS.items()},
        "experiments": {
            name: path.read_text(encoding="utf-8").splitlines()[0].strip("# ")
            for name, path in experiment_file.bundled().items()
        },
    }
    if kind is not None and kind not in parts:
        raise choices("kind of part", kind, parts)
    for title, entries in parts.items():
        if kind in (None, title):
            typer.echo(title)
            for name, text in entries.items():
                typer.echo(f"  {name:20} {text}")


def print_leaderboard(results: Iterable[Results]) -> None:
    """Print what was chosen from, the leaderboards as one table, and where the reports are."""
    import pandas as pd

    from raymnist.tables import with_spread

    results = list(results)
    for one in results:
        print_candidates(one)
    board = pd.concat([one.leaderboard.assign(experiment=one.experiment.name) for one in results], ignore_index=True)
    board["scored_on"] = board["scored_on"].fillna("") if "scored_on" in board else ""
    lines = [
        [
            line["experiment"] if len(results) > 1 else "",
            line["best"],
            *line["settings"].split(", "),
            *_objective(line),
            f"scored on {line['scored_on']}" if line["scored_on"] else "",
        ]
        for line in board.to_dict("records")
    ]
    shown = pd.DataFrame({"best trial": ["\n".join(filter(None, cell)) for cell in lines]})
    numbers = [name for name in board.columns if board[name].dtype.kind == "f" and not name.startswith("value")]
    scores = with_spread(board[numbers].drop(columns=["ami", "ami_sd"], errors="ignore").round(3) + 0.0)
    title = ", ".join(dict.fromkeys(one.experiment.name for one in results))
    print_frame(title, pd.concat([shown, scores], axis=1))
    for one in results:
        for failure in one.manifest.get("failures", []):
            typer.echo(f"{one.experiment.name}: failed: {failure}")
        if one.manifest["status"] not in ("complete", "incomplete"):
            typer.echo(f"{one.experiment.name}: {one.manifest['status']}; `raymnist run` goes on with it")
        if one.folder.report.is_file():
            typer.echo(f"report: {one.folder.report}")


def print_candidates(results: Results) -> None:
    """Print the reducers and clusterers among which a criterion without labels chose, if it had to."""
    from raymnist.tables import with_spread

    if len(results.candidates):
        criterion = results.experiment.evaluation.choose_by if results.experiment.evaluation else ""
        title = f"{results.experiment.name}: clusterings of real codes by {criterion}, the chosen one first"
        print_frame(title, with_spread(results.candidates.round(4)))


def _objective(line: dict[Any, Any]) -> list[str]:
    """Say what chose a configuration, in lines."""
    import pandas as pd

    if not line["objective"]:
        return []
    if pd.notna(line.get("value_sd")):
        return [f"{line['objective']} {line['value']:.4g} ± {line['value_sd']:.2g}", f"over {line['n']} seeds"]
    return [f"{line['objective']} {line['value']:.4g}", f"at epoch {line['epoch']}"]


def print_scores(rows: Iterable[dict[Any, Any]], title: str = "") -> None:
    """Print the rows of generators' scores: a line per metric, a column per generator, and the floor's."""
    import pandas as pd

    from raymnist.tables import score_table

    frame = pd.DataFrame(rows)
    first = frame.iloc[0]
    on = f"{title}scores on {first['features'].removesuffix('s')} features, n {first['n_images']}, seed {first['seed']}"
    print_frame(on, score_table(frame))
    if first["classifier"]:
        typer.echo(f"classifier {first['classifier']}")


def print_frame(title: str, frame: pd.DataFrame) -> None:
    """Print a table that fits the terminal, and is 160 columns wide where there is none."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from raymnist.tables import short

    table = Table(title=escape(title), box=SIMPLE, padding=(0, 1, 0, 0))
    for column in frame.columns:
        table.add_column(
            escape(column), justify="right" if frame[column].dtype.kind in "fi" else "left", overflow="fold"
        )
    for row in frame.itertuples(index=False):
        table.add_row(*(escape(short(value)) for value in row))
    console = Console()
    Console(width=None if console.is_terminal else 160).print(table)


def _first_line(part: Any) -> str:
    return (part.__doc__ or "").splitlines()[0]
