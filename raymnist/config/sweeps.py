"""How a study is searched: its searcher, its scheduler, its budgets, and the confirmation of the best."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from raymnist.settings import Settings, bare_name


class FIFO(Settings):
    """Trains every trial to its end."""

    name: Literal["fifo"] = "fifo"


class Stopping(Settings):
    """What a scheduler that stops trials early has.

    name: as the file has it.
    grace_epochs: epochs that each trial gets before it may be stopped; `None` stands for a quarter of them all.
    """

    name: str
    grace_epochs: int | None = Field(None, ge=1)

    def grace(self, epochs: int) -> int:
        """Count the epochs that each trial gets, of `epochs`."""
        return min(epochs, self.grace_epochs or math.ceil(epochs / 4))


class ASHA(Stopping):
    """Stops the worse trials early. Source: Li et al., A System for Massively Parallel Hyperparameter Tuning, 2020.

    reduction_factor: at each rung the best 1/reduction_factor of the trials go on.
    """

    name: Literal["asha"]
    reduction_factor: int = Field(2, ge=2)


class MedianStopping(Stopping):
    """Stops a trial whose best objective so far is worse than the median of the others' running means.

    least_trials: how many others must have got as far for a median to count.
    Source: Golovin et al., Google Vizier: A Service for Black-Box Optimization, 2017.
    """

    name: Literal["median_stopping"]
    least_trials: int = Field(2, ge=1)


class PBT(Settings):
    """Lets the worse trials go on from a better one's weights, with its settings changed a little.

    perturb_every: epochs from one such exchange to the next; `None` stands for a tenth of them all.
    quantile: the share of the trials that is replaced, and the share that they are replaced by.
    resample_probability: how often a setting is drawn anew, instead of multiplied by 0.8 or 1.2.
    Source: Jaderberg et al., Population Based Training of Neural Networks, 2017.
    """

    name: Literal["pbt"]
    perturb_every: int | None = Field(None, ge=1)
    quantile: float = Field(0.25, gt=0, le=0.5)
    resample_probability: float = Field(0.25, ge=0, le=1)

    def interval(self, every: int, epochs: int) -> int:
        """Count the epochs from one exchange to the next, of `epochs` with a look at the objective `every` so many."""
        return self.perturb_every or max(every, epochs // 10)


Scheduler = FIFO | ASHA | MedianStopping | PBT
SCORED = 5000  # images of one look at an objective; 2,000 at least, of the field's advice, for a score to rank by


class Sweep(Settings):
    """How a study is searched.

    trials: how many; `None` stands for the whole grid (searcher `grid`) or 8 (the others).
    metric: the objective, or several, of which the first chooses the best; `None` stands for the model's own.
    every: the epochs between two looks at it.
    images: the fakes of one look, and at most so many validation images, always the first.
    minutes: of the wall clock, over all runs, after which no more is searched; `None` for no such limit.
    """

    trials: int | None = Field(None, ge=1)
    minutes: float | None = Field(None, gt=0)
    metric: str | Annotated[list[str], Field(min_length=1)] | None = None
    every: int = Field(1, ge=1)
    images: int = Field(SCORED, ge=50)
    scheduler: Annotated[Scheduler, Field(discriminator="name"), BeforeValidator(bare_name)] = FIFO()
    searcher: Literal["random", "grid", "optuna"] = "random"

    @property
    def metrics(self) -> list[str]:
        """The objectives of a resolved sweep, of which the first chooses the best."""
        return self.metric if isinstance(self.metric, list) else [self.metric] if self.metric else []


class Confirm(Settings):
    """How many of the best configurations are trained again after the search, each with how many fresh seeds."""

    top: int = Field(1, ge=1)
    seeds: int = Field(3, ge=2)
