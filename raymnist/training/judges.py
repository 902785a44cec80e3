"""What is looked at while a model trains: scores on a fixed sample of validation images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raymnist.config import TrialConfig
from raymnist.datasets import Images, Pixels
from raymnist.metrics import CLUSTERING_METRICS, GENERATOR_METRICS, Comparison, FrechetPixels
from raymnist.models import MODELS, networks
from raymnist.models.features import ClassifierFile

if TYPE_CHECKING:
    import keras

Scores = dict[str, float]
FOR_PIXELS = 2000  # fakes for frechet_pixels and the discriminator's accuracies


class FakesJudge:
    """Scores fakes beside the first validation images: frechet_pixels, and the objectives that are other scores.

    Kept between the trials of a worker, which all share the study's objectives and number of images.
    """

    def __init__(self, trial: TrialConfig, images: Images, classifier: ClassifierFile | None):
        """Prepare the real side. Raises ValueError where the objective needs a classifier and there is none."""
        self.metrics = [name for name in trial.metrics if name in GENERATOR_METRICS]
        self.count = trial.images if self.metrics else 0
        self.pixels = FrechetPixels.fit(images.train, images.validation)
        if not self.metrics:
            return
        if classifier is None or images.validation_labels is None:
            raise ValueError(f"{self.metrics[0]}: expected a classifier and labels, received none")
        self.classify = classifier.open()
        self.real = self.classify(images.validation[: trial.images])
        self.counts = images.class_counts(images.validation_labels[: trial.images])

    def __call__(self, fakes: Pixels) -> Scores:
        """Score uint8 fakes [n, H, W, C]."""
        scores = {"frechet_pixels": self.pixels(fakes[:FOR_PIXELS])}
        if self.metrics:
            comparison = Comparison(self.real, self.classify(fakes[: self.count]), 0, self.counts, has_intervals=False)
            scores |= {name: GENERATOR_METRICS[name].function(comparison).value for name in self.metrics}
        return scores


class CodesJudge:
    """Scores the codes of the first validation images, clustered by k-means into as many clusters as classes.

    `silhouette` needs no labels; with a score of labels, such as `ari`, the selection is supervised.
    """

    def __init__(self, trial: TrialConfig, images: Images):
        """Keep the sample."""
        self.metrics = [name for name in trial.metrics if name in CLUSTERING_METRICS]
        self.classes = images.classes
        self.images = images.validation[: trial.images]
        self.labels = None if images.validation_labels is None else images.validation_labels[: trial.images]

    def __call__(self, encoder: keras.Model) -> Scores:
        """Score an encoder."""
        from sklearn.cluster import KMeans

        codes = networks.encode(encoder, self.images)
        clusters = KMeans(min(self.classes, len(codes)), n_init=4, random_state=0).fit_predict(codes)
        return {
            name: CLUSTERING_METRICS[name].function(
                codes if CLUSTERING_METRICS[name].needs == "points" else self.labels, clusters
            )
            for name in self.metrics
        }


Judge = FakesJudge | CodesJudge


def judge_for(trial: TrialConfig, images: Images, classifier: ClassifierFile | None) -> Judge | None:
    """Choose what a trial's kind of model is judged by beside its losses."""
    kind = MODELS[trial.model["name"]].kind
    if kind == "generator":
        return FakesJudge(trial, images, classifier)
    return CodesJudge(trial, images) if CLUSTERING_METRICS.keys() & trial.metrics else None
