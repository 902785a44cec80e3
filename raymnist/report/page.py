"""The report: one HTML file with the leaderboard, the pictures and the tables."""

from __future__ import annotations

import base64
from importlib.resources import files
from pathlib import Path

import jinja2
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg

from raymnist import folder
from raymnist.metrics import GENERATOR_METRICS
from raymnist.report import FIGURES
from raymnist.results import Results
from raymnist.tables import score_table, short, with_spread


def write(results: Results) -> Path:
    """Draw every figure into `figures/` and the page around them; returns the page's path."""
    pictures = []
    with folder.replacing(results.folder.figures) as draft:
        draft.mkdir()
        for draw in FIGURES.values():
            for name, caption, figure in draw(results):
                FigureCanvasAgg(figure).print_png(draft / f"{name}.png")
                encoded = base64.b64encode((draft / f"{name}.png").read_bytes()).decode()
                pictures.append({"name": name, "caption": caption, "data": encoded})
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["short"] = short
    template = environment.from_string(files("raymnist.report").joinpath("templates/report.html").read_text("utf-8"))
    page = template.render(
        experiment=results.experiment,
        manifest=results.manifest,
        leaderboard=with_spread(results.leaderboard),
        candidates=with_spread(results.candidates),
        trials=results.trials,
        table=results.table,
        scores=score_table(_of_shown(results)) if len(results.table) else results.table,
        scored_on=_scored_on(results),
        pictures=pictures,
    )
    folder.write_text(results.folder.report, page)
    folder.write_text(results.folder.leaderboard, results.leaderboard_markdown())
    return results.folder.report


def _of_shown(results: Results) -> pd.DataFrame:
    return results.table[~results.table["trial_id"].isin(results.averaged)]


def _scored_on(results: Results) -> str:
    """Say what the generators' scores are computed on."""
    table = results.table
    scored = table[table["metric"].isin(GENERATOR_METRICS)] if len(table) else table
    if scored.empty:
        return ""
    first = scored.iloc[0]
    what = (
        f"the features of the classifier {first['classifier'][:16]}"
        if first["classifier"]
        else (f"principal components of {first['features']}, as there is no classifier")
    )
    return f"{what}, of {first['n_images']} images of both kinds, seed {first['seed']}"
