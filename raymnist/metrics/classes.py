"""Scores of what a classifier sees in fakes: how sure it is, and which classes there are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr, log_softmax, rel_entr

from raymnist.metrics.estimate import Estimate, bootstrap

Floats = NDArray[np.floating]
Means = NDArray[np.float64]


def mnist_score(logits: Floats, seed: int) -> Estimate:
    """Compute the Inception score with a classifier of the data set, from its logits [n, c]; 1 to c, higher is better.

    exp of the mean divergence of an image's class probabilities from all images' mean ones, in float64 and of all
    images at once, without splits. The interval is the bootstrap's over images.
    Source: Salimans et al., Improved Techniques for Training GANs, 2016; with a digit classifier in TF-GAN.
    """
    logarithms = log_softmax(np.asarray(logits, np.float64), axis=1)
    probabilities = np.exp(logarithms)
    entropies = -(probabilities * logarithms).sum(1, keepdims=True)

    def score(means: Means) -> Means:
        scores: Means = np.exp(entr(means[:, :-1]).sum(1) - means[:, -1])
        return scores

    return bootstrap(np.hstack([probabilities, entropies]), score, seed, least=1, most=logits.shape[1])


PRESENT = 0.1


def modes(logits: Floats, real_counts: NDArray[np.int64], seed: int) -> tuple[Estimate, Estimate]:
    """Compute how many classes fakes have, and how far their shares are from those of the data.

    A class is present if its share among the fakes is at least a tenth of that among the data: with 10,000 fakes one
    image alone may be the classifier's error. The second is the divergence KL(fakes || data) in nats, 0 for equal
    shares; each class of the data counts half an image more, so that one that is missing there leaves it finite
    (Krichevsky and Trofimov, 1981). The intervals are the bootstrap's over images.
    logits: [n, c]. real_counts: [c], of the data's own labels.
    Source: Srivastava et al., VEEGAN, 2017; Metz et al., Unrolled Generative Adversarial Networks, 2017.
    """
    classes = logits.shape[1]
    real_shares = (real_counts + 0.5) / (real_counts.sum() + classes / 2)
    told = np.eye(classes)[logits.argmax(1)]

    def present(means: Means) -> Means:
        return ((means >= PRESENT * real_shares) & (means > 0)).sum(1).astype(np.float64)

    def divergence(means: Means) -> Means:
        divergences: Means = rel_entr(means, real_shares).sum(1)
        return divergences

    return bootstrap(told, present, seed, least=1, most=classes), bootstrap(told, divergence, seed, least=0)
