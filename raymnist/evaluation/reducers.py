"""Reducers: from features to a few coordinates, fitted on some points and applied to others."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raymnist import settings
from raymnist.config import Chain, Part
from raymnist.errors import InputError, choices
from raymnist.evaluation import moments
from raymnist.evaluation.blocks import Blocks, in_one

Points = NDArray[np.float32]
Transform = Callable[[Points], NDArray[Any]]
Fitted = tuple[NDArray[Any], Transform]


class NoOptions(settings.Settings):
    """A part without options."""


class PCAOptions(settings.Settings):
    """dims: how many components, but no more than the features have."""

    dims: int = Field(3, ge=1)


class TSNEOptions(settings.Settings):
    """dims: of the map. perplexity: about how many neighbours count. sample: points at most that it is fitted on."""

    dims: int = Field(2, ge=1, le=2)
    perplexity: float = Field(30, gt=1)
    sample: int = Field(20_000, ge=100)


class UMAPOptions(settings.Settings):
    """dims: of the map. neighbors: how many count. min_dist: how close points may lie, 0 to 1.

    sample: points at most that it is fitted on.
    """

    dims: int = Field(2, ge=1, le=50)
    neighbors: int = Field(15, ge=2)
    min_dist: float = Field(0.1, ge=0, le=1)
    sample: int = Field(100_000, ge=100)


def pca(points: Points, options: PCAOptions, seed: int, threads: int | None) -> Fitted:
    """Project on the first principal components. Source: Pearson, 1901; scikit-learn."""
    from sklearn.decomposition import PCA

    reducer = PCA(min(options.dims, *points.shape), random_state=seed)
    return reducer.fit_transform(points), reducer.transform


def pca_of_blocks(points: Blocks, options: PCAOptions) -> tuple[Callable[..., Points], tuple[Any, ...], int]:
    """Find the same components from the moments of blocks."""
    dims = min(options.dims, points.dims, len(points))
    return moments.project, moments.components(moments.of_blocks(points), dims), dims


def tsne(points: Points, options: TSNEOptions, seed: int, threads: int | None) -> Fitted:
    """Lay out by t-SNE, and place other points into the finished map.

    Source: van der Maaten and Hinton, 2008; openTSNE (Policar, Strazar and Zupan, 2019) for new points.
    """
    from openTSNE import TSNE

    perplexity = min(options.perplexity, (len(points) - 1) / 3)
    start = "pca" if points.shape[1] >= options.dims else "random"
    jobs = threads or 1
    reducer = TSNE(options.dims, perplexity=perplexity, initialization=start, n_jobs=jobs, random_state=seed)
    embedding = reducer.fit(points)
    return np.asarray(embedding), embedding.transform


def umap(points: Points, options: UMAPOptions, seed: int, threads: int | None) -> Fitted:
    """Lay out by UMAP, and place other points into the finished map. Source: McInnes, Healy and Melville, 2018."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)  # about ParametricUMAP
        from umap import UMAP

    reducer = UMAP(
        n_components=options.dims,
        n_neighbors=min(options.neighbors, len(points) - 1),
        min_dist=options.min_dist,
        random_state=None if threads else seed,
        transform_seed=seed,
        n_jobs=threads or 1,  # a fixed seed means one thread; otherwise UMAP warns and does the same
    )
    return reducer.fit_transform(points), reducer.transform


@dataclass(frozen=True)
class Reducer:
    """A way to reduce.

    fit: from (points [n, d], options, seed, threads) to coordinates of these points and a function that places others;
        with threads it may use so many, and need not do the same again. The function is sent to other workers. None
        where the features stay as they are.
    of_blocks: where points of any number can be fitted, from (blocks, options) to a function of (points, *arguments),
        its arguments, and the number of dimensions.
    """

    fit: Callable[[Points, Any, int, int | None], Fitted] | None
    options: type[settings.Settings]
    text: str
    of_blocks: Callable[[Blocks, Any], tuple[Callable[..., Points], tuple[Any, ...], int]] | None = None


REDUCERS: dict[str, Reducer] = {
    "none": Reducer(None, NoOptions, "the features themselves"),
    "pca": Reducer(pca, PCAOptions, "principal components", pca_of_blocks),
    "tsne": Reducer(tsne, TSNEOptions, "t-SNE (openTSNE)"),
    "umap": Reducer(umap, UMAPOptions, "UMAP"),
}


def resolve(chain: Chain, where: str) -> Chain:
    """Fill in the defaults of reducers; raises InputError for an unknown name or a wrong option."""
    parts = []
    for part in chain.parts:
        if part.name not in REDUCERS:
            raise InputError(f"{where}: {choices('reducer', part.name, REDUCERS)}")
        parts.append(part.resolved(REDUCERS[part.name].options, where))
    if len(parts) > 1 and any(part.name == "none" for part in parts):
        raise InputError(f"{where}: none: expected alone, received it among {len(parts)} reducers")
    return Chain(parts=parts)


def label(chain: Chain) -> str:
    """Name resolved reducers with their dimensions, as in files: `none`, `pca3`, `pca50-umap2`; or by their label."""
    return "-".join(part.label or f"{part.name}{options_of(part).get('dims', '')}" for part in chain.parts)


def options_of(part: Part) -> dict[str, Any]:
    """Read the options of a resolved part."""
    assert isinstance(part.options, dict)
    return part.options


def fit(part: Part, seed: int, threads: int | None, *blocks: Points) -> tuple[Points, Transform, int]:
    """Fit a resolved reducer on points float32 [n, d].

    Returns their coordinates float32 [n, dims], a function that places other points, and dims.
    """
    reducer = REDUCERS[part.name]
    assert reducer.fit is not None
    coordinates, transform = reducer.fit(in_one(*blocks), reducer.options(**options_of(part)), seed, threads)
    return np.asarray(coordinates, np.float32), transform, coordinates.shape[1]


def transform(points: Points, place: Transform) -> Points:
    """Place points [n, d] by what `fit` returned: float32 [n, dims]."""
    return np.asarray(place(points), np.float32)
