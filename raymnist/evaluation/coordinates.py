"""The coordinates that reducers give to points: made several at a time, and read again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from numpy.typing import NDArray

from raymnist import folder
from raymnist.config import Chain, Evaluation
from raymnist.evaluation import reducers, reduction
from raymnist.evaluation.attempts import attempt, attempt_all
from raymnist.evaluation.blocks import Blocks
from raymnist.evaluation.embedded import Column, Embedded
from raymnist.evaluation.points import Origin, read_blocks
from raymnist.sweep.gauges import Tally

FAILURES = "_failures.json"  # readers of Parquet folders leave out what begins with _


@dataclass(frozen=True)
class Coordinates:
    """Names the coordinates that one fit of reducers gave to one set of points.

    study, trial_id: whose fakes are among them, empty for real images alone. encoder: the trial whose code was reduced,
    or empty. fit_on: `real` or `both`.
    """

    study: str
    trial_id: str
    encoder: str
    fit_on: str
    features: str
    reducer: str


def reduce_all(
    evaluation: Evaluation, embedded: Embedded, of: Sequence[Column], target: Path, tally: Tally
) -> list[str]:
    """Run every reducer of a resolved evaluation, several at a time, and write the coordinates to `target`.

    A reducer is fitted on the real points and places each generator's fakes. `fit_on: both` adds, for each generator,
    a fit on its fakes and the real points together. Returns what failed, a line each.
    """
    with folder.replacing(target) as draft:
        draft.mkdir()
        pieces: list[Callable[[], dict[Coordinates, str]]] = []
        for column in of:
            for chain in evaluation.reducers:
                if chain.parts[0].name == "none":
                    continue
                work = _Reduction(evaluation, embedded, column, chain, draft, number=len(pieces))
                pieces.append(work.on_real)
                if evaluation.fit_on == "both":
                    pieces += [partial(work.on_both, fake, len(pieces) + n) for n, fake in enumerate(embedded.fakes)]
        failures: dict[Coordinates, str] = {}
        tally.pieces = len(pieces)
        for done in attempt_all(pieces, tally):
            if done.result is None:  # it notes all failures that it knows
                raise RuntimeError(done.error)
            failures |= done.result
        folder.write_json(draft / FAILURES, [asdict(which) | {"error": error} for which, error in failures.items()])
    return list(dict.fromkeys(failures.values()))


@dataclass(frozen=True)
class _Reduction:
    """One chain of reducers on one column; writes files whose names begin with `number`."""

    evaluation: Evaluation
    embedded: Embedded
    column: Column
    chain: Chain
    target: Path
    number: int

    def on_real(self) -> dict[Coordinates, str]:
        """Fit on the real points and, unless a fit on both is wanted, place each generator's; returns what failed."""
        real, fakes = self.embedded.real, self.embedded.fakes if self.evaluation.fit_on == "real" else []
        fitted = attempt(lambda: self._fit(self.embedded.points(real, self.column)))
        if fitted.result is None:
            return {self._named(origin, "real"): fitted.error for origin in (real, *fakes)}
        coordinates, placings = fitted.result
        said = [attempt(partial(self._write, coordinates, real.ids, self._named(real, "real"), self.number, 0))]
        for place, fake in enumerate(fakes, start=1):
            said.append(attempt(partial(self._place, placings, fake, place)))
        return {
            self._named(origin, "real"): one.error
            for origin, one in zip((real, *fakes), said, strict=True)
            if one.error
        }

    def on_both(self, fake: Origin, number: int) -> dict[Coordinates, str]:
        """Fit on the real points and a generator's together; returns what failed."""
        named = self._named(fake, "both")
        real = self.embedded.real

        def work() -> None:
            points = self.embedded.points(real, self.column).joined(self.embedded.points(fake, self.column))
            self._write(self._fit(points)[0], np.concatenate([real.ids, fake.ids]), named, number, 0)

        error = attempt(work).error
        return {named: error} if error else {}

    def _fit(self, points: Blocks) -> tuple[Blocks, list[reduction.Placing]]:
        return reduction.fit(self.chain, points, self.column.seed, self.evaluation.reproducible)

    def _place(self, placings: list[reduction.Placing], fake: Origin, place: int) -> None:
        placed = reduction.place(placings, self.embedded.points(fake, self.column))
        self._write(placed, fake.ids, self._named(fake, "real"), self.number, place)

    def _named(self, origin: Origin, fit_on: str) -> Coordinates:
        features, reducer = self.column.features, reducers.label(self.chain)
        return Coordinates(origin.study, origin.trial_id, self.column.encoder, fit_on, features, reducer)

    def _write(self, points: Blocks, ids: NDArray[np.int64], named: Coordinates, number: int, place: int) -> None:
        name = f"{number:03d}-{place:02d}"
        ray.get(points.each(_write_block, self.target.resolve(), name, named, cut=[ids]))


def _write_block(
    block: NDArray[np.float32], target: Path, name: str, named: Coordinates, ids: NDArray[np.int64]
) -> None:
    constant = {key: pa.array([value] * len(ids)) for key, value in asdict(named).items()}
    xyz = pa.array(list(block), pa.list_(pa.float32()))  # as wide as the reducer has dimensions
    pq.write_table(pa.table({"id": ids, **constant, "xyz": xyz}), target / f"{name}-{ids[0]:09d}.parquet")


def read_coordinates(path: Path) -> tuple[dict[Coordinates, Blocks], dict[Coordinates, str]]:
    """Read what `reduce_all` wrote, in the order of the ids: the coordinates, and why some are missing."""
    files: dict[Coordinates, list[Path]] = {}
    names = [one.name for one in fields(Coordinates)]
    for file in sorted(path.resolve().glob("*.parquet")):  # workers have other working directories
        first = pq.ParquetFile(file).read_row_group(0, columns=names).slice(0, 1).to_pylist()[0]
        files.setdefault(Coordinates(**first), []).append(file)
    failures = {
        Coordinates(**{name: one[name] for name in names}): one["error"] for one in folder.read_json(path / FAILURES)
    }
    return {named: read_blocks(held, "xyz") for named, held in files.items()}, failures
