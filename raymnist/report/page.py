"""The report: one HTML file with the leaderboard, the pictures and the tables."""

from __future__ import annotations

import base64
from importlib.resources import files
from pathlib import Path

import jinja2
from matplotlib.backends.backend_agg import FigureCanvasAgg

from raymnist import folder
from raymnist.report import FIGURES
from raymnist.results import Results, short


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
        leaderboard=results.leaderboard,
        trials=results.trials,
        table=results.table,
        pictures=pictures,
    )
    folder.write_text(results.folder.report, page)
    folder.write_text(results.folder.leaderboard, results.leaderboard_markdown())
    return results.folder.report
