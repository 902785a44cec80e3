"""A distributed experiment runner on Ray for generative models of handwritten digits.

The stages, in the order in which an experiment passes through them:

    config, search_space   the experiment file, checked as a whole
    datasets               images, with validation held out of the training part
    metrics                scores: arrays in, a number out
    models                 networks and the phases they train by
    training               an engine that runs phases, and the loop around it
    sweep                  a study as a plan of trials, trained by Ray Tune
    evaluation             a Ray Data job embeds real and fake images; reduce, cluster, score
    results, report        reading a results folder; figures and the page
    pipeline, cli          the whole way; the command line
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raymnist.errors import InputError

if TYPE_CHECKING:
    from raymnist.models.saved import SavedGenerator
    from raymnist.results import Results

__all__ = ["InputError", "open", "run"]


def run(
    source: str | Path,
    set: Mapping[str, Any] | None = None,
    *,
    results: str | Path = "results",
    fresh: bool | str | list[str] = False,
    address: str | None = None,
) -> Results:
    """Run an experiment, a file or the name of a bundled one, or go on with what is there.

    set: values by dotted key, such as `{"studies.gan.train.epochs": 1}`. results: the folder above the results folder.
    fresh: forget earlier results, all of them (True) or those of the named studies. address: a Ray cluster to join.
    Raises InputError, before anything is scheduled or written, when the input is wrong.
    """
    from raymnist.terminal import logging_to

    with logging_to(Path(os.devnull)):  # loggers keep the stream they find; in a notebook it would be the notebook's
        from raymnist import pipeline
    return pipeline.run(source, set, results=results, fresh=fresh, address=address)


def open(path: str | Path, output_range: Sequence[float] | None = None) -> Results | SavedGenerator:
    """Open a results folder, or a generator saved as `.keras` or `.h5`.

    output_range: the generator's values of black and white, where its last activation does not tell.
    Raises InputError where there is neither, or for a file that cannot be used.
    """
    from raymnist.models.saved import SUFFIXES, SavedGenerator
    from raymnist.results import Results

    if Path(path).suffix in SUFFIXES:
        return SavedGenerator.open(Path(path), output_range)
    if Path(path).is_file():
        raise InputError(f"{path}: expected a results folder, or a saved generator {' or '.join(SUFFIXES)}")
    return Results(path)
