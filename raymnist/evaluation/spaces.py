"""Where points are clustered: in their features, or in what a reducer made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from numpy.typing import NDArray

from raymnist import folder
from raymnist.config import Evaluation, Part
from raymnist.evaluation import reducers
from raymnist.evaluation.embedding import Points

Population = Literal["real", "fake", "both"]


@dataclass(frozen=True)
class Coordinates:
    """What one fit of a reducer made of one set of points.

    study, trial_id: whose fakes are among them, empty for real images alone. fit_on: `real` or `both`.
    ids: int64 [n]. xyz: float32 [n, dims].
    """

    study: str
    trial_id: str
    fit_on: str
    features: str
    reducer: str
    ids: NDArray[np.int64]
    xyz: NDArray[np.float32]


def generators_of(points: Points) -> list[tuple[str, str]]:
    """List (study, trial_id) of the generators whose fakes are among the points, in the order of their ids."""
    pairs = zip(points.study[points.is_fake], points.trial_id[points.is_fake], strict=True)
    return list(dict.fromkeys((str(study), str(trial)) for study, trial in pairs))


def rows_of(points: Points, population: Population, trial_id: str) -> NDArray[np.int64]:
    """Find the rows of a population: the real points, a generator's fakes, or both, in the order of their ids."""
    real, fake = ~points.is_fake, points.is_fake & (points.trial_id == trial_id)
    chosen = {"real": real, "fake": fake, "both": real | fake}[population]
    return np.flatnonzero(chosen)


def reduce_all(evaluation: Evaluation, points: Points, seed: int, target: Path) -> None:
    """Run every reducer of a resolved evaluation, in parallel as Ray tasks, and write the coordinates to `target`.

    A reducer is fitted on the real points and places each generator's fakes. `fit_on: both` adds, for each generator,
    a fit on its fakes and the real points together.
    """
    tasks: list[tuple[Any, list[Coordinates]]] = []
    real = rows_of(points, "real", "")
    generators = generators_of(points)
    unknown = np.empty((0, 0), np.float32)
    for features, values in points.features.items():
        stored = ray.put(values)
        for part in evaluation.reducers:
            if part.name == "none":
                continue
            blank = Coordinates("", "", "real", features, reducers.label(part), points.ids[real], unknown)
            fakes = [rows_of(points, "fake", trial_id) for _, trial_id in generators if evaluation.fit_on == "real"]
            placed = [
                replace(blank, study=study, trial_id=trial_id, ids=points.ids[rows])
                for (study, trial_id), rows in zip(generators, fakes, strict=False)
            ]
            tasks.append((_reduce.remote(part, stored, real, fakes, seed), [blank, *placed]))
            for study, trial_id in generators if evaluation.fit_on == "both" else []:
                rows = rows_of(points, "both", trial_id)
                joint = replace(blank, study=study, trial_id=trial_id, fit_on="both", ids=points.ids[rows])
                tasks.append((_reduce.remote(part, stored, rows, [], seed), [joint]))
    with folder.replacing(target) as draft:
        draft.mkdir()
        for number, (task, made) in enumerate(tasks):
            for place, (coordinates, xyz) in enumerate(zip(made, ray.get(task), strict=True)):
                _write(replace(coordinates, xyz=xyz), draft / f"{number:03d}-{place:02d}.parquet")


@ray.remote(num_cpus=1)
def _reduce(
    part: Part,
    values: NDArray[np.float32],
    fitted: NDArray[np.int64],
    others: Sequence[NDArray[np.int64]],
    seed: int,
) -> list[NDArray[np.float32]]:
    coordinates, placed = reducers.reduce(part, values[fitted], [values[rows] for rows in others], seed)
    return [coordinates, *placed]


def _write(coordinates: Coordinates, path: Path) -> None:
    count = len(coordinates.ids)
    text = ("study", "trial_id", "fit_on", "features", "reducer")
    pq.write_table(
        pa.table(
            {
                "id": coordinates.ids,
                **{name: pa.array([getattr(coordinates, name)] * count) for name in text},
                "xyz": pa.array(list(coordinates.xyz), pa.list_(pa.float32())),
            }
        ),
        path,
    )


def read_coordinates(path: Path) -> list[Coordinates]:
    """Read what `reduce_all` wrote."""
    read = []
    for file in sorted(path.glob("*.parquet")):
        table = pq.read_table(file)
        study, trial_id, fit_on, features, reducer = (
            str(table[name][0]) for name in ("study", "trial_id", "fit_on", "features", "reducer")
        )
        xyz = table["xyz"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
        read.append(Coordinates(study, trial_id, fit_on, features, reducer, table["id"].to_numpy(), xyz))
    return read


@dataclass(frozen=True)
class Space:
    """A population's points where they are clustered: rows of Points [n] and their coordinates float32 [n, d]."""

    population: Population
    study: str
    trial_id: str
    features: str
    reducer: str
    rows: NDArray[np.int64]
    xyz: NDArray[np.float32]


def spaces(evaluation: Evaluation, points: Points, coordinates: Sequence[Coordinates]) -> Iterator[Space]:
    """Go through every population, feature and reducer of a resolved evaluation."""
    populations: list[tuple[Population, str, str]] = [("real", "", "")]
    for pair in generators_of(points):
        populations += [("fake", *pair), ("both", *pair)]
    for features, values in points.features.items():
        for part in evaluation.reducers:
            reducer = reducers.label(part)
            for population, study, trial_id in populations:
                rows = rows_of(points, population, trial_id)
                if part.name == "none":
                    yield Space(population, study, trial_id, features, reducer, rows, values[rows])
                    continue
                fit_on = "real" if population == "real" else evaluation.fit_on
                parts = [
                    made
                    for made in coordinates
                    if (made.features, made.reducer, made.fit_on) == (features, reducer, fit_on)
                    and (made.trial_id == trial_id or (made.study == "" and fit_on == "real"))
                ]
                placed = np.full((len(points.ids), parts[0].xyz.shape[1]), np.nan, np.float32)
                for made in parts:
                    placed[np.searchsorted(points.ids, made.ids)] = made.xyz
                yield Space(population, study, trial_id, features, reducer, rows, placed[rows])
