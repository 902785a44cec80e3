"""Reducers: from features to a few coordinates, fitted on some points and applied to others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raymnist import settings
from raymnist.config import Part
from raymnist.errors import InputError, choices

Points = NDArray[np.float32]
Reduced = tuple[Points, list[Points]]


class NoOptions(settings.Settings):
    """A part without options."""


class PCAOptions(settings.Settings):
    """dims: how many components, but no more than the features have."""

    dims: int = Field(3, ge=1)


class TSNEOptions(settings.Settings):
    """dims: of the map. perplexity: about how many neighbours count."""

    dims: int = Field(2, ge=1, le=2)
    perplexity: float = Field(30, gt=1)


class UMAPOptions(settings.Settings):
    """dims: of the map. neighbors: how many count. min_dist: how close points may lie, 0 to 1."""

    dims: int = Field(2, ge=1, le=50)
    neighbors: int = Field(15, ge=2)
    min_dist: float = Field(0.1, ge=0, le=1)


def none(fitted: Points, others: Sequence[Points], options: NoOptions, seed: int) -> Reduced:
    """Leave the features as they are."""
    return fitted, list(others)


def pca(fitted: Points, others: Sequence[Points], options: PCAOptions, seed: int) -> Reduced:
    """Project on the first principal components. Source: Pearson, 1901; scikit-learn."""
    from sklearn.decomposition import PCA

    reducer = PCA(min(options.dims, *fitted.shape), random_state=seed)
    coordinates = reducer.fit_transform(fitted)
    return coordinates, [reducer.transform(points) for points in others]


def tsne(fitted: Points, others: Sequence[Points], options: TSNEOptions, seed: int) -> Reduced:
    """Lay out by t-SNE, and place other points into the finished map.

    Source: van der Maaten and Hinton, 2008; openTSNE (Policar, Strazar and Zupan, 2019) for new points.
    """
    from openTSNE import TSNE

    perplexity = min(options.perplexity, (len(fitted) - 1) / 3)
    start = "pca" if fitted.shape[1] >= options.dims else "random"
    reducer = TSNE(options.dims, perplexity=perplexity, initialization=start, n_jobs=1, random_state=seed)
    embedding = reducer.fit(fitted)
    return np.asarray(embedding, np.float32), [np.asarray(embedding.transform(points), np.float32) for points in others]


def umap(fitted: Points, others: Sequence[Points], options: UMAPOptions, seed: int) -> Reduced:
    """Lay out by UMAP, and place other points into the finished map. Source: McInnes, Healy and Melville, 2018."""
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)  # about ParametricUMAP
        from umap import UMAP

    reducer = UMAP(
        n_components=options.dims,
        n_neighbors=min(options.neighbors, len(fitted) - 1),
        min_dist=options.min_dist,
        random_state=seed,
        transform_seed=seed,
        n_jobs=1,  # a fixed seed means one thread; otherwise UMAP warns and does the same
    )
    coordinates = reducer.fit_transform(fitted)
    return coordinates, [reducer.transform(points) for points in others]


@dataclass(frozen=True)
class Reducer:
    """A function from (fitted points [n, d], other point sets [m, d], options, seed) to coordinates of all of them."""

    function: Callable[[Points, Sequence[Points], Any, int], Reduced]
    options: type[settings.Settings]
    text: str


REDUCERS: dict[str, Reducer] = {
    "none": Reducer(none, NoOptions, "the features themselves"),
    "pca": Reducer(pca, PCAOptions, "principal components"),
    "tsne": Reducer(tsne, TSNEOptions, "t-SNE (openTSNE)"),
    "umap": Reducer(umap, UMAPOptions, "UMAP"),
}


def resolve(part: Part, where: str) -> Part:
    """Fill in a reducer's defaults; raises InputError for an unknown name or a wrong option."""
    if part.name not in REDUCERS:
        raise InputError(f"{where}: {choices('reducer', part.name, REDUCERS)}")
    options = settings.validate(REDUCERS[part.name].options, part.options, f"{where}.{part.name}.")
    return Part(name=part.name, options=options.model_dump())


def label(part: Part) -> str:
    """Name a resolved reducer with its dimensions, as in files: `pca3`, `umap2`, `none`."""
    return f"{part.name}{part.options.get('dims', '')}"


def reduce(part: Part, fitted: Points, others: Sequence[Points], seed: int) -> Reduced:
    """Fit a resolved reducer on points float32 [n, d] and apply it to others [m, d].

    Returns float32 coordinates [n, dims] of the fitted points, and a list of those of the others.
    """
    reducer = REDUCERS[part.name]
    coordinates, placed = reducer.function(fitted, others, reducer.options(**part.options), seed)
    return np.asarray(coordinates, np.float32), [np.asarray(points, np.float32) for points in placed]
