"""Where points are clustered: in their features, or in what reducers made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from raymnist.config import Evaluation
from raymnist.datasets import Labels
from raymnist.errors import InputError
from raymnist.evaluation import reducers
from raymnist.evaluation.blocks import Blocks
from raymnist.evaluation.coordinates import Coordinates
from raymnist.evaluation.embedded import Column, Embedded
from raymnist.evaluation.points import Origin

Population = Literal["real", "fake", "both"]


@dataclass(frozen=True)
class Space:
    """Where a population is clustered; its points are looked up when they are needed.

    fake: the generator whose fakes are in it, or beside it; None for the real images alone. reducer: its label.
    is_reduced: unless these are the features themselves.
    """

    population: Population
    real: Origin
    fake: Origin | None
    column: Column
    reducer: str
    is_reduced: bool

    @property
    def study(self) -> str:
        """The study of the generator, or empty."""
        return self.fake.study if self.fake else ""

    @property
    def trial_id(self) -> str:
        """The trial of the generator, or empty."""
        return self.fake.trial_id if self.fake else ""

    @property
    def name(self) -> str:
        """Where it is, for a reader."""
        whose = f"{self.population} {self.trial_id}" if self.trial_id else self.population
        return f"{whose}, {self.reducer} of {self.column.encoder or self.column.features}"

    @property
    def origins(self) -> list[Origin]:
        """Whose images are in it, the real ones first."""
        return [
            *([self.real] if self.population != "fake" else []),
            *([self.fake] if self.fake and self.population != "real" else []),
        ]

    @property
    def ids(self) -> NDArray[np.int64]:
        """Of its images, int64 [n]."""
        return np.concatenate([origin.ids for origin in self.origins])

    @property
    def labels(self) -> Labels:
        """Of its images, int64 [n], -1 for none."""
        return np.concatenate([origin.labels for origin in self.origins])

    @property
    def is_fake(self) -> NDArray[np.bool_]:
        """Which of its images are fakes, bool [n]."""
        return np.concatenate([np.full(len(origin.ids), origin is self.fake) for origin in self.origins])


def spaces(evaluation: Evaluation, embedded: Embedded, of: Sequence[Column]) -> Iterator[Space]:
    """Go through every population, feature and reducer of a resolved evaluation."""
    for column in of:
        for chain in evaluation.reducers:
            reducer, is_reduced = reducers.label(chain), chain.parts[0].name != "none"
            yield Space("real", embedded.real, None, column, reducer, is_reduced)
            for fake in embedded.fakes:
                yield Space("fake", embedded.real, fake, column, reducer, is_reduced)
                yield Space("both", embedded.real, fake, column, reducer, is_reduced)


@dataclass(frozen=True)
class Map:
    """Finds the points of spaces: the features, and what reducers made of them."""

    fit_on: str
    embedded: Embedded
    coordinates: dict[Coordinates, Blocks]
    failures: dict[Coordinates, str]

    def features(self, space: Space) -> Blocks:
        """Look up a population's features as they are; raises InputError where there are none to use."""
        first, *others = [self.embedded.points(origin, space.column) for origin in space.origins]
        return first.joined(*others)

    def points(self, space: Space) -> Blocks:
        """Look up a population's points in a space; raises InputError where there are none."""
        features = self.features(space)
        if not space.is_reduced:
            return features
        if self.fit_on == "both" and space.fake:
            joint = self._reduced(space, space.fake, "both")
            is_joint = space.population == "both"
            return joint if is_joint else joint.take(np.arange(len(space.real.ids), len(joint)))
        first, *others = [self._reduced(space, origin, "real") for origin in space.origins]
        return first.joined(*others)

    def _reduced(self, space: Space, origin: Origin, fit_on: str) -> Blocks:
        column = space.column
        named = Coordinates(origin.study, origin.trial_id, column.encoder, fit_on, column.features, space.reducer)
        if named in self.failures:
            raise InputError(self.failures[named])
        return self.coordinates[named]
