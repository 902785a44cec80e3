"""Reducers applied one after the other: fitted on some points, then placing others, block by block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from raymnist.config import Chain, Part
from raymnist.errors import InputError
from raymnist.evaluation import reducers
from raymnist.evaluation.blocks import Blocks


@dataclass(frozen=True)
class Placing:
    """A fitted reducer: a function of (block [n, d], *arguments) to coordinates [n, dims]."""

    function: Callable[..., NDArray[np.float32]]
    arguments: tuple[Any, ...]
    dims: int

    def __call__(self, points: Blocks) -> Blocks:
        """Place points, each block as a task of its own."""
        return points.mapped(self.function, *self.arguments, dims=self.dims)


def fit(chain: Chain, points: Blocks, seed: int, reproducible: bool) -> tuple[Blocks, list[Placing]]:
    """Fit resolved reducers on points, each on what the one before it made of them.

    Returns the points' coordinates, and what places others. Raises InputError for no points.
    """
    if not len(points):
        raise InputError(f"{reducers.label(chain)}: expected points, received none")
    placings = []
    for part in chain.parts:
        if part.name != "none":
            points, placing = _fit_one(part, points, seed, reproducible)
            placings.append(placing)
    return points, placings


def place(placings: Sequence[Placing], points: Blocks) -> Blocks:
    """Place other points among those that were fitted."""
    for placing in placings:
        points = placing(points)
    return points


def _fit_one(part: Part, points: Blocks, seed: int, reproducible: bool) -> tuple[Blocks, Placing]:
    reducer, options = reducers.REDUCERS[part.name], reducers.options_of(part)
    if reducer.of_blocks and not points.fits:
        function, arguments, dims = reducer.of_blocks(points, reducer.options(**options))
        placing = Placing(function, tuple(map(ray.put, arguments)), dims)
        return placing(points), placing
    places = points.sample(options.get("sample", len(points)), seed)
    some = points if len(places) == len(points) else points.take(places)
    cores = max(node["Resources"].get("CPU", 1) for node in ray.nodes() if node["Alive"])
    threads = None if reproducible or "sample" not in options else int(cores)
    coordinates, transform, dims = _fit.options(num_cpus=threads or 1).remote(part, seed, threads, *some.refs)
    placing = Placing(reducers.transform, (transform,), ray.get(dims))
    if len(places) < len(points):
        return placing(points), placing
    return Blocks((coordinates,), (len(points),), placing.dims), placing


_fit = ray.remote(num_returns=3)(reducers.fit)
