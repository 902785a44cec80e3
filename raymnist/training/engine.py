"""The training engine: phases in, one compiled function of a whole epoch out.

It alone knows gradients and compilation. The images stay on the device as uint8; the order of an epoch is drawn in the
graph from (seed, epoch); losses leave the device once, at the epoch's end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from raymnist.datasets import Labels, Pixels
from raymnist.models.base import Model


class Engine:
    """Trains a model on images that stay on the device.

    An epoch goes through the images once in a fresh order, without the last incomplete batch, as a compiled step has
    one shape; what a phase does with a batch is its own.
    """

    def __init__(self, model: Model, images: Pixels, batch_size: int, seed: int, classes: Labels | None = None):
        """`classes`, int64 [n], go with the images into a classifier's batches."""
        phases = model.phases()
        self.updates = [phases] if model.update == "together" else [[phase] for phase in phases]
        self.share = model.share
        self.names = model.reports
        self.are_several = len(phases) > 1
        self.images = tf.constant(images)
        self.classes = None if classes is None else tf.constant(classes)
        self.batch_size = batch_size
        self.steps = len(images) // batch_size
        self.seed = seed
        # Measured on a 2-core CPU, XLA needs 2.3 times as long for these convolutions; on a GPU it fuses them.
        on_gpu = bool(tf.config.get_visible_devices("GPU"))
        self._compiled_epoch = tf.function(self._epoch, jit_compile=on_gpu, autograph=False)

    def epoch(self, number: int) -> dict[str, float]:
        """Train one epoch; `number` seeds its order. Returns the mean over its steps of all that the phases report."""
        means = self._compiled_epoch(tf.constant(number, tf.int32)).numpy()
        return dict(zip(self.names, means.tolist(), strict=True))

    def _step(self, batch: Any) -> dict[str, tf.Tensor]:
        reported: dict[str, tf.Tensor] = {}
        for phases in self.updates:
            watched = [[variable.value for variable in phase.variables] for phase in phases]
            with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
                tape.watch(watched)
                shared = self.share(batch)
                values = [phase.loss(shared) for phase in phases]
            gradients = [tape.gradient(v["loss"], w) for v, w in zip(values, watched, strict=True)]
            for phase, gradient, value in zip(phases, gradients, values, strict=True):
                phase.optimizer.apply(gradient, phase.variables)
                name = f"{phase.name}_loss" if self.are_several else "loss"
                reported |= {name: value.pop("loss"), **value}
        return reported

    def _epoch(self, number: tf.Tensor) -> tf.Tensor:
        keys = tf.random.stateless_uniform([len(self.images)], seed=tf.stack([self.seed, number]))
        order = tf.argsort(keys, stable=True)

        def step(done: tf.Tensor, totals: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            rows = tf.reshape(tf.slice(order, [done * self.batch_size], [self.batch_size]), [self.batch_size])
            batch = to_float(tf.gather(self.images, rows))
            reported = self._step(batch if self.classes is None else (batch, tf.gather(self.classes, rows)))
            return done + 1, totals + tf.stack([reported[name] for name in self.names])

        zeros = tf.zeros(len(self.names))
        _, totals = tf.while_loop(lambda done, _: done < self.steps, step, [0, zeros], parallel_iterations=1)
        return totals / self.steps


def mean_over(
    function: Callable[..., dict[str, tf.Tensor]],
    images: Pixels,
    classes: Labels | None = None,
    batch_size: int = 256,
) -> Callable[[], dict[str, float]]:
    """Compile a function of batches, of images or of images and their classes, into one of no arguments.

    It returns the means over all `images`, which stay on the device.
    """
    resident = [tf.constant(images)] if classes is None else [tf.constant(images), tf.constant(classes)]
    compiled = tf.function(lambda batch, *told: function(to_float(batch), *told), autograph=False)

    def means() -> dict[str, float]:
        totals: dict[str, float] = {}
        for start in range(0, len(images), batch_size):
            batch = [array[start : start + batch_size] for array in resident]
            for name, value in compiled(*batch).items():
                totals[name] = totals.get(name, 0.0) + float(value) * len(batch[0])
        return {name: total / len(images) for name, total in totals.items()}

    return means


def to_float(images: tf.Tensor) -> tf.Tensor:
    """Turn uint8 images into float32 in [0, 1]."""
    return tf.cast(images, tf.float32) / np.float32(255)
