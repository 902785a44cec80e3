"""The evaluation: whose images are compared, and how."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_serializer, model_validator

from raymnist.config.resources import Resources
from raymnist.errors import InputError
from raymnist.settings import Settings, StudyName, bare_name, validate


class Part(Settings):
    """A reducer or clusterer: `pca`, `{pca: 50}`, `{pca: {dims: 50}}` or `{name: pca, dims: 50}`.

    options: a lone value stands for the first of them. label: what tables and figures call it; `None` stands for its
    name.
    """

    name: str
    options: dict[str, Any] | int | list[int] = {}
    label: StudyName | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_short_forms(cls, data: Any) -> Any:
        if isinstance(data, str):
            return {"name": data}
        if not isinstance(data, Mapping) or "options" in data:
            return data
        name, options = data.get("name"), {key: value for key, value in data.items() if key != "name"}
        if name is None and len(data) == 1:
            ((name, options),) = data.items()
        if name is None:
            return data
        if not isinstance(options, Mapping):
            return {"name": name, "options": {} if options is None else options}
        label = {"label": options["label"]} if "label" in options else {}
        return {"name": name, "options": {key: value for key, value in options.items() if key != "label"}, **label}

    @model_serializer
    def _write_short_form(self) -> dict[str, Any] | str:
        label = {"label": self.label} if self.label else {}
        options = {**self.options, **label} if isinstance(self.options, dict) else self.options
        return self.name if options == {} else {self.name: options}

    def resolved(self, accepted: type[Settings], where: str) -> Part:
        """Fill in the defaults of the options; raises InputError for a wrong one."""
        options: Any = self.options
        if not isinstance(options, Mapping):
            first = next(iter(accepted.model_fields), None)
            if first is None:
                raise InputError(f"{where}.{self.name}: expected no options, received {options}")
            options = {first: options}
        return self.model_copy(update={"options": validate(accepted, options, f"{where}.{self.name}.").model_dump()})


class Chain(Settings):
    """Reducers, each applied to what the one before it made: one alone, or a list as `[pca: 50, umap: {dims: 2}]`."""

    parts: list[Part] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _read_short_forms(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and set(data) == {"parts"}:
            return data
        return {"parts": data if isinstance(data, list) else [data]}

    @model_serializer
    def _write_short_form(self) -> Any:
        return self.parts[0] if len(self.parts) == 1 else self.parts


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
        """Whether the name is a path and not a study's; studies have no dot and no slash in their names."""
        return "." in self.name or "/" in self.name

    @property
    def study(self) -> str:
        """The name of the study or, in its place in the tables, a file's label or else its name without suffix."""
        return self.label or PurePath(self.name).stem

    @property
    def title(self) -> str:
        """The same with a file's suffix, of a folder `.images`, which stands for the trial in the tables."""
        return self.study + (PurePath(self.name).suffix or ".images") if self.is_file else self.study

    @model_validator(mode="after")
    def _names_a_file(self) -> Self:
        for key in ("label", "output_range"):
            if getattr(self, key) is not None and not self.is_file:
                raise ValueError(f"{key}: belongs to a saved file, received the study {self.name}")
        if self.output_range is not None and PurePath(self.name).suffix not in (".keras", ".h5", ".hdf5"):
            raise ValueError(f"output_range: belongs to a saved network, received it for {self.name}")
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
    split: the real images: the test images, or all there are.
    images: at most so many of them are clustered. fakes: so many of each generator; `None` for as many as real ones.
    scored_images: at most so many of both take part in the scores of generators; `None` for no scores.
    choose_by: what tells which reducer and clusterer of real codes stand on the leaderboard; `None` for the first.
    features: what is clustered. fit_on: whether a reducer is fitted on the real images or on real and fake ones.
    reproducible: whether maps are the same each time; without, t-SNE and UMAP use all cores.
    resources: what one process that embeds occupies.
    """

    encoder: str | None = None
    generators: list[Annotated[Generator, BeforeValidator(bare_name)]] | None = None
    split: Literal["test", "all"] = "test"
    images: int = Field(5000, ge=10)
    fakes: int | None = Field(None, ge=10)
    scored_images: int | None = Field(10_000, ge=50)
    features: list[Literal["code", "pixels", "classifier"]] | None = Field(None, min_length=1)
    reducers: list[Chain] = Field([Chain(parts=[Part(name=name)]) for name in ("none", "pca", "umap")], min_length=1)
    clusterers: list[Part] = Field([Part(name="kmeans")], min_length=1)
    choose_by: Literal["silhouette", "agreement"] | None = None
    fit_on: Literal["real", "both"] = "real"
    reproducible: bool = True
    resources: Resources = Resources()
