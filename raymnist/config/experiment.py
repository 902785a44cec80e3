"""The whole experiment: its data, its studies and its evaluation."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from raymnist import yaml_file
from raymnist.config.evaluation import Evaluation
from raymnist.config.studies import Study
from raymnist.settings import Name, Settings, StudyName, bare_name


class Dataset(Settings):
    """Which images: a name in DATASETS or the path of an `.npz` file; `limit` keeps the first training images."""

    name: str = "digits"
    limit: int | None = Field(None, ge=20)


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
