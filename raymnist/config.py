"""The experiment file: typed, frozen, refused as a whole when any part of it is wrong.

What each model, reducer and clusterer accepts is declared beside its code; `pipeline.prepare` asks them. Here stands
what all experiments share.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_serializer,
    model_validator,
)

from raymnist import search_space, yaml_file
from raymnist.errors import InputError, choices

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)]
StudyName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=100)
]  # no dot: --set has keys with dots

S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """A mapping of the experiment file: frozen, without conversions, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _name_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            for key in data:
                if key not in cls.model_fields:
                    raise ValueError(f"unknown key {key!r}; the keys here are {', '.join(cls.model_fields)}")
        return data


def _bare_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class Dataset(Settings):
    """Which images: a name in DATASETS or the path of an `.npz` file; `limit` keeps the first training images."""

    name: str = "digits"
    limit: int | None = Field(None, ge=20)


class Train(Settings):
    """How a model is trained; a model may put its own defaults in the place of these."""

    epochs: int = Field(20, ge=1)
    batch_size: int = Field(256, ge=2)
    learning_rate: float = Field(1e-3, gt=0)
    beta_1: float = Field(0.9, ge=0, lt=1)
    precision: Literal["float32", "mixed_bfloat16"] = "float32"


class Scheduler(Settings):
    """When a trial ends: `fifo` trains all of them to the end, `asha` stops the worse ones early.

    grace_epochs: epochs that each trial gets before `asha` may stop it; `None` stands for a quarter of them all.
    reduction_factor: at each rung `asha` lets the best 1/reduction_factor of the trials go on.
    """

    name: Literal["fifo", "asha"] = "fifo"
    grace_epochs: int | None = Field(None, ge=1)
    reduction_factor: int = Field(2, ge=2)


class Sweep(Settings):
    """How a study is searched.

    trials: how many; `None` stands for the whole grid (searcher `grid`) or 8 (`random`).
    metric: the objective; `None` stands for the model's own. every: the epochs between two looks at it.
    """

    trials: int | None = Field(None, ge=1)
    metric: str | None = None
    every: int = Field(1, ge=1)
    scheduler: Annotated[Scheduler, BeforeValidator(_bare_name)] = Scheduler()
    searcher: Literal["random", "grid"] = "random"


class Samples(Settings):
    """At which epochs a grid is drawn and a generator saved, beside the last one."""

    every: int = Field(10, ge=1)
    epochs: list[Annotated[int, Field(ge=1)]] = Field([1])


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

    model: Annotated[dict[str, Any], BeforeValidator(_bare_name)]
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


class Evaluation(Settings):
    """How the embeddings of real and fake images are compared.

    encoder: the autoencoder study whose best trial gives the codes; `None` stands for the first one there is.
    generators: the studies whose best trials make fakes; `None` stands for all that can.
    images: at most so many test images, and as many fakes from each generator.
    features: what is clustered. fit_on: whether a reducer is fitted on the real images or on real and fake ones.
    """

    encoder: str | None = None
    generators: list[str] | None = None
    images: int = Field(5000, ge=10)
    features: list[Literal["code", "pixels"]] | None = Field(None, min_length=1)
    reducers: list[Part] = Field([Part(name="none"), Part(name="pca"), Part(name="umap")], min_length=1)
    clusterers: list[Part] = Field([Part(name="kmeans")], min_length=1)
    fit_on: Literal["real", "both"] = "real"


class Experiment(Settings):
    """The whole file."""

    name: Name
    seed: int = Field(0, ge=0, lt=2**31)
    dataset: Annotated[Dataset, BeforeValidator(_bare_name)] = Dataset()
    studies: dict[StudyName, Study] = Field(min_length=1)
    evaluation: Evaluation | None = Evaluation()

    def to_yaml(self) -> str:
        """Write the file that `load` reads as this experiment."""
        return yaml_file.dump(self.model_dump(mode="json"))


class TrialConfig(Settings):
    """One configuration of a study, with a value in every domain's place: all that its training depends on."""

    study: str
    trial_id: str
    seed: int
    model: dict[str, Any]
    train: Train
    samples: Samples
    metric: str
    every: int
    searched: dict[str, Any]

    def is_due(self, epoch: int) -> bool:
        """Tell whether an epoch, counted from 1, ends with a look at the objective: every so many, and the last."""
        return epoch % self.every == 0 or epoch == self.train.epochs


def bundled() -> dict[str, Path]:
    """Find the experiments that come with the project, by name."""
    package = Path(__file__).parent
    inside_wheel, beside_package = package / "experiments", package.parent / "experiments"
    folder = inside_wheel if inside_wheel.is_dir() else beside_package
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load(source: str | Path, sets: Mapping[str, Any] | None = None) -> Experiment:
    """Read an experiment from a file or, by its name, from the bundled ones.

    sets: values by dotted key, put in before the file is checked; `*` stands for every key of a mapping.
    Raises InputError for the first thing that is wrong.
    """
    path = Path(source)
    if not path.is_file():
        if path.suffix or len(path.parts) > 1:
            raise InputError(f"{source}: expected an experiment file, found {'a folder' if path.is_dir() else 'none'}")
        if str(source) not in bundled():
            raise choices("experiment", str(source), bundled())
        path = bundled()[str(source)]
    where = str(source)
    try:
        data = yaml_file.parse(path.read_text(encoding="utf-8"), where)
    except UnicodeDecodeError:
        raise InputError(f"{where}: expected UTF-8 text") from None
    if not isinstance(data, dict):
        raise InputError(f"{where}: expected a mapping with name, dataset and studies, received {data!r:.60}")
    for key, value in (sets or {}).items():
        data = put(data, key, value)
    return validate(Experiment, data, f"{where}: ")


def put(data: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Copy nested settings with `value` at the dotted `key`; `*` matches every key of a mapping that is there."""
    changed = copy.deepcopy(dict(data))
    nodes: list[Any] = [changed]
    *parents, last = key.split(".")
    for depth, part in enumerate(parents):
        below = []
        for node in nodes:
            for name in node if part == "*" else [part]:
                if node.get(name) is None and depth and parents[depth - 1] == "studies":
                    raise InputError(f"--set {key}: " + str(choices("study", name, node)))
                child = _bare_name({} if node.get(name) is None else node[name])
                if not isinstance(child, dict):
                    raise InputError(f"--set {key}: {name} is {child!r}, which has no keys")
                node[name] = child
                below.append(child)
        nodes = below
    for node in nodes:
        for name in list(node) if last == "*" else [last]:
            node[name] = value
    return changed


def validate(kind: type[S], data: Any, where: str) -> S:
    """Check `data` against a Settings class.

    The first problem becomes an InputError. It opens with `where` and the key: `file.yaml: `, or the key of a mapping
    with its dot, as in `studies.gan.train.`.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        first, key = errors[0], _key(errors[0]["loc"])
        if first["type"] == "value_error":
            problem = first["msg"].removeprefix("Value error, ")
        elif first["type"] == "missing":
            problem = "missing; expected a value"
        elif first["type"] == "string_pattern_mismatch":
            first_of_all = "the first a letter or digit"
            problem = (
                f"expected a name of letters, digits, `_`, `-` and `.`, {first_of_all}, received {first['input']!r}"
            )
        else:
            same = [e["msg"].removeprefix("Input should be ") for e in errors if _key(e["loc"]) == key]
            problem = f"expected {' or '.join(same)}, received {first['input']!r:.80}"
            if isinstance(first["input"], Mapping):
                problem += f"; the search domains are {', '.join(search_space.DOMAINS)}"
        place = f"{where}{key}" if key else where.rstrip(".: ")
        raise InputError(f"{place}: {problem}") from None


def _key(location: tuple[int | str, ...]) -> str:
    """Write a place as a dotted key, without the steps that name a branch of a union."""
    steps = [str(step) for step in location]
    return ".".join(
        step for step in steps if "[" not in step and step not in ("float", "int", "str", "constrained-int")
    )
