"""Figures and the page, drawn from the result files alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from matplotlib.figure import Figure

from raymnist.report.confirmations import confirmed_objectives
from raymnist.report.curves import learning_curves
from raymnist.report.fakes import class_counts, nearest_training_images
from raymnist.report.front import pareto_fronts
from raymnist.report.pictures import best_samples
from raymnist.report.scatter import reduced_maps, scatter_3d
from raymnist.results import Results

__all__ = ["FIGURES"]

# Each draws any number of figures, with a name for the file and a caption.
FIGURES: dict[str, Callable[[Results], Iterator[tuple[str, str, Figure]]]] = {
    "samples": best_samples,
    "nearest": nearest_training_images,
    "classes": class_counts,
    "confirmations": confirmed_objectives,
    "pareto": pareto_fronts,
    "scatter_3d": scatter_3d,
    "maps": reduced_maps,
    "curves": learning_curves,
}
