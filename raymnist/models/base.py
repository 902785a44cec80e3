"""What the training engine and the sweep know about a model: its settings, its phases and its variables.

Keras is imported inside the functions that build networks, so that settings are checked without TensorFlow (5 s).
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from raymnist.config import Train
from raymnist.settings import Settings

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


@dataclass(frozen=True)
class Phase:
    """One update of a training step: whose loss, by which optimizer, to which variables.

    loss: takes what the model's `share` makes of a batch, which is the batch itself unless a model says otherwise:
        float32 images [B, H, W, C] in [0, 1], or for a classifier the pair of these and their classes, int [B]. Gives
        float32 scalars, of which `loss` is minimised and the others are reported as they are.
    """

    name: str
    loss: Callable[[Any], dict[str, tf.Tensor]]
    variables: Sequence[keras.Variable]
    optimizer: keras.optimizers.Optimizer


class Model(ABC):
    """A model that trains by phases.

    Settings: what may stand under `model` in the experiment file.
    update: `alternating`, where a phase sees what the one before it has updated, or `together`, where the gradients of
        all phases are taken from one forward pass before any update.
    defaults: the model's own defaults for `train`.
    kind: what it is for: an `autoencoder` encodes and reconstructs, a `generator` makes images from noise, a
        `classifier` tells the classes of labelled images.
    reports: the names of what its phases report, in their order. objective: the metric a sweep minimises or maximises
        unless told otherwise. unsuitable: reported metrics that do not rank trials.
    """

    Settings: ClassVar[type[Settings]]
    update: ClassVar[Literal["alternating", "together"]] = "alternating"
    defaults: ClassVar[dict[str, Any]] = {}
    kind: ClassVar[Literal["autoencoder", "generator", "classifier"]]
    reports: ClassVar[tuple[str, ...]]
    objective: ClassVar[str]
    unsuitable: ClassVar[tuple[str, ...]] = ()

    def __init__(self, settings: Any, train: Train, shape: tuple[int, int, int], classes: int = 10):
        """Build the networks for images of `shape` (height, width, channels), and their optimizers.

        classes: how many a classifier tells apart.
        """
        self.settings = settings
        self.train = train
        self.shape = shape
        self.classes = classes
        self._rates: list[tuple[keras.optimizers.Optimizer, float]] = []
        with precision(train.precision):
            self.build()

    @abstractmethod
    def build(self) -> None:
        """Make the networks and optimizers."""

    @property
    @abstractmethod
    def network(self) -> keras.Model:
        """The network that is kept after training: a generator, or an autoencoder."""

    @abstractmethod
    def phases(self) -> list[Phase]:
        """List the updates of one step, in their order."""

    def share(self, batch: Any) -> Any:
        """Compute from a batch what the phases of one update have in common."""
        return batch

    @property
    @abstractmethod
    def variables(self) -> list[keras.Variable]:
        """All state: weights, optimizer slots and the seeds of dropout and noise, in an order that never changes."""

    def adam(
        self, variables: Sequence[keras.Variable], learning_rate: float | None = None, ema: float = 0
    ) -> keras.optimizers.Optimizer:
        """Make an Adam optimizer with the settings of `train`, its slots built for `variables`.

        learning_rate: in the place of that of `train`. ema: the decay of a moving average that it keeps of them.
        """
        import keras

        rate = learning_rate or self.train.learning_rate
        optimizer = keras.optimizers.Adam(rate, beta_1=self.train.beta_1, use_ema=ema > 0, ema_momentum=ema)
        optimizer.build(variables)
        self._rates.append((optimizer, rate))
        return optimizer

    def schedule(self, epoch: int) -> float:
        """Give the share of their rates that the optimizers have in an epoch, counted from 1."""
        return 1.0

    def set_rates(self, epoch: int) -> None:
        """Give each optimizer its rate of an epoch, in the place of one that came with restored state."""
        for optimizer, rate in self._rates:
            optimizer.learning_rate = rate * self.schedule(epoch)


@contextlib.contextmanager
def precision(policy: str) -> Iterator[None]:
    """Give every layer built inside the Keras dtype `policy`, and no layer built later.

    A policy left set would outlive the trial in a reused worker.
    """
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def quarter(size: int) -> int:
    """Give the side of an image after two halvings that round up: 28 -> 7, 30 -> 8."""
    return -(-size // 4)


def crop_to(shape: tuple[int, int, int]) -> list[keras.layers.Layer]:
    """Crop what two doublings of `quarter` made too large; no layer at all where the sides divide by 4."""
    from keras import layers

    height, width = (4 * quarter(side) - side for side in shape[:2])
    return [layers.Cropping2D(((0, height), (0, width)))] if height or width else []
