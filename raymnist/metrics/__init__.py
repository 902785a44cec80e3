"""The scores, by the name they have in the table, each with its direction.

Every function here takes arrays and gives a number; it knows nothing of files, Ray or TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from raymnist.metrics.clustering import acc, ami, ari, mixing, nmi, silhouette
from raymnist.metrics.frechet import FrechetPixels

__all__ = ["CLUSTERING_METRICS", "METRICS", "TRAINING_METRICS", "FrechetPixels", "Metric"]


@dataclass(frozen=True)
class Metric:
    """A score and what it takes to read it.

    direction: whether lower (`min`) or higher (`max`) is better.
    needs: what a clustering metric's function is given beside the clusters: the clustered `points`, the `labels`, or
        the `sources` (true for fakes).
    """

    direction: Literal["min", "max"]
    text: str
    function: Callable[[Any, Any], float] | None = None
    needs: Literal["points", "labels", "sources"] | None = None


CLUSTERING_METRICS: dict[str, Metric] = {
    "silhouette": Metric("max", "how compact and apart the clusters are, -1 to 1", silhouette, "points"),
    "ari": Metric("max", "adjusted Rand index of clusters and digits, 0 by chance", ari, "labels"),
    "nmi": Metric("max", "normalised mutual information of clusters and digits, 0 to 1", nmi, "labels"),
    "ami": Metric("max", "adjusted mutual information of clusters and digits, 0 by chance", ami, "labels"),
    "acc": Metric("max", "share of digits in the cluster matched to them, 0 to 1", acc, "labels"),
    "mixing": Metric("max", "how far real and fake mix in the clusters, 0 to 1", mixing, "sources"),
}

# What training reports; the functions stand where the values arise, in models/ and training/.
TRAINING_METRICS: dict[str, Metric] = {
    "loss": Metric("min", "training loss, a mean over the epoch"),
    "val_loss": Metric("min", "loss on the validation images"),
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

METRICS: dict[str, Metric] = TRAINING_METRICS | CLUSTERING_METRICS
