"""Scoring every generator of an evaluation beside the real images, several at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import ray

from raymnist.datasets import Images
from raymnist.errors import InputError
from raymnist.evaluation.attempts import attempt, attempt_all
from raymnist.evaluation.generator_scores import Scored, score, table_rows, write_classes, write_nearest
from raymnist.evaluation.points import Origin, read_pixels
from raymnist.evaluation.reference import Extract, Reference, Scores, reference
from raymnist.folder import Folder
from raymnist.metrics import Features
from raymnist.models.features import ClassifierFile
from raymnist.sweep.gauges import Tally


@dataclass(frozen=True)
class GeneratorScoring:
    """How generators are scored: on which features, of how many fakes and as many test images.

    features: `classifier`, `code` or `pixels`. encoder: the trial whose code they are, or empty. extract: computes them
    of real images.
    """

    images: Images
    classifier: ClassifierFile | None
    features: str
    encoder: str
    count: int
    seed: int
    extract: Extract

    def run(
        self, origins: Sequence[Origin], results: Folder, tally: Tally
    ) -> tuple[list[dict[str, Any]], list[str], str]:
        """Score each generator by a Ray task; writes what the results table has no room for.

        Returns the table's rows, with one that has an `error` for each generator that cannot be scored; what failed;
        and a warning or nothing.
        """
        origins = [origin.first(self.count) for origin in origins]
        real = attempt(self._reference)
        if real.result is None:
            error = f"the scores of generators: {real.error}"
            return [self._failure(origin, error) for origin in origins], [error], ""
        beside, floor = real.result
        shared = ray.put(beside)
        attempts = attempt_all([partial(self._score, shared, origin) for origin in origins], tally)
        scored = [(origin, one.result) for origin, one in zip(origins, attempts, strict=True) if one.result]
        made, shown = [one for _, one in scored], [read_pixels(origin, one.copies.rows) for origin, one in scored]
        write_nearest(made, shown, self.images, results.embeddings / "nearest")
        write_classes(beside, made, self.images, results.classes)
        failed = [(origin, one.error) for origin, one in zip(origins, attempts, strict=True) if one.error]
        rows = table_rows(beside, made, floor, self.encoder) + [self._failure(*one) for one in failed]
        return rows, [error for _, error in failed], beside.doubt

    def _reference(self) -> tuple[Reference, Scores]:
        """Prepare the real side, and score the floor here, where the cache is."""
        beside = reference(self.images, self.features, self.classifier, self.extract, self.count, self.seed)
        return beside, beside.floor()

    def _score(self, beside: ray.ObjectRef, origin: Origin) -> Scored:
        if origin.error:
            raise InputError(f"{origin.trial_id}: {origin.error}")
        fake = read_features(origin, self.features)
        if not np.isfinite(fake.points).all():
            raise InputError(f"{origin.trial_id}: expected finite {self.features}, received NaN or infinity")
        scored: Scored = ray.get(_score_on_worker.remote(beside, origin.study, origin.trial_id, fake))
        return scored

    def _failure(self, origin: Origin, error: str) -> dict[str, Any]:
        about = {"study": origin.study, "trial_id": origin.trial_id, "population": "fake"}
        return about | {"features": self.features, "seed": self.seed, "error": error}


def read_features(origin: Origin, features: str) -> Features:
    """Read what an origin is scored on, a classifier's logits too."""
    names = [features, "logits"] if features == "classifier" else [features]
    return Features(*(origin.blocks(name).array() for name in names))


@ray.remote(num_cpus=1)
def _score_on_worker(beside: Reference, study: str, trial_id: str, fake: Features) -> Scored:
    return score(beside, study, trial_id, fake)
