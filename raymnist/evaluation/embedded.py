"""What is clustered: the embedded images of each origin, and the features that stand for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import ray
from numpy.typing import NDArray

from raymnist.config import Evaluation
from raymnist.errors import InputError
from raymnist.evaluation.blocks import Blocks
from raymnist.evaluation.points import Origin
from raymnist.evaluation.sources import Network, code_column


@dataclass(frozen=True)
class Column:
    """Features of all points.

    name: in the files. encoder: the trial whose code they are, or empty. seed: of what is fitted on them.
    """

    name: str
    features: str
    encoder: str
    seed: int


def columns(evaluation: Evaluation, encoders: Sequence[Network], seed: int) -> list[Column]:
    """List the features of a resolved evaluation: the code of each encoder, and the others.

    The confirmations of an encoder are runs with seeds of their own, and so is all that is fitted on their codes.
    """
    found = []
    for features in evaluation.features or []:
        if features == "code":
            found += [
                Column(code_column(number, encoder.trial_id), features, encoder.trial_id, seed + number)
                for number, encoder in enumerate(encoders)
            ]
        else:
            found.append(Column(features, features, "", seed))
    return found


@dataclass(frozen=True)
class Embedded:
    """The embedded images that are clustered: the real ones, and each generator's."""

    real: Origin
    fakes: list[Origin]
    _known: dict[tuple[str, str], Blocks] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, real: Origin, fakes: list[Origin], evaluation: Evaluation) -> Embedded:
        """Take as many of each origin as are clustered."""
        real = real.first(evaluation.images)
        return cls(real, [fake.first(evaluation.fakes or len(real.ids)) for fake in fakes])

    def points(self, origin: Origin, column: Column) -> Blocks:
        """Read an origin's features; raises InputError, which names the trial, where there are none to use."""
        if origin.error:
            raise InputError(f"{origin.trial_id}: {origin.error}")
        key = (origin.trial_id, column.name)
        if key not in self._known:
            found = origin.blocks(column.name)
            wrong = sum(ray.get(found.each(_count_not_finite)))
            if wrong:
                of = f" of {origin.trial_id}" if origin.trial_id else " of real images"
                raise InputError(
                    f"{column.encoder or column.features}: expected finite features, received NaN or infinity for "
                    f"{wrong} of {len(origin.ids)} images{of}"
                )
            self._known[key] = found
        return self._known[key]


def _count_not_finite(block: NDArray[np.float32]) -> int:
    return int((~np.isfinite(block).all(1)).sum())
