"""The scores, by the name they have in the table, each with its direction.

Every function here takes arrays and gives a number; it knows nothing of files, Ray or TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from raymnist.metrics import generators
from raymnist.metrics.clustering import acc, ami, ari, mixing, nmi
from raymnist.metrics.estimate import Estimate
from raymnist.metrics.frechet_pixels import FrechetPixels
from raymnist.metrics.generators import Comparison, Features, Memory
from raymnist.metrics.projection import knn_accuracy, knn_recall, trustworthiness
from raymnist.metrics.silhouette import silhouette

__all__ = [
    "CLUSTERING_METRICS",
    "DESCRIPTIONS",
    "GENERATOR_METRICS",
    "METRICS",
    "PROJECTION_METRICS",
    "TRAINING_METRICS",
    "Comparison",
    "Estimate",
    "Features",
    "FrechetPixels",
    "Memory",
    "Metric",
    "is_supervised",
]


@dataclass(frozen=True)
class Metric:
    """A score, and whether lower (`min`) or higher (`max`) is better."""

    direction: Literal["min", "max"]
    text: str

    @property
    def sign(self) -> int:
        """What a value is multiplied by so that lower is better."""
        return 1 if self.direction == "min" else -1


@dataclass(frozen=True)
class ClusteringMetric(Metric):
    """A score of clusters.

    needs: what its function is given beside the clusters: the clustered `points`, the `labels`, or the `sources` (true
    for fakes).
    """

    function: Callable[[Any, Any], float]
    needs: Literal["points", "labels", "sources"]


@dataclass(frozen=True)
class ProjectionMetric(Metric):
    """A score of a reducer's coordinates.

    needs: what its function is given before the coordinates: the `points` that were reduced, or the `labels`.
    """

    function: Callable[[Any, Any], float]
    needs: Literal["points", "labels"]


@dataclass(frozen=True)
class GeneratorMetric(Metric):
    """A score of fakes beside real images.

    needs: the features' `points`, a classifier's `logits`, or the `memory` of the training images.
    is_objective: whether it ranks generators and is defined for any number of images. best: what it is at best, where
        that is neither as low nor as high as can be.
    """

    function: Callable[[Comparison], Estimate]
    needs: Literal["points", "logits", "memory"] = "points"
    is_objective: bool = True
    best: str = ""


CLUSTERING_METRICS: dict[str, ClusteringMetric] = {
    "silhouette": ClusteringMetric("max", "how compact and apart the clusters are, -1 to 1", silhouette, "points"),
    "ari": ClusteringMetric("max", "adjusted Rand index of clusters and digits, 0 by chance", ari, "labels"),
    "nmi": ClusteringMetric("max", "normalised mutual information of clusters and digits, 0 to 1", nmi, "labels"),
    "ami": ClusteringMetric("max", "adjusted mutual information of clusters and digits, 0 by chance", ami, "labels"),
    "acc": ClusteringMetric("max", "share of digits in the cluster matched to them, 0 to 1", acc, "labels"),
    "mixing": ClusteringMetric("max", "how far real and fake mix in the clusters, 0 to 1", mixing, "sources"),
}

PROJECTION_METRICS: dict[str, ProjectionMetric] = {
    "trustworthiness": ProjectionMetric(
        "max", "how few strangers are among the nearest in a reduced space, 0 to 1", trustworthiness, "points"
    ),
    "knn_recall": ProjectionMetric(
        "max", "share of the nearest that are kept in a reduced space", knn_recall, "points"
    ),
    "knn_accuracy": ProjectionMetric("max", "share of digits that their nearest tell, 0 to 1", knn_accuracy, "labels"),
}

# What a clustering is, beside its scores.
DESCRIPTIONS: dict[str, str] = {
    "clusters": "number of clusters, without noise",
    "noise_share": "share of images in no cluster",
    "agreement": "adjusted Rand index of the clusters of an encoder's confirmations with each other, a mean over pairs",
}

GENERATOR_METRICS: dict[str, GeneratorMetric] = {
    "fid": GeneratorMetric("min", "Frechet distance of fakes to real images, on features", generators.fid),
    "fid_infinity": GeneratorMetric(
        "min", "the same, extrapolated to infinitely many images", generators.fid_infinity, is_objective=False
    ),
    "kid": GeneratorMetric("min", "kernel distance of fakes to real images, on features", generators.kid),
    "mnist_score": GeneratorMetric(
        "max", "Inception score with the data set's classifier", generators.mnist_score, "logits"
    ),
    "precision": GeneratorMetric("max", "share of fakes within the real images' neighbourhoods", generators.precision),
    "recall": GeneratorMetric("max", "share of real images within the fakes' neighbourhoods", generators.recall),
    "density": GeneratorMetric("max", "neighbourhoods of real images that a fake is in, over 5", generators.density),
    "coverage": GeneratorMetric("max", "share of real images with a fake in their neighbourhood", generators.coverage),
    "c2st": GeneratorMetric(
        "min", "accuracy of a network that tells real from fake", generators.c2st, is_objective=False, best="0.5"
    ),
    "c2st_1nn": GeneratorMetric(
        "min", "share of images whose nearest is of their kind; less than 0.5 for copies", generators.c2st_1nn,
        is_objective=False, best="0.5",
    ),
    "modes_present": GeneratorMetric(
        "max", "number of classes among the fakes", generators.modes_present, "logits", is_objective=False
    ),
    "modes_kl": GeneratorMetric(
        "min", "divergence of the classes' shares from the data's, in nats", generators.modes_kl, "logits"
    ),
    "authpct": GeneratorMetric(
        "max", "percentage of fakes that are no copies of training images", generators.authpct, "memory",
        is_objective=False, best="floor",
    ),
}  # fmt: skip

# What training reports; the functions stand where the values arise, in models/ and training/.
TRAINING_METRICS: dict[str, Metric] = {
    "loss": Metric("min", "training loss, a mean over the epoch"),
    "val_loss": Metric("min", "loss on the validation images"),
    "accuracy": Metric("max", "share of training images that a classifier tells right"),
    "val_accuracy": Metric("max", "share of validation images that a classifier tells right"),
    "frechet_pixels": Metric("min", "Frechet distance of fakes to validation images on 50 pixel components"),
    "discriminator_loss": Metric("min", "the discriminator's loss, a mean over the epoch"),
    "generator_loss": Metric("min", "the generator's loss, a mean over the epoch"),
    "accuracy_real": Metric("max", "share of real images that the discriminator calls real"),
    "accuracy_fake": Metric("max", "share of fakes that the discriminator calls fake"),
    "val_accuracy_real": Metric(
        "max", "share of validation images that the discriminator calls real, at sampled epochs"
    ),
    "val_accuracy_fake": Metric("max", "share of fakes that the discriminator calls fake, at sampled epochs"),
}

METRICS: dict[str, Metric] = TRAINING_METRICS | GENERATOR_METRICS | CLUSTERING_METRICS | PROJECTION_METRICS


def is_supervised(metric: str) -> bool:
    """Tell whether a metric compares codes with labels, so that a selection by it is supervised."""
    return metric in CLUSTERING_METRICS and CLUSTERING_METRICS[metric].needs == "labels"
