"""Cluster every population in every space, and score the clusters and the spaces: the rows of the results table."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
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
from raymnist.evaluation.attempts import attempt_all
from raymnist.evaluation.blocks import in_one, on_worker
from raymnist.evaluation.silhouettes import silhouette
from raymnist.evaluation.spaces import Map, Space
from raymnist.metrics import CLUSTERING_METRICS, PROJECTION_METRICS, Estimate
from raymnist.metrics.clustering import ari
from raymnist.sweep.gauges import Tally

COLUMNS = (
    "study", "trial_id", "encoder", "population", "features", "reducer", "clusterer", "metric", "value", "ci_low",
    "ci_high", "n_images", "seed", "classifier", "selection", "error",
)  # fmt: skip
SAMPLE = 2000  # points whose neighbours tell how good a reducer is

Row = dict[str, Any]


@dataclass(frozen=True)
class Clustering:
    """A population's clusters in one space: int64 [n], -1 for noise, in the order of the space's ids; and its rows."""

    space: Space
    clusterer: str
    clusters: NDArray[np.int64]
    rows: list[Row]


def score_all(
    evaluation: Evaluation, found: Sequence[Space], points: Map, classes: int, tally: Tally
) -> tuple[list[Clustering], list[Row], list[str]]:
    """Score every space, and run and score every clusterer in it, several at a time.

    Returns the clusterings; all rows of the table, with one that has an `error` for each piece that failed; and the
    different errors.
    """
    projected = [space for space in found if space.is_reduced or space.population == "real"]
    quality = [partial(_quality, space, points) for space in projected]
    pieces = [
        (space, part, partial(_clustering, space, part, points, classes))
        for space in found
        for part in evaluation.clusterers
    ]
    tally.pieces += len(quality) + len(pieces)
    of_spaces = attempt_all(quality, tally)
    of_clusterers = attempt_all([piece for _, _, piece in pieces], tally)
    rows: list[Row] = []
    failed: dict[str, list[str]] = {}  # where, by the error
    for (space, part, _), clustering in zip(pieces, of_clusterers, strict=True):
        rows += clustering.result.rows if clustering.result else [_failure(space, part, clustering.error)]
        if clustering.error:
            failed.setdefault(clustering.error, []).append(space.name)
    for space, scored in zip(projected, of_spaces, strict=True):
        rows += scored.result or []
        if scored.error and scored.error not in failed:  # else the clusterers of the space have said so
            rows.append(_failure(space, None, scored.error))
            failed[scored.error] = [space.name]
    clusterings = [one.result for one in of_clusterers if one.result]
    rows += _agreements(clusterings)
    return clusterings, rows, [f"{error} ({'; '.join(dict.fromkeys(names))})" for error, names in failed.items()]


def _agreements(clusterings: Sequence[Clustering]) -> list[Row]:
    """Compare the clusters of real images by runs of one configuration with different seeds, which needs no labels.

    Source: Ben-Hur, Elisseeff and Guyon, A stability based method for discovering structure in clustered data, 2002.
    """
    groups: dict[tuple[str, str], list[Clustering]] = {}
    for one in clusterings:
        has_clusters = len(np.unique(one.clusters)) > 1  # else all of them agree on nothing
        if has_clusters and one.space.population == "real" and one.space.column.features == "code":
            groups.setdefault((one.space.reducer, one.clusterer), []).append(one)
    rows = []
    for runs in groups.values():
        pairs = [ari(one.clusters, other.clusters) for one, other in itertools.combinations(runs, 2)]
        if pairs:
            about = _about(runs[0].space, runs[0].clusterer) | {"encoder": "", "metric": "agreement"}
            rows.append(about | {"value": float(np.mean(pairs))})
    return rows


def _failure(space: Space, part: Part | None, error: str) -> Row:
    return _about(space, clusterers.label(part) if part else "") | {"error": error}


def _quality(space: Space, points: Map) -> list[Row]:
    """Score how a space keeps the neighbours of its features, and of real images the labels, on a fixed sample."""
    features = points.features(space)
    places = features.sample(SAMPLE, space.column.seed)
    before, after = features.take(places), points.points(space).take(places)
    labels = space.labels[places] if space.population == "real" else np.full(len(places), -1)
    values = ray.get(on_worker(_project, space.is_reduced, labels, len(before.refs), *before.refs, *after.refs))
    about = _about(space, "") | {"n_images": len(places)}
    return [about | {"metric": name, "value": value} for name, value in values.items() if math.isfinite(value)]


def _project(is_reduced: bool, labels: NDArray[np.int64], split: int, *blocks: NDArray[np.float32]) -> dict[str, float]:
    given: dict[str, Any] = {"points": None, "labels": None}
    if is_reduced:
        given["points"] = in_one(*blocks[:split])
    if (labels >= 0).all() and len(np.unique(labels)) > 1:
        given["labels"] = labels
    projected = in_one(*blocks[split:])
    return {
        name: metric.function(given[metric.needs], projected)
        for name, metric in PROJECTION_METRICS.items()
        if given[metric.needs] is not None
    }


def _clustering(space: Space, part: Part, points: Map, classes: int) -> Clustering:
    """Cluster one population in one space, and score the clusters.

    Labels score the real population alone. Real and fake `mixing` is a score of both populations; for the real one it
    is the floor, two random halves of the real images instead of real and fake. Undefined scores have no row.
    """
    held = points.points(space)
    clusters = clusterers.cluster(part, held, classes, space.column.seed)
    labels = space.labels if space.population == "real" else np.empty(0, np.int64)
    has_labels = (labels >= 0).all() and len(np.unique(labels)) > 1  # a single class agrees with everything
    sources = space.is_fake if space.population == "both" else None
    if space.population == "real":
        halves = np.arange(len(clusters)) % 2 == 0
        sources = np.random.default_rng([space.column.seed, len(halves)]).permutation(halves)
    given = {"labels": labels if has_labels else None, "sources": sources, "clusters": clusters}
    others = on_worker(_score, given, clusterers.CLUSTERERS[part.name].has_noise)
    values = {"silhouette": silhouette(held, clusters, space.column.seed), **ray.get(others)}
    about = _about(space, clusterers.label(part))
    rows = [about | {"metric": name, **_in_table(value)} for name, value in values.items()]
    return Clustering(space, clusterers.label(part), clusters, [row for row in rows if math.isfinite(row["value"])])


def _score(given: dict[str, Any], has_noise: bool) -> dict[str, float]:
    clusters = given["clusters"]
    values: dict[str, float] = {"clusters": float(len(np.unique(clusters[clusters >= 0])))}
    if has_noise:
        values["noise_share"] = float(np.mean(clusters < 0))
    for name, metric in CLUSTERING_METRICS.items():
        if metric.needs in ("labels", "sources") and given[metric.needs] is not None:
            values[name] = metric.function(given[metric.needs], clusters)
    return values


def _in_table(value: float | Estimate) -> Row:
    if isinstance(value, Estimate):
        return {"value": value.value, "ci_low": value.low, "ci_high": value.high}
    return {"value": value}


def _about(space: Space, clusterer: str) -> Row:
    """Write what all rows of a clustering have in common."""
    return {
        "study": space.study,
        "trial_id": space.trial_id,
        "encoder": space.column.encoder,
        "population": space.population,
        "features": space.column.features,
        "reducer": space.reducer,
        "clusterer": clusterer,
        "metric": "",
        "n_images": len(space.ids),
        "seed": space.column.seed,
    }


def write_clusters(clusterings: Sequence[Clustering], target: Path) -> None:
    """Write the clusters as Parquet, a file per clustering."""
    with folder.replacing(target) as draft:
        draft.mkdir()
        for number, one in enumerate(clusterings):
            about = _about(one.space, one.clusterer)
            text = ("study", "trial_id", "encoder", "population", "features", "reducer", "clusterer")
            count = len(one.clusters)
            columns = {name: pa.array([about[name]] * count) for name in text}
            table = pa.table({"id": one.space.ids, **columns, "cluster": one.clusters})
            pq.write_table(table, draft / f"{number:03d}.parquet")
