"""The whole experiment: its data, its studies and its evaluation."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from raymnist import yaml_file
from raymnist.config.evaluation import Evaluation
from raymnist.config.studies import Study
from raymnist.settings import Name, Settings, StudyName, bare_name


def bare_uri(value: Any) -> Any:
    """Read the short forms of `checkpoints`: a string stands for its `uri`, nothing for the defaults."""
    return {"uri": value} if isinstance(value, str) else {} if value is None else value


class Dataset(Settings):
    """Which images: a name in DATASETS or the path of an `.npz` file; `limit` keeps the first training images."""

    name: str = "digits"
    limit: int | None = Field(None, ge=20)


class Checkpoints(Settings):
    """Where trials keep their checkpoints, and how many.

    uri: of a folder in any file system that pyarrow knows, such as `s3://bucket/folder`; `None` stands for each trial's
    own folder. best: so many of the best epochs, beside the last.
    """

    uri: str | None = None
    best: int = Field(1, ge=0)

    @model_validator(mode="after")
    def _is_a_uri(self) -> Self:
        if self.uri is not None and "://" not in self.uri:
            raise ValueError(f"uri: expected a URI such as s3://bucket/folder, received {self.uri}")
        return self


class Experiment(Settings):
    """The whole file; without studies it evaluates saved generators.

    loggers: the tools that are told of every trial, beside the tables.
    """

    name: Name
    seed: int = Field(0, ge=0, lt=2**31)
    dataset: Annotated[Dataset, BeforeValidator(bare_name)] = Dataset()
    loggers: list[str] = []
    checkpoints: Annotated[Checkpoints, BeforeValidator(bare_uri)] = Checkpoints()
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
