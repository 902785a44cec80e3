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
    """Scores fakes beside the first validation images: frechet_pixels, and the objective if it is another score.

    Kept between the trials of a worker, which all share the study's objective and number of images.
    """

    def __init__(self, trial: TrialConfig, images: Images, classifier: ClassifierFile | None):
        """Prepare the real side. Raises ValueError where the objective needs a classifier and there is none."""
        self.metric, self.count = trial.metric, trial.images
        self.pixels = FrechetPixels.fit(images.train, images.validation)
        if trial.metric not in GENERATOR_METRICS:
            return
        if classifier is None or images.validation_labels is None:
            raise ValueError(f"{trial.metric}: expected a classifier and labels, received none")
        self.classify = classifier.open()
        self.real = self.classify(images.validation[: trial.images])
        self.counts = images.class_counts(images.validation_labels[: trial.images])

    def __call__(self, fakes: Pixels) -> Scores:
        """Score uint8 fakes [n, H, W, C]."""
        scores = {"frechet_pixels": self.pixels(fakes[:FOR_PIXELS])}
        if self.metric in GENERATOR_METRICS:
            comparison = Comparison(self.real, self.classify(fakes[: self.count]), 0, self.counts, has_intervals=False)
            scores[self.metric] = GENERATOR_METRICS[self.metric].function(comparison).value
        return scores


class CodesJudge:
    """Scores the codes of the first validation images, clustered by k-means into as many clusters as classes.

    `silhouette` needs no labels; with a score of labels, such as `ari`, the selection is supervised.
    """

    def __init__(self, trial: TrialConfig, images: Images):
        """Keep the sample."""
        self.metric = trial.metric
        self.classes = images.classes
        self.images = images.validation[: trial.images]
        self.labels = None if images.validation_labels is None else images.validation_labels[: trial.images]

    def __call__(self, encoder: keras.Model) -> Scores:
        """Score an encoder."""
        from sklearn.cluster import KMeans

        codes = networks.encode(encoder, self.images)
        clusters = KMeans(min(self.classes, len(codes)), n_init=4, random_state=0).fit_predict(codes)
        metric = CLUSTERING_METRICS[self.metric]
        return {self.metric: metric.function(codes if metric.needs == "points" else self.labels, clusters)}


Judge = FakesJudge | CodesJudge


def judge_for(trial: TrialConfig, images: Images, classifier: ClassifierFile | None) -> Judge | None:
    """Choose what a trial's kind of model is judged by beside its losses."""
    kind = MODELS[trial.model["name"]].kind
    if kind == "generator":
        return FakesJudge(trial, images, classifier)
    return CodesJudge(trial, images) if trial.metric in CLUSTERING_METRICS else None
