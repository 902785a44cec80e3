"""The convolutional autoencoder: two halvings down to a 7x7x32 code, two doublings back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from raymnist import settings
from raymnist.models.base import Model, Phase, crop_to, quarter

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class ConvAutoencoder(Model):
    """Convolutions of 32 3x3 filters; 28,353 parameters; trained on binary cross-entropy with Adam.

    `latent_dim: spatial` keeps the 7x7x32 feature map as the code; a number puts a dense bottleneck of that width
    behind it.
    """

    class Settings(settings.Settings):
        """latent_dim: the width of the code, or `spatial`. filters: of every convolution but the last."""

        latent_dim: Literal["spatial"] | Annotated[int, Field(ge=1)] = "spatial"
        filters: int = Field(32, ge=1)

    kind = "autoencoder"
    reports = ("loss",)
    objective = "val_loss"

    def build(self) -> None:
        """Make the encoder, the decoder and both in a row; the decoder's logits serve the loss."""
        import keras
        from keras import layers

        filters, latent_dim = self.settings.filters, self.settings.latent_dim
        height, width, channels = quarter(self.shape[0]), quarter(self.shape[1]), self.shape[2]
        code = (height, width, filters)
        to_code: list[keras.layers.Layer] = []
        from_code: list[keras.layers.Layer] = []
        if latent_dim != "spatial":
            to_code = [layers.Flatten(), layers.Dense(latent_dim)]
            from_code = [layers.Dense(height * width * filters, activation="relu"), layers.Reshape(code)]

        def convolution() -> keras.layers.Layer:
            return layers.Conv2D(filters, 3, activation="relu", padding="same")

        self.encoder = keras.Sequential(
            [
                keras.Input(self.shape),
                convolution(),
                layers.MaxPooling2D(2, padding="same"),
                convolution(),
                layers.MaxPooling2D(2, padding="same"),
                *to_code,
            ],
            name="encoder",
        )
        self.decoder = keras.Sequential(
            [
                keras.Input(code if latent_dim == "spatial" else (latent_dim,)),
                *from_code,
                convolution(),
                layers.UpSampling2D(2),
                convolution(),
                layers.UpSampling2D(2),
                *crop_to(self.shape),
                layers.Conv2D(channels, 3, padding="same"),
                layers.Activation("sigmoid", dtype="float32"),
            ],
            name="decoder",
        )
        self.autoencoder = keras.Sequential([keras.Input(self.shape), self.encoder, self.decoder], name="autoencoder")
        self.logits = keras.Model(self.decoder.inputs, self.decoder.layers[-2].output)
        self.optimizer = self.adam(self.autoencoder.trainable_variables)

    @property
    def network(self) -> keras.Model:
        """The autoencoder, with its layers `encoder` and `decoder`."""
        return self.autoencoder

    def loss(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Mean binary cross-entropy of the reconstructed pixels, from logits."""
        import keras

        logits = keras.ops.cast(self.logits(self.encoder(images)), "float32")
        return {"loss": keras.ops.mean(keras.ops.binary_crossentropy(images, logits, from_logits=True))}

    def phases(self) -> list[Phase]:
        """One phase: reconstruct."""
        return [Phase("reconstruct", self.loss, self.autoencoder.trainable_variables, self.optimizer)]

    @property
    def variables(self) -> list[keras.Variable]:
        """Weights and Adam's slots."""
        return [*self.autoencoder.variables, *self.optimizer.variables]
