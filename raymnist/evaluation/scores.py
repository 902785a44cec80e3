"""Cluster every population in every space, and score the clusters: the rows of the results table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from numpy.typing import NDArray

from raymnist import folder
from raymnist.config import Evaluation, Part
from raymnist.evaluation import clusterers
from raymnist.evaluation.embedding import Points
from raymnist.evaluation.spaces import Coordinates, Space, spaces
from raymnist.metrics import CLUSTERING_METRICS

COLUMNS = (
    "study", "trial_id", "encoder", "population", "features", "reducer", "clusterer", "metric", "value", "ci_low",
    "ci_high", "n_images", "seed", "classifier", "selection",
)  # fmt: skip


@dataclass(frozen=True)
class Clustering:
    """A population's clusters in one space: int64 [n], in the order of the space's rows."""

    space: Space
    clusterer: str
    clusters: NDArray[np.int64]


def cluster_all(
    evaluation: Evaluation, points: Points, coordinates: Sequence[Coordinates], classes: int, seed: int
) -> list[Clustering]:
    """Run every clusterer of a resolved evaluation on every population in every space, in parallel as Ray tasks."""
    tasks = [
        (space, part.name, _cluster.remote(part, space.xyz, classes, seed))
        for space in spaces(evaluation, points, coordinates)
        for part in evaluation.clusterers
    ]
    return [Clustering(space, clusterer, ray.get(task)) for space, clusterer, task in tasks]


@ray.remote(num_cpus=1)
def _cluster(part: Part, xyz: NDArray[np.float32], classes: int, seed: int) -> NDArray[np.int64]:
    return clusterers.cluster(part, xyz, classes, seed)


def write_clusters(clusterings: Sequence[Clustering], points: Points, target: Path) -> None:
    """Write the clusters as Parquet, a file per clustering."""
    with folder.replacing(target) as draft:
        draft.mkdir()
        for number, clustering in enumerate(clusterings):
            space = clustering.space
            text = {name: getattr(space, name) for name in ("study", "trial_id", "population", "features", "reducer")}
            count = len(space.rows)
            columns = {name: pa.array([value] * count) for name, value in text.items()}
            pq.write_table(
                pa.table(
                    {
                        "id": points.ids[space.rows],
                        **columns,
                        "clusterer": pa.array([clustering.clusterer] * count),
                        "cluster": clustering.clusters,
                    }
                ),
                draft / f"{number:03d}.parquet",
            )


def score_all(clusterings: Sequence[Clustering], points: Points, encoder: str, seed: int) -> list[dict[str, Any]]:
    """Compute the rows of the results table, in parallel as Ray tasks.

    Labels score the real population alone. Real and fake `mixing` is a score of both populations; for the real one it
    is the floor, two random halves of the real images instead of real and fake. Undefined scores have no row.
    """
    tasks = []
    for clustering in clusterings:
        space = clustering.space
        labels = points.labels[space.rows] if space.population == "real" else np.empty(0, np.int64)
        if (labels < 0).any():
            labels = np.empty(0, np.int64)
        sources = points.is_fake[space.rows] if space.population == "both" else np.empty(0, bool)
        if space.population == "real":
            halves = np.arange(len(space.rows)) % 2 == 0
            sources = np.random.default_rng([seed, len(halves)]).permutation(halves)
        given = {"points": space.xyz, "labels": labels, "sources": sources}
        tasks.append((clustering, _score.remote(given, clustering.clusters)))
    rows = []
    for clustering, task in tasks:
        space = clustering.space
        for metric, value in ray.get(task).items():
            if math.isfinite(value):
                rows.append(
                    {
                        "study": space.study,
                        "trial_id": space.trial_id,
                        "encoder": encoder if space.features == "code" else "",
                        "population": space.population,
                        "features": space.features,
                        "reducer": space.reducer,
                        "clusterer": clustering.clusterer,
                        "metric": metric,
                        "value": value,
                        "n_images": len(space.rows),
                        "seed": seed,
                    }
                )
    return rows


@ray.remote(num_cpus=1)
def _score(given: dict[str, NDArray[Any]], clusters: NDArray[np.int64]) -> dict[str, float]:
    return {
        name: metric.function(given[metric.needs], clusters)
        for name, metric in CLUSTERING_METRICS.items()
        if len(given[metric.needs])
    }
