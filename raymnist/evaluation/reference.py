"""The real images that generators are scored beside: test images, training images, and the floor they make."""

from __future__ import annotations

import contextlib
import json
import math
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raymnist import folder
from raymnist.datasets import Images, Pixels
from raymnist.metrics import GENERATOR_METRICS, Comparison, Estimate, Features, Memory
from raymnist.metrics.memorisation import own_distances
from raymnist.models.features import ClassifierFile, cache

Scores = dict[str, Estimate]
Floats = NDArray[np.floating]
Extract = Callable[[Pixels], Features]
COMPONENTS = 64  # as many as the classifier has features
TRUSTED = 0.8  # the accuracy of a classifier below which its scores come with a warning


@dataclass(frozen=True)
class Real:
    """The features of a data set's real images, which do not depend on how many are compared.

    test, training: a classifier's features, or `components` [D, d] of other features around their `mean` [D].
    own: float32 [m], each training image's squared distance to its nearest other.
    """

    test: Features
    training: Features
    own: Floats
    mean: Floats | None = None
    components: Floats | None = None

    def place(self, extracted: Features) -> Features:
        """Put other images among these."""
        return _project(extracted, self.mean, self.components)


@dataclass(frozen=True)
class Reference:
    """What fakes are scored beside: as many test images, drawn by the seed.

    features: `classifier`, or for data without one the `code` of an autoencoder or `pixels`, on at most 64 principal
        components of the training images. classifier: its SHA-256, or empty.
    counts: of the classes among these test images, or None. accuracy: the share of them that the classifier tells
        right, or None. key: stands for the data set and its features.
    """

    features: str
    classifier: str
    real: Real
    test: Features
    counts: NDArray[np.int64] | None
    accuracy: float | None
    seed: int
    key: str

    @property
    def doubt(self) -> str:
        """Warn of a classifier that does not know the data set; empty where it does."""
        if self.accuracy is None or self.accuracy >= TRUSTED:
            return ""
        right = f"{self.accuracy:.0%} of the test images right"
        return f"warning: the classifier tells {right}, and its scores say little; train it for more epochs"

    def scores(self, fake: Features) -> tuple[Scores, Comparison]:
        """Score as many fakes as there are test images; those that are not defined are left out."""
        comparison = Comparison(
            self.test, fake, self.seed, self.counts, Memory(self.real.training.points, self.real.own)
        )
        return _scores(comparison, "points", "logits", "memory"), comparison

    def floor(self) -> Scores:
        """Score a sample of the training images as if they were fakes; the test images for what would be memorised.

        Kept in the cache, where a classifier gave the features.
        """
        path = cache() / "floors" / f"{folder.key_of(self.key, len(self.test), self.seed)}.json"
        if self.classifier:
            with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):  # none there, or a damaged one
                stored = json.loads(path.read_text(encoding="utf-8"))
                return {name: Estimate(**estimate) for name, estimate in stored.items()}
        rows = np.random.default_rng(self.seed).permutation(len(self.real.training))[: len(self.test)]
        sample = Comparison(self.test, self.real.training[rows], self.seed, self.counts)
        unseen = Comparison(self.test, self.test, self.seed, memory=Memory(self.real.training.points, self.real.own))
        floor = _scores(sample, "points", "logits") | _scores(unseen, "memory")
        if self.classifier:
            with contextlib.suppress(OSError):  # without a cache it is computed again
                folder.write_json(path, {name: asdict(estimate) for name, estimate in floor.items()})
        return floor


def flat(images: Pixels) -> Features:
    """Take the pixels themselves for features: float32 [n, D] in [0, 1] of uint8 [n, H, W, C]."""
    return Features(images.reshape(len(images), -1).astype(np.float32) / np.float32(255))


def test_order(images: Images, seed: int) -> NDArray[np.int64]:
    """Put the test images in random order; every evaluation takes the first of them."""
    return np.random.default_rng(seed).permutation(len(images.test))


def most_scored(images: Images, count: int) -> int:
    """Tell how many images can be compared: there must be as many test images, and training images for the floor."""
    return min(count, len(images.test), len(images.train))


def reference(
    images: Images, features: str, classifier: ClassifierFile | None, extract: Extract, count: int, seed: int
) -> Reference:
    """Compute the features of the real images, or read those of a classifier from the cache."""
    sha256 = classifier.sha256 if classifier and features == "classifier" else ""
    code = folder.digest_of_code("datasets.py", "metrics", "models", "evaluation/reference.py")
    libraries = [version(name) for name in ("tensorflow", "keras", "numpy", "scipy", "scikit-learn")]
    key = folder.key_of(images.sha256, sha256, code, libraries)
    path = cache() / "features" / f"{key}.npz"
    real = _read(path) if sha256 else None
    if real is None:
        real = _compute(images, extract)
        if sha256:
            with contextlib.suppress(OSError):  # without a cache they are computed again
                _write(real, path)
    chosen = test_order(images, seed)[: most_scored(images, count)]
    test, counts, accuracy = real.test[chosen], None, None
    if test.logits is not None and images.test_labels is not None:
        labels = images.test_labels[chosen]
        counts = images.class_counts(labels)
        accuracy = float(np.mean(test.logits.argmax(1) == images.classes_of(labels)))
    return Reference(features, sha256, real, test, counts, accuracy, seed, key)


def _compute(images: Images, extract: Extract) -> Real:
    both = extract(np.concatenate([images.test, images.train]))  # at once, as it may be a job on a cluster
    test, training = both[: len(images.test)], both[len(images.test) :]
    mean, components = _components(training.points) if training.logits is None else (None, None)
    test, training = (_project(part, mean, components) for part in (test, training))
    return Real(test, training, own_distances(training.points), mean, components)


def _components(points: Floats) -> tuple[Floats, Floats]:
    """Find the principal components, on 10,000 images at most; narrow features are only centred, which KID needs."""
    if points.shape[1] <= COMPONENTS:
        return points.mean(0), np.eye(points.shape[1], dtype=points.dtype)
    from sklearn.decomposition import PCA

    pca = PCA(min(COMPONENTS, len(points)), svd_solver="randomized", random_state=0).fit(points[:10_000])
    return pca.mean_, pca.components_.T


def _project(extracted: Features, mean: Floats | None, components: Floats | None) -> Features:
    if mean is None or components is None:
        return extracted
    return Features(((extracted.points - mean) @ components).astype(np.float32), extracted.logits)


def _read(path: Path) -> Real | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            test, training = (Features(stored[part], stored[f"{part}_logits"]) for part in ("test", "training"))
            return Real(test, training, stored["own"])
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):  # none there, or a damaged one
        return None


def _write(real: Real, path: Path) -> None:
    logits = {f"{part}_logits": getattr(real, part).logits for part in ("test", "training")}
    with folder.replacing(path) as draft:
        np.savez(
            draft, allow_pickle=False, test=real.test.points, training=real.training.points, own=real.own, **logits
        )


def _scores(comparison: Comparison, *needs: str) -> Scores:
    """Compute what can be computed of the scores with these needs."""
    has = {
        "points": True,
        "logits": comparison.fake.logits is not None and comparison.counts is not None,
        "memory": comparison.memory is not None,
    }
    scores = {
        name: metric.function(comparison)
        for name, metric in GENERATOR_METRICS.items()
        if metric.needs in needs and has[metric.needs]
    }
    return {name: estimate for name, estimate in scores.items() if math.isfinite(estimate.value)}
