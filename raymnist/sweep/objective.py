"""What ranks a study's trials and chooses each trial's best epoch."""

from __future__ import annotations

from dataclasses import dataclass

from raymnist.config import Study
from raymnist.datasets import Images
from raymnist.errors import InputError
from raymnist.metrics import CLUSTERING_METRICS, GENERATOR_METRICS, METRICS, is_supervised
from raymnist.models import MODELS, Model
from raymnist.models.features import TRAIN_ONE, ClassifierFile


@dataclass(frozen=True)
class Scored:
    """What there is to score with: the SHA-256 of the data set's classifier, empty without one, and labels."""

    classifier: str
    has_labels: bool

    @classmethod
    def of(cls, images: Images, classifier: ClassifierFile | None) -> Scored:
        """Look at a data set and its classifier."""
        return cls(classifier.sha256 if classifier else "", images.train_labels is not None)


def default_objective(kind: type[Model], scored: Scored) -> str:
    """Name what ranks the trials of a model unless the file says otherwise: FID where a classifier exists."""
    return "fid" if kind.kind == "generator" and scored.classifier else kind.objective


def check(metric: str, kind: type[Model], scored: Scored, where: str) -> None:
    """Check that a model can be ranked by a metric; raises InputError, which names the key `where`."""
    scores = [name for name, score in GENERATOR_METRICS.items() if score.is_objective]
    clusterings = [name for name, score in CLUSTERING_METRICS.items() if score.needs in ("points", "labels")]
    of_kind = {"generator": scores, "autoencoder": clusterings, "classifier": ["val_accuracy"]}[kind.kind]
    known = [*dict.fromkeys((kind.objective, *kind.reports)), *of_kind]
    if metric not in known:
        wrong = f"{metric} is no objective of this model" if metric in METRICS else f"unknown metric {metric!r}"
        raise InputError(f"{where}: {wrong}; choose from {', '.join(sorted(known))}")
    if metric in scores and not scored.classifier:
        hint = TRAIN_ONE if scored.has_labels else "it has no labels"
        raise InputError(f"{where}: {metric} needs a classifier of the data set; {hint}")
    if is_supervised(metric) and not scored.has_labels:
        raise InputError(f"{where}: {metric} needs labels, and the data set has none")


def objectives(study: Study, scored: Scored) -> list[str]:
    """Name a resolved study's objectives; the first chooses the best trial and each trial's best epoch."""
    if study.sweep and study.sweep.metrics:
        return study.sweep.metrics
    return [default_objective(MODELS[study.model["name"]], scored)]
