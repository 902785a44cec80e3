"""A study: a model, its training, and the search over any of their settings."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from raymnist import search_space
from raymnist.settings import Settings, bare_name


class Train(Settings):
    """How a model is trained; a model may put its own defaults in the place of these.

    generator_learning_rate, discriminator_learning_rate: of one network of a GAN; `None` stands for `learning_rate`.
    """

    epochs: int = Field(20, ge=1)
    batch_size: int = Field(256, ge=2)
    learning_rate: float = Field(1e-3, gt=0)
    generator_learning_rate: float | None = Field(None, gt=0)
    discriminator_learning_rate: float | None = Field(None, gt=0)
    beta_1: float = Field(0.9, ge=0, lt=1)
    precision: Literal["float32", "mixed_bfloat16"] = "float32"


class FIFO(Settings):
    """Trains every trial to its end."""

    name: Literal["fifo"] = "fifo"


class ASHA(Settings):
    """Stops the worse trials early. Source: Li et al., A System for Massively Parallel Hyperparameter Tuning, 2020.

    grace_epochs: epochs that each trial gets before it may be stopped; `None` stands for a quarter of them all.
    reduction_factor: at each rung the best 1/reduction_factor of the trials go on.
    """

    name: Literal["asha"]
    grace_epochs: int | None = Field(None, ge=1)
    reduction_factor: int = Field(2, ge=2)


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


SCORED = 5000  # images of one look at an objective; 2,000 at least, of the field's advice, for a score to rank by


class Sweep(Settings):
    """How a study is searched.

    trials: how many; `None` stands for the whole grid (searcher `grid`) or 8 (`random`).
    metric: the objective; `None` stands for the model's own. every: the epochs between two looks at it.
    images: the fakes of one look, and at most so many validation images, always the first.
    """

    trials: int | None = Field(None, ge=1)
    metric: str | None = None
    every: int = Field(1, ge=1)
    images: int = Field(SCORED, ge=50)
    scheduler: Annotated[FIFO | ASHA | PBT, Field(discriminator="name"), BeforeValidator(bare_name)] = FIFO()
    searcher: Literal["random", "grid"] = "random"


class Samples(Settings):
    """At which epochs a grid is drawn and a generator saved, beside the last one.

    save: the formats of the saved generators: Keras's own, and HDF5 as Keras 2 wrote it.
    """

    every: int = Field(10, ge=1)
    epochs: list[Annotated[int, Field(ge=1)]] = Field([1])
    save: list[Literal["keras", "h5"]] = Field(["keras"])


class Resources(Settings):
    """What one trial occupies; fractions of a GPU share it. `auto` is 1 where a node has a GPU, else 0."""

    cpus: float = Field(1, gt=0)
    gpus: float | Literal["auto"] = "auto"

    @model_validator(mode="after")
    def _one_gpu_at_most(self) -> Self:
        if self.gpus != "auto" and not 0 <= self.gpus <= 1:
            raise ValueError(
                f"gpus: expected auto or 0 to 1, received {self.gpus}; a trial trains on one GPU, several GPUs train "
                "several trials"
            )
        return self


class Study(Settings):
    """One model, its training, and the search over any of their settings."""

    model: Annotated[dict[str, Any], BeforeValidator(bare_name)]
    train: dict[str, Any] = {}
    sweep: Sweep | None = None
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

    images: of one look at the objective. classifier: the SHA-256 of the one that scores, where one does.
    searched: the values drawn, by the setting's last name. perturbed: settings of `train` that change as it goes on.
    """

    study: str
    trial_id: str
    seed: int
    model: dict[str, Any]
    train: Train
    samples: Samples
    metric: str
    every: int
    images: int = SCORED
    classifier: str = ""
    searched: dict[str, Any]
    perturbed: list[str] = []

    def is_due(self, epoch: int) -> bool:
        """Tell whether an epoch, counted from 1, ends with a look at the objective: every so many, and the last."""
        return epoch % self.every == 0 or epoch == self.train.epochs

    def is_sampled(self, epoch: int) -> bool:
        """Tell whether an epoch, counted from 1, ends with samples and a saved generator."""
        return epoch % self.samples.every == 0 or epoch in self.samples.epochs or epoch == self.train.epochs
