"""The experiment file: typed, frozen, refused as a whole when any part of it is wrong.

What each model, reducer and clusterer accepts is declared beside its code; `pipeline.prepare` asks them. Here stands
what all experiments share.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_serializer, model_validator

from raymnist import search_space, yaml_file
from raymnist.settings import Settings, bare_name

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)]
StudyName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=100)
]  # no dot: --set has keys with dots


class Dataset(Settings):
    """Which images: a name in DATASETS or the path of an `.npz` file; `limit` keeps the first training images."""

    name: str = "digits"
    limit: int | None = Field(None, ge=20)


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


class Sweep(Settings):
    """How a study is searched.

    trials: how many; `None` stands for the whole grid (searcher `grid`) or 8 (`random`).
    metric: the objective; `None` stands for the model's own. every: the epochs between two looks at it.
    """

    trials: int | None = Field(None, ge=1)
    metric: str | None = None
    every: int = Field(1, ge=1)
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


class Part(Settings):
    """A reducer or clusterer: `pca`, `{pca: {dims: 3}}` or `{name: pca, dims: 3}`."""

    name: str
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _read_short_forms(cls, data: Any) -> Any:
        if isinstance(data, str):
            return {"name": data}
        if isinstance(data, Mapping) and len(data) == 1 and "name" not in data:
            ((name, options),) = data.items()
            return {"name": name, "options": options or {}}
        if isinstance(data, Mapping) and "name" in data and "options" not in data:
            return {"name": data["name"], "options": {k: v for k, v in data.items() if k != "name"}}
        return data

    @model_serializer
    def _write_short_form(self) -> dict[str, Any] | str:
        return {self.name: self.options} if self.options else self.name


class Generator(Settings):
    """Whose fakes are evaluated: a study's best trial, or a saved `.keras` or `.h5` file.

    output_range: the file's values of black and white, for a network whose last activation does not tell.
    """

    name: str
    output_range: list[float] | None = Field(None, min_length=2, max_length=2)

    @property
    def is_file(self) -> bool:
        """Whether the name is a file's and not a study's; studies have no dot in their names."""
        return "." in self.name

    @model_validator(mode="after")
    def _black_is_below_white(self) -> Self:
        if self.output_range and self.output_range[0] >= self.output_range[1]:
            raise ValueError(f"output_range: expected the lower value first, received {self.output_range}")
        if self.output_range and not self.is_file:
            raise ValueError(f"output_range: belongs to a saved file, received the study {self.name}")
        return self

    @model_serializer
    def _write_short_form(self) -> dict[str, Any] | str:
        return {"name": self.name, "output_range": self.output_range} if self.output_range else self.name


class Evaluation(Settings):
    """How the embeddings of real and fake images are compared.

    encoder: the autoencoder study whose best trial gives the codes; `None` stands for the first one there is.
    generators: the studies whose best trials make fakes, and saved files; `None` stands for all studies that can.
    images: at most so many test images, and as many fakes from each generator.
    features: what is clustered. fit_on: whether a reducer is fitted on the real images or on real and fake ones.
    """

    encoder: str | None = None
    generators: list[Annotated[Generator, BeforeValidator(bare_name)]] | None = None
    images: int = Field(5000, ge=10)
    features: list[Literal["code", "pixels"]] | None = Field(None, min_length=1)
    reducers: list[Part] = Field([Part(name="none"), Part(name="pca"), Part(name="umap")], min_length=1)
    clusterers: list[Part] = Field([Part(name="kmeans")], min_length=1)
    fit_on: Literal["real", "both"] = "real"


class Experiment(Settings):
    """The whole file; without studies it evaluates saved generators."""

    name: Name
    seed: int = Field(0, ge=0, lt=2**31)
    dataset: Annotated[Dataset, BeforeValidator(bare_name)] = Dataset()
    studies: dict[StudyName, Study] = {}
    evaluation: Evaluation | None = Evaluation()

    @model_validator(mode="after")
    def _has_something_to_do(self) -> Self:
        generators = self.evaluation.generators if self.evaluation else None
        if not self.studies and not generators:
            raise ValueError("studies: expected at least one, or saved files under evaluation.generators")
        return self

    def to_yaml(self) -> str:
        """Write the file that `load` reads as this experiment."""
        return yaml_file.dump(self.model_dump(mode="json"))


class TrialConfig(Settings):
    """One configuration of a study, with a value in every domain's place: all that its training depends on.

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
    searched: dict[str, Any]
    perturbed: list[str] = []

    def is_due(self, epoch: int) -> bool:
        """Tell whether an epoch, counted from 1, ends with a look at the objective: every so many, and the last."""
        return epoch % self.every == 0 or epoch == self.train.epochs

    def is_sampled(self, epoch: int) -> bool:
        """Tell whether an epoch, counted from 1, ends with samples and a saved generator."""
        return epoch % self.samples.every == 0 or epoch in self.samples.epochs or epoch == self.train.epochs
