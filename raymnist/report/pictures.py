"""What the best networks make: grids of fakes, reconstructions beside originals."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.figure import Figure
from matplotlib.image import imread

from raymnist.models import MODELS
from raymnist.results import Results

CAPTIONS = {
    "generator": "100 fakes from one fixed noise, by the best trial of {study} at its best epoch",
    "autoencoder": "validation images above their reconstructions, by the best trial of {study} at its best epoch",
}


def best_samples(results: Results) -> Iterator[tuple[str, str, Figure]]:
    """Show the grid that each study's best trial drew at its best epoch."""
    for name, study in results.experiment.studies.items():
        chosen = results.folder.study(name) / "best.json"
        if not chosen.is_file():
            continue
        path = results.best(name).path / "samples" / "best.png"
        if not path.is_file():  # a classifier makes no images
            continue
        picture = imread(path)
        height, width = picture.shape[:2]
        figure = Figure(figsize=(width / 100, height / 100), dpi=100)
        figure.figimage(picture)
        kind = MODELS[study.model["name"]].kind
        yield f"samples_{name}", CAPTIONS[kind].format(study=name), figure
