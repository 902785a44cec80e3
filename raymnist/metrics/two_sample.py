"""The classifier two-sample test."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raymnist.metrics.estimate import Estimate, share

Points = NDArray[np.floating]


def c2st(real: Points, fake: Points, seed: int) -> Estimate:
    """Compute how often a small network tells held-out real [n, d] from fake [m, d] images; a half if it cannot.

    It learns on a random half of as many of both as there are of the fewer, and is judged on the other half, whose
    images are draws of their own: the interval is that of a share.
    Source: Lopez-Paz and Oquab, Revisiting Classifier Two-Sample Tests, 2017.
    """
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(seed)
    count = min(len(real), len(fake))
    chosen = [points[rng.permutation(len(points))[:count]] for points in (real, fake)]
    learning = count // 2
    points = np.concatenate([part[:learning] for part in chosen])
    held_out = np.concatenate([part[learning:] for part in chosen])
    # Its own held-out tenth ends the learning; a linear model would not see equal means with other covariances.
    network = MLPClassifier((64,), early_stopping=True, max_iter=1000, random_state=seed)
    model = make_pipeline(StandardScaler(), network).fit(points, np.repeat([False, True], learning))
    return share(model.predict(held_out) == np.repeat([False, True], count - learning))
