"""The classifier, whose features and classes serve the scores of generators."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import Field

from raymnist import settings
from raymnist.models.base import Model, Phase

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class Classifier(Model):
    """A small convolutional classifier of labelled images; 103,338 parameters (28x28x1, ten classes).

    Two pairs of 3x3 convolutions with a halving behind each, and one convolution whose channels, averaged over the
    image, are the features. Batch normalisation behind every convolution; cross-entropy with Adam, whose rate falls to
    0 along half a cosine (Loshchilov and Hutter, SGDR, 2017).
    """

    class Settings(settings.Settings):
        """filters: of the first two convolutions; the next two have twice as many.

        features: how many there are for the distances. dropout: between the features and the classes.
        """

        filters: int = Field(32, ge=1)
        features: int = Field(64, ge=1)
        dropout: float = Field(0.2, ge=0, lt=1)

    kind = "classifier"
    reports = ("loss", "accuracy")
    objective = "val_loss"
    defaults = {"epochs": 12, "batch_size": 64}

    def build(self) -> None:
        """Make the features, and the classes' logits on them."""
        import keras
        from keras import layers

        def convolution(filters: int) -> list[keras.layers.Layer]:
            return [
                layers.Conv2D(filters, 3, padding="same", use_bias=False),
                layers.BatchNormalization(momentum=0.98),  # settles within the few steps of a small data set
                layers.Activation("relu"),
            ]

        filters = self.settings.filters

        self.features = keras.Sequential(
            [
                keras.Input(self.shape),
                *convolution(filters),
                *convolution(filters),
                layers.MaxPooling2D(2, padding="same"),
                *convolution(2 * filters),
                *convolution(2 * filters),
                layers.MaxPooling2D(2, padding="same"),
                *convolution(self.settings.features),
                layers.GlobalAveragePooling2D(dtype="float32"),
            ],
            name="features",
        )
        self.classifier = keras.Sequential(
            [
                keras.Input(self.shape),
                self.features,
                layers.Dropout(self.settings.dropout),
                layers.Dense(self.classes, dtype="float32", name="logits"),
            ],
            name="classifier",
        )
        self.optimizer = self.adam(self.classifier.trainable_variables)

    @property
    def network(self) -> keras.Model:
        """The classifier, with its layers `features` and `logits`."""
        return self.classifier

    def schedule(self, epoch: int) -> float:
        """Fall along the cosine; at a constant rate the accuracy of MNIST's test images varied by half a percent."""
        return (1 + math.cos(math.pi * (epoch - 1) / self.train.epochs)) / 2

    def learn(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Mean cross-entropy of the classes of a batch (images, classes), and the share that is told right."""
        return _compare(self.classifier(batch[0], training=True), batch[1])

    def validate(self, images: tf.Tensor, classes: tf.Tensor) -> dict[str, tf.Tensor]:
        """The same as after training, without dropout, under the names `val_loss` and `val_accuracy`."""
        reported = _compare(self.classifier(images, training=False), classes)
        return {f"val_{name}": value for name, value in reported.items()}

    def phases(self) -> list[Phase]:
        """One phase: learn."""
        return [Phase("learn", self.learn, self.classifier.trainable_variables, self.optimizer)]

    @property
    def variables(self) -> list[keras.Variable]:
        """Weights, averages, dropout's seed and Adam's slots."""
        return [*self.classifier.variables, *self.optimizer.variables]


def _compare(logits: tf.Tensor, classes: tf.Tensor) -> dict[str, tf.Tensor]:
    from keras import ops

    right = ops.equal(ops.argmax(logits, axis=1), ops.cast(classes, "int32"))
    losses = ops.sparse_categorical_crossentropy(classes, logits, from_logits=True)
    return {"loss": ops.mean(losses), "accuracy": ops.mean(ops.cast(right, "float32"))}
