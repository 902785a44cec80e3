"""Search domains: what may stand where a setting's value would stand, as in `{loguniform: [1e-4, 1e-3]}`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from raymnist.errors import InputError

# How many arguments a domain takes; None: one or more values to choose from.
DOMAINS: dict[str, int | None] = {
    "choice": None,
    "grid": None,
    "uniform": 2,
    "loguniform": 2,
    "quniform": 3,
    "randint": 2,
}


@dataclass(frozen=True)
class Domain:
    """A set of values that a sweep draws from.

    kind: a key of DOMAINS.
    arguments: the values of `choice` and `grid`; `low, high` of `uniform`, `loguniform` and `randint`
        (`randint` leaves `high` out, as NumPy does); `low, high, step` of `quniform`.
    """

    kind: str
    arguments: tuple[Any, ...]

    @property
    def finite(self) -> bool:
        """Whether the values are listed one by one."""
        return self.kind in ("choice", "grid")

    def sample(self, rng: np.random.Generator) -> Any:
        """Draw one value; a plain Python number, string or whatever was listed."""
        if self.finite:
            return self.arguments[int(rng.integers(len(self.arguments)))]
        low, high = self.arguments[:2]
        if self.kind == "randint":
            return int(rng.integers(low, high))
        if self.kind == "loguniform":
            return float(np.exp(rng.uniform(math.log(low), math.log(high))))
        if self.kind == "uniform":
            return float(rng.uniform(low, high))
        first, last = self.steps
        return self.multiple(min(max(round(rng.uniform(low, high) / self.arguments[2]), first), last))

    def extremes(self) -> tuple[Any, ...]:
        """List values which are all valid settings only if every value of the domain is."""
        if self.finite:
            return self.arguments
        low, high = self.arguments[:2]
        if self.kind == "quniform":
            first, last = self.steps
            return (self.multiple(first), self.multiple(last))
        return (low, high - 1) if self.kind == "randint" else (float(low), float(high))

    @property
    def steps(self) -> tuple[int, int]:
        """The first and last multiple of the step between the bounds, where 0.3 / 0.1 counts as 3."""
        low, high, step = self.arguments
        return math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)

    def multiple(self, count: int) -> int | float:
        """Give the value of so many steps of `quniform`."""
        value = count * self.arguments[2]
        return value if isinstance(value, int) else float(f"{value:.12g}")

    def __str__(self) -> str:
        """Write the domain as in the file, in one line."""
        return f"{{{self.kind}: {list(self.arguments)}}}"


def is_domain(value: object) -> bool:
    """Tell whether `value` is written as a search domain."""
    return isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in DOMAINS


def parse(value: Mapping[str, Any], key: str) -> Domain:
    """Read a domain such as `{uniform: [0, 1]}`.

    Raises InputError, which names `key`, for a wrong number of arguments, a reversed range, a bound that is not a
    number, a non-positive bound of `loguniform`, or values listed twice.
    """
    ((kind, arguments),) = value.items()
    count = DOMAINS[kind]

    def wrong(expected: str) -> InputError:
        return InputError(f"{key}: {kind} expects {expected}, received {arguments!r}")

    if not isinstance(arguments, list) or not arguments:
        raise wrong("a list of values" if count is None else f"a list of {count} numbers")
    if count is None:
        if len({repr(argument) for argument in arguments}) < len(arguments):
            raise wrong("values that differ")
        return Domain(kind, tuple(arguments))
    number = (int,) if kind == "randint" else (int, float)
    if len(arguments) != count or any(type(a) not in number or not math.isfinite(a) for a in arguments):
        raise wrong(f"a list of {count} {'whole ' if kind == 'randint' else ''}numbers")
    low, high = arguments[:2]
    if low >= high:
        raise wrong("its lower bound first, below the upper one")
    if kind == "loguniform" and low <= 0:
        raise wrong("bounds above 0")
    if kind == "quniform" and not 0 < arguments[2] <= high - low:
        raise wrong("a step above 0 that fits between the bounds")
    return Domain(kind, tuple(arguments))


def find(settings: Mapping[str, Any], key: str = "") -> dict[str, Domain]:
    """Collect the domains in nested settings as `{"model.latent_dim": Domain(...)}`, in the file's order."""
    found: dict[str, Domain] = {}
    for name, value in settings.items():
        path = f"{key}.{name}" if key else str(name)
        if is_domain(value):
            found[path] = parse(value, path)
        elif isinstance(value, Mapping):
            found |= find(value, path)
    return found


def fill(settings: Mapping[str, Any], values: Mapping[str, Any], key: str = "") -> dict[str, Any]:
    """Copy nested settings with each domain replaced by its value in `values` (paths as in `find`)."""
    filled: dict[str, Any] = {}
    for name, value in settings.items():
        path = f"{key}.{name}" if key else str(name)
        if path in values:
            filled[name] = values[path]
        elif isinstance(value, Mapping):
            filled[name] = fill(value, values, path)
        else:
            filled[name] = value
    return filled


def corners(domains: Mapping[str, Domain]) -> Iterator[dict[str, Any]]:
    """Yield assignments in which every extreme of every domain occurs, the other domains at their first value."""
    first = {path: domain.extremes()[0] for path, domain in domains.items()}
    yield first
    for path, domain in domains.items():
        for value in domain.extremes()[1:]:
            yield {**first, path: value}


def grid(domains: Mapping[str, Domain]) -> Iterator[dict[str, Any]]:
    """Yield every combination of finite domains' values, the last domain varying fastest."""
    for combination in itertools.product(*(domain.arguments for domain in domains.values())):
        yield dict(zip(domains, combination, strict=True))


def draw(domains: Mapping[str, Domain], rng: np.random.Generator) -> dict[str, Any]:
    """Draw one value of each domain, in the order of their paths, so that the file's order does not matter."""
    return {path: domains[path].sample(rng) for path in sorted(domains)}
