"""Settings as typed, frozen mappings: what is wrong in them becomes one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from raymnist import search_space
from raymnist.errors import InputError

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


def bare_name(value: Any) -> Any:
    """Read the short form of a mapping: a string stands for its `name`."""
    return {"name": value} if isinstance(value, str) else value


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
        elif first["type"] == "union_tag_invalid":
            problem = f"expected {first['ctx']['expected_tags']}, received {first['ctx']['tag']!r}"
        elif first["type"] == "union_tag_not_found":
            problem = f"expected a name, received {first['input']!r}"
        elif first["type"] == "missing":
            problem = "missing; expected a value"
        elif first["type"] == "string_pattern_mismatch":
            marks = "`_`, `-` and `.`" if "." in first["ctx"]["pattern"] else "`_` and `-`"
            first_of_all = "the first a letter or digit"
            problem = f"expected a name of letters, digits, {marks}, {first_of_all}, received {first['input']!r}"
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
