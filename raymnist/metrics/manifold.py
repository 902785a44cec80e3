"""Scores of who lies in whose neighbourhood: precision, recall, density, coverage, and whose neighbour is whose.

Points drawn twice lie at distance 0 of each other, which breaks every score of this kind under the bootstrap. The
standard errors come from 50 random halves of both populations instead: without replacement, n/2 of n images vary as
much around the score of all of them as n images around the truth (Politis and Romano, Large sample confidence regions
based on subsamples, 1994). All neighbours are searched once; the halves only choose among what was found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymnist.metrics.estimate import Estimate, normal, share
from raymnist.metrics.neighbours import Nearest, nearest, squared_distances

Points = NDArray[np.floating]
Flags = NDArray[np.bool_]
HALVES = 50
OWN, CROSS = 24, 10  # neighbours kept: a half of the points has 5 of the 24, or 1 of the 10, but in 1 case of 1000
DENSE = 0.05  # the share of close pairs in a block above which all pairs are sooner looked at
OF_PRECISION, OF_DENSITY = 3, 5  # neighbours that span a ball, as in the sources


@dataclass(frozen=True)
class Manifold:
    """What the neighbourhoods of real and fake images say, each with its interval.

    precision: the share of fakes within the ball of a real image. recall: the share of real images within the ball of a
    fake. density: how many balls of real images a fake lies in, over 5; 1 on average for real images. coverage: the
    share of real images with a fake in their ball. c2st_1nn: the share of all images whose nearest other is of their
    own kind; a half for equal distributions, less where fakes copy.
    """

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate
    c2st_1nn: Estimate


def manifold(real: Points, fake: Points, seed: int, halves: int = HALVES) -> Manifold:
    """Compare the neighbourhoods of `real` [n, d] and `fake` [m, d]; without `halves` there are no intervals.

    A ball ends before the 3rd (precision, recall) or 5th (density, coverage) nearest other point of the same kind, and
    its rim does not belong to it, as in the package prdc: copies of one image have balls that hold nothing.
    Source: Kynkaanniemi et al., Improved Precision and Recall Metric for Assessing Generative Models, 2019; Naeem et
    al., Reliable Fidelity and Diversity Metrics for Generative Models, 2020; Lopez-Paz and Oquab, Revisiting Classifier
    Two-Sample Tests, 2017, for the 1-NN test.
    """
    rng = np.random.default_rng(seed)
    centre = real.mean(0)
    real, fake = real - centre, fake - centre
    of_real, of_fake = nearest(real, None, OWN), nearest(fake, None, OWN)
    in_real, in_fake = _halves(len(real), halves, rng), _halves(len(fake), halves, rng)
    radii = {
        "real 3": _radii(of_real, in_real, OF_PRECISION),
        "real 5": _radii(of_real, in_real, OF_DENSITY),
        "fake 3": _radii(of_fake, in_fake, OF_PRECISION),
    }
    found = _Found(
        np.zeros_like(in_fake), np.zeros_like(in_real), np.zeros_like(in_real), np.zeros(len(in_real), np.int64)
    )
    around_real = np.maximum(radii["real 3"], radii["real 5"]).max(0)
    around_fake = radii["fake 3"].max(0)[:, np.newaxis]
    for start, block in squared_distances(fake, real):
        rows = slice(start, start + len(block))
        near = (block < around_real) | (block < around_fake[rows])
        if np.count_nonzero(near) > DENSE * near.size:
            found.look_at_all(block, rows, in_real, in_fake, radii)
        else:
            found.look_at_pairs(block, near, start, in_real, in_fake, radii)
    sizes = in_fake.sum(1)
    return Manifold(
        precision=_share(found.precise.sum(1) / sizes, len(fake)),
        recall=_share(found.recalled.sum(1) / in_real.sum(1), len(real)),
        density=_share(found.balls / (OF_DENSITY * sizes), len(fake), most=np.inf),
        coverage=_share(found.covered.sum(1) / in_real.sum(1), len(real)),
        c2st_1nn=_share(_same_kind(real, fake, of_real, of_fake, in_real, in_fake), len(real) + len(fake)),
    )


@dataclass(frozen=True)
class _Found:
    """Who lies in whose ball, for each choice of points: all of them, and the halves.

    precise [1 + H, m], recalled, covered [1 + H, n]: bool. balls [1 + H]: pairs of a fake in the ball of a real image.
    """

    precise: Flags
    recalled: Flags
    covered: Flags
    balls: NDArray[np.int64]

    def look_at_pairs(
        self, block: Points, near: Flags, start: int, in_real: Flags, in_fake: Flags, radii: dict[str, Points]
    ) -> None:
        """Take the few pairs of a block [b, n] that some choice may put into a ball."""
        fakes, reals = np.nonzero(near)
        squares = block[fakes, reals]
        fakes += start
        for number in range(len(self.balls)):
            kept = in_fake[number, fakes] & in_real[number, reals]
            of_fakes, of_reals, distances = fakes[kept], reals[kept], squares[kept]
            self.precise[number, of_fakes[distances < radii["real 3"][number, of_reals]]] = True
            self.recalled[number, of_reals[distances < radii["fake 3"][number, of_fakes]]] = True
            inside = distances < radii["real 5"][number, of_reals]
            self.covered[number, of_reals[inside]] = True
            self.balls[number] += np.count_nonzero(inside)

    def look_at_all(self, block: Points, rows: slice, in_real: Flags, in_fake: Flags, radii: dict[str, Points]) -> None:
        """Take all pairs of a block: sooner where many are close, as for fakes that are spread wide."""
        for number in range(len(self.balls)):
            fakes = np.flatnonzero(in_fake[number, rows])
            reals = np.flatnonzero(in_real[number])
            squares = block[np.ix_(fakes, reals)]
            self.precise[number, rows.start + fakes] = (squares < radii["real 3"][number, reals]).any(1)
            around = radii["fake 3"][number, rows.start + fakes]
            self.recalled[number, reals] |= (squares < around[:, np.newaxis]).any(0)
            inside = squares < radii["real 5"][number, reals]
            self.covered[number, reals] |= inside.any(0)
            self.balls[number] += np.count_nonzero(inside)


def _halves(count: int, halves: int, rng: np.random.Generator) -> Flags:
    """Choose all points, and then random halves of them: bool [1 + halves, count]."""
    chosen = np.zeros((1 + halves, count), bool)
    chosen[0] = True
    for half in chosen[1:]:
        half[rng.permutation(count)[: (count + 1) // 2]] = True
    return chosen


def _radii(own: Nearest, chosen: Flags, k: int) -> Points:
    """Give, for each choice of points, each point's squared distance to its k-th nearest chosen other, [1 + H, n]."""
    radii = np.empty(chosen.shape, own.squares.dtype)
    rows = np.arange(len(own.places))
    for number, flags in enumerate(chosen):
        counts = np.cumsum(flags[own.places], axis=1)
        place = np.where(counts[:, -1] >= k, (counts >= k).argmax(1), own.places.shape[1] - 1)
        radii[number] = own.squares[rows, place]
    return radii


def _same_kind(
    real: Points, fake: Points, of_real: Nearest, of_fake: Nearest, in_real: Flags, in_fake: Flags
) -> NDArray[np.float64]:
    """Compute for each choice the share of its points whose nearest other chosen point is of their own kind."""
    to_fake, to_real = nearest(real, fake, CROSS), nearest(fake, real, CROSS)
    own_of_real, own_of_fake = _radii(of_real, in_real, 1), _radii(of_fake, in_fake, 1)
    shares = np.empty(len(in_real))
    for number, (reals, fakes) in enumerate(zip(in_real, in_fake, strict=True)):
        same = np.int64(0)
        for chosen, own, cross, others in (
            (reals, own_of_real, to_fake, fakes),
            (fakes, own_of_fake, to_real, reals),
        ):
            flags = others[cross.places]
            place = np.where(flags.any(1), flags.argmax(1), cross.places.shape[1] - 1)
            other = cross.squares[np.arange(len(place)), place]
            same += np.count_nonzero((own[number] < other) & chosen)
        shares[number] = same / (reals.sum() + fakes.sum())
    return shares


def _estimate(values: NDArray[np.float64], most: float) -> Estimate:
    """Take the first value, of all points, with the deviation of the others, of halves, around their mean."""
    value = float(values[0])
    if len(values) == 1:
        return Estimate(value, np.nan, np.nan)
    return normal(value, float(values[1:].std(ddof=1)), least=0, most=most)


def _share(values: NDArray[np.float64], images: int, most: float = 1) -> Estimate:
    """The same for a share of so many images; where it is 0 or `most`, no narrower than Wilson's."""
    estimate = _estimate(values, most)
    if estimate.value not in (0, most) or len(values) == 1:
        return estimate
    wilson = share(np.full(images, estimate.value == most))
    return Estimate(estimate.value, min(estimate.low, wilson.low), max(estimate.high, wilson.high))
