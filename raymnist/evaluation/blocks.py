"""Points in blocks that lie in Ray's object store: work on all of them at once, none of it on one machine alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import ray
from numpy.typing import NDArray

IN_MEMORY = 2**30  # bytes of points that one worker may hold, and its libraries copy a few times
BLOCK = 2**26  # bytes of a block: enough that a task is worth its overhead of some ms


@dataclass(frozen=True)
class Blocks:
    """Points float32 [n, dims] in blocks, in their order.

    refs: of float32 arrays [lengths[i], dims].
    """

    refs: tuple[ray.ObjectRef, ...]
    lengths: tuple[int, ...]
    dims: int

    @classmethod
    def of(cls, *arrays: NDArray[np.floating]) -> Self:
        """Put arrays [n_i, dims] into the object store."""
        refs = tuple(ray.put(np.asarray(array, np.float32)) for array in arrays)
        return cls(refs, tuple(map(len, arrays)), arrays[0].shape[1])

    def __len__(self) -> int:
        return sum(self.lengths)

    @property
    def nbytes(self) -> int:
        """The size of all blocks."""
        return 4 * len(self) * self.dims

    @property
    def fits(self) -> bool:
        """Whether one worker can hold all blocks and what libraries make of them."""
        return self.nbytes <= IN_MEMORY

    @property
    def slices(self) -> list[slice]:
        """The places of each block's points among all."""
        ends = np.cumsum(self.lengths).tolist()
        return [slice(end - length, end) for end, length in zip(ends, self.lengths, strict=True)]

    def joined(self, *others: Self) -> Self:
        """Put other points of the same width behind these."""
        every = (self, *others)
        refs = tuple(ref for one in every for ref in one.refs)
        return type(self)(refs, tuple(length for one in every for length in one.lengths), self.dims)

    def each(self, function: Callable[..., Any], *arguments: Any, cut: Sequence[Any] = ()) -> list[ray.ObjectRef]:
        """Call function(block, *arguments) on every block, each as a task of its own; returns what they will give.

        cut: arrays [n] or lists of them, of which each call gets its block's part behind the arguments.
        """
        return [
            on_worker(function, ref, *arguments, *(array[rows] for array in cut))
            for ref, rows in zip(self.refs, self.slices, strict=True)
        ]

    def mapped(self, function: Callable[..., NDArray[np.floating]], *arguments: Any, dims: int) -> Self:
        """Make points of another width of every block, by a function(block, *arguments)."""
        return type(self)(tuple(self.each(function, *arguments)), self.lengths, dims)

    def array(self) -> NDArray[np.float32]:
        """Bring all points here, float32 [n, dims]."""
        return in_one(*ray.get(list(self.refs)))

    def take(self, places: NDArray[np.int64]) -> Self:
        """Take some points, by their rising places among all."""
        of_blocks = [places[(rows.start <= places) & (places < rows.stop)] - rows.start for rows in self.slices]
        taken = [(ref, some) for ref, some in zip(self.refs, of_blocks, strict=True) if len(some)]
        refs = tuple(on_worker(np.take, ref, some, 0) for ref, some in taken)
        return type(self)(refs, tuple(len(some) for _, some in taken), self.dims)

    def sample(self, most: int, seed: int) -> NDArray[np.int64]:
        """Draw the places of at most so many points, rising: int64 [m]; all where there are no more."""
        if len(self) <= most:
            return np.arange(len(self))
        return np.sort(np.random.default_rng([seed, len(self)]).choice(len(self), most, replace=False))


def in_one(*blocks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Put blocks behind each other; a single one is not copied."""
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def on_worker(function: Callable[..., Any], *arguments: Any) -> ray.ObjectRef:
    """Call a function on a worker, under its own name in the dashboard; Ray brings it the arrays behind references."""
    name = f"{function.__module__.rpartition('.')[2]}.{function.__name__.lstrip('_')}"
    return _call.options(name=name).remote(function, *arguments)


@ray.remote(num_cpus=1)
def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)
