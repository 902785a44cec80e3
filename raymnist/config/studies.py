"""A study: a model and its training, what is searched of their settings, and what a trial of it occupies."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from raymnist import search_space
from raymnist.config.resources import Resources
from raymnist.config.sweeps import SCORED, Confirm, Sweep
from raymnist.settings import Settings, bare_name


class Train(Settings):
    """How a model is trained; a model may put its own defaults in the place of these.

    generator_learning_rate, discriminator_learning_rate: of one network of a GAN; `None` stands for `learning_rate`.
    patience: a training ends early when its objective has not become better for so many epochs; `None` for never.
    """

    epochs: int = Field(20, ge=1)
    patience: int | None = Field(None, ge=1)
    batch_size: int = Field(256, ge=2)
    learning_rate: float = Field(1e-3, gt=0)
    generator_learning_rate: float | None = Field(None, gt=0)
    discriminator_learning_rate: float | None = Field(None, gt=0)
    beta_1: float = Field(0.9, ge=0, lt=1)
    precision: Literal["float32", "mixed_bfloat16"] = "float32"


class Samples(Settings):
    """At which epochs a grid is drawn and a generator saved, beside the last one.

    save: the formats of the saved generators: Keras's own, and HDF5 as Keras 2 wrote it.
    """

    every: int = Field(10, ge=1)
    epochs: list[Annotated[int, Field(ge=1)]] = Field([1])
    save: list[Literal["keras", "h5"]] = Field(["keras"])


class Study(Settings):
    """One model, its training, and the search over any of their settings."""

    model: Annotated[dict[str, Any], BeforeValidator(bare_name)]
    train: dict[str, Any] = {}
    sweep: Sweep | None = None
    confirm: Confirm | None = None
    samples: Samples = Samples()
    resources: Resources = Resources()

    @property
    def domains(self) -> dict[str, search_space.Domain]:
        """The searched settings by their path, such as `train.learning_rate`."""
        return search_space.find({"model": self.model, "train": self.train})

    @model_validator(mode="after")
    def _has_a_model(self) -> Self:
        if not isinstance(self.model.get("name"), str):
            raise ValueError(f"model.name: expected the name of a model, received {self.model.get('name')!r}")
        return self


class TrialConfig(Settings):
    """One configuration of a study, with a value in every domain's place: all that its training depends on.

    metric: the objective, which chooses the best epoch. other_metrics: the sweep's other objectives.
    images: of one look at the objective. classifier: the SHA-256 of the one that scores, where one does.
    searched: the values drawn, by the setting's last name. perturbed: settings of `train` that change as it goes on.
    confirms: the trial whose configuration this one trains again with another seed.
    """

    study: str
    trial_id: str
    seed: int
    model: dict[str, Any]
    train: Train
    samples: Samples
    metric: str
    other_metrics: list[str] = []
    every: int
    images: int = SCORED
    classifier: str = ""
    searched: dict[str, Any]
    perturbed: list[str] = []
    confirms: str = ""

    @property
    def metrics(self) -> list[str]:
        """All objectives, the one that chooses first."""
        return [self.metric, *self.other_metrics]

    def is_due(self, epoch: int) -> bool:
        """Tell whether an epoch, counted from 1, ends with a look at the objective: every so many, and the last."""
        return epoch % self.every == 0 or epoch == self.train.epochs

    def is_sampled(self, epoch: int) -> bool:
        """Tell whether an epoch, counted from 1, ends with samples and a saved generator."""
        return epoch % self.samples.every == 0 or epoch in self.samples.epochs or epoch == self.train.epochs
