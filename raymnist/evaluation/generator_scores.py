"""The rows of the results table that say how good each generator's fakes are, with the floor beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raymnist import folder
from raymnist.datasets import Images, Pixels
from raymnist.evaluation.reference import Reference, Scores
from raymnist.metrics import Features

LEAST = 50  # images, below which neighbours and held-out halves say nothing
SHOWN = 10  # fakes of each kind beside their nearest training images
SIZES = ("height", "width", "channels")
CLASS_COLUMNS = ("study", "trial_id", "population", "label", "count", "n_images")


@dataclass(frozen=True)
class Copies:
    """Some fakes and their nearest training images: the first ones, and those that are nearest of all.

    rows, places: int64 [s], among the fakes and the training images. distances, own: [s], from the fake to the training
    image, and from that to its nearest other one. first: bool [s], false for the nearest of all.
    """

    rows: NDArray[np.int64]
    places: NDArray[np.int64]
    distances: NDArray[np.floating]
    own: NDArray[np.floating]
    first: NDArray[np.bool_]


@dataclass(frozen=True)
class Scored:
    """A generator's scores.

    counts: int64 [classes], of its fakes by the classifier; empty without one.
    """

    study: str
    trial_id: str
    scores: Scores
    counts: NDArray[np.int64]
    copies: Copies


def score(reference: Reference, study: str, trial_id: str, extracted: Features) -> Scored:
    """Score a generator by its fakes, as many as the reference has images, and find the training images near them."""
    fake = reference.real.place(extracted)
    scores, comparison = reference.scores(fake)
    counts = np.empty(0, np.int64)
    if fake.logits is not None:
        counts = np.bincount(fake.logits.argmax(1), minlength=fake.logits.shape[1])
    squares, places = comparison.copied.squares[:, 0], comparison.copied.places[:, 0]
    own = reference.real.own[places]
    # The ratio says most: a fake of a plain 1 is near some training image, as 1s are near each other.
    closest = np.argsort(squares / np.maximum(own, np.finfo(own.dtype).tiny), kind="stable")[:SHOWN]
    rows = np.concatenate([np.arange(min(SHOWN, len(fake))), closest])
    first = np.arange(len(rows)) < min(SHOWN, len(fake))
    copies = Copies(rows, places[rows], np.sqrt(squares[rows]), np.sqrt(own[rows]), first)
    return Scored(study, trial_id, scores, counts, copies)


def table_rows(reference: Reference, scored: Sequence[Scored], floor: Scores, encoder: str) -> list[dict[str, Any]]:
    """Write the rows of the results table: the generators' of their fakes, and the floor's of the real population.

    encoder: whose code the features are, where they are one.
    """
    of_all = [("fake", one.study, one.trial_id, one.scores) for one in scored]
    return [
        {
            "study": study,
            "trial_id": trial_id,
            "encoder": encoder if reference.features == "code" else "",
            "population": population,
            "features": reference.features,
            "metric": metric,
            "value": estimate.value,
            "ci_low": estimate.low,
            "ci_high": estimate.high,
            "n_images": len(reference.test),
            "seed": reference.seed,
            "classifier": reference.classifier,
        }
        for population, study, trial_id, scores in [*of_all, ("real", "", "", floor)]
        for metric, estimate in scores.items()
    ]


def write_classes(reference: Reference, scored: Sequence[Scored], images: Images, path: Path) -> None:
    """Write how often each class is among the fakes, as the classifier sees them, and among the test images."""
    values = images.label_values
    counted = [("fake", one.study, one.trial_id, one.counts) for one in scored if len(one.counts)]
    if reference.counts is not None:
        counted.append(("real", "", "", reference.counts))
    rows = [
        dict(zip(CLASS_COLUMNS, (study, trial_id, population, label, count, len(reference.test)), strict=True))
        for population, study, trial_id, counts in counted
        for label, count in zip(values.tolist(), counts.tolist(), strict=True)
    ]
    folder.write_csv(path, CLASS_COLUMNS, rows)


def write_nearest(scored: Sequence[Scored], fakes: Sequence[Pixels], images: Images, target: Path) -> None:
    """Write each generator's shown fakes beside their nearest training images, as Parquet.

    fakes: of each generator the shown ones, uint8 [s, D].
    """
    training = images.train.reshape(len(images.train), -1)
    with folder.replacing(target) as draft:
        draft.mkdir()
        for number, (one, made) in enumerate(zip(scored, fakes, strict=True)):
            copies = one.copies
            count = len(copies.rows)
            table = pa.table(
                {
                    "study": pa.array([one.study] * count),
                    "trial_id": pa.array([one.trial_id] * count),
                    "shown": pa.array(["first" if first else "nearest" for first in copies.first]),
                    **{name: pa.array([size] * count) for name, size in zip(SIZES, images.shape, strict=True)},
                    "fake": copies.rows,
                    "training": copies.places,
                    "distance": copies.distances,
                    "own_distance": copies.own,
                    "fake_pixels": pa.array(list(made), pa.list_(pa.uint8())),
                    "training_pixels": pa.array(list(training[copies.places]), pa.list_(pa.uint8())),
                }
            )
            pq.write_table(table, draft / f"{number:03d}.parquet")
