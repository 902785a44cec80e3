"""The evaluation: whose images are compared, and how."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_serializer, model_validator

from raymnist.settings import Settings, StudyName, bare_name


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

    label: what the tables and figures call a file; `None` stands for its name without suffix.
    output_range: the file's values of black and white, for a network whose last activation does not tell.
    """

    name: str
    label: StudyName | None = None
    output_range: list[float] | None = Field(None, min_length=2, max_length=2)

    @property
    def is_file(self) -> bool:
        """Whether the name is a file's and not a study's; studies have no dot in their names."""
        return "." in self.name

    @property
    def study(self) -> str:
        """The name of the study or, in its place in the tables, a file's label or else its name without suffix."""
        return self.label or PurePath(self.name).stem

    @property
    def title(self) -> str:
        """The same with a file's suffix, which stands for the trial in the tables."""
        return self.study + PurePath(self.name).suffix

    @model_validator(mode="after")
    def _names_a_file(self) -> Self:
        for key in ("label", "output_range"):
            if getattr(self, key) is not None and not self.is_file:
                raise ValueError(f"{key}: belongs to a saved file, received the study {self.name}")
        return self

    @model_validator(mode="after")
    def _black_is_below_white(self) -> Self:
        if self.output_range and self.output_range[0] >= self.output_range[1]:
            raise ValueError(f"output_range: expected the lower value first, received {self.output_range}")
        return self

    @model_serializer
    def _write_short_form(self) -> dict[str, Any] | str:
        said = {"label": self.label, "output_range": self.output_range}
        options = {key: value for key, value in said.items() if value is not None}
        return {"name": self.name, **options} if options else self.name


class Evaluation(Settings):
    """How the embeddings of real and fake images are compared.

    encoder: the autoencoder study whose best trial gives the codes; `None` stands for the first one there is.
    generators: the studies whose best trials make fakes, and saved files; `None` stands for all studies that can.
    images: at most so many test images, and as many fakes from each generator, are clustered.
    scored_images: at most so many of both take part in the scores of generators; `None` for no scores.
    features: what is clustered. fit_on: whether a reducer is fitted on the real images or on real and fake ones.
    """

    encoder: str | None = None
    generators: list[Annotated[Generator, BeforeValidator(bare_name)]] | None = None
    images: int = Field(5000, ge=10)
    scored_images: int | None = Field(10_000, ge=50)
    features: list[Literal["code", "pixels", "classifier"]] | None = Field(None, min_length=1)
    reducers: list[Part] = Field([Part(name="none"), Part(name="pca"), Part(name="umap")], min_length=1)
    clusterers: list[Part] = Field([Part(name="kmeans")], min_length=1)
    fit_on: Literal["real", "both"] = "real"
