"""The models, by the name that an experiment gives."""

from raymnist.models.base import Model, Phase
from raymnist.models.conv_autoencoder import ConvAutoencoder
from raymnist.models.conv_gan import ConvGAN

__all__ = ["MODELS", "Model", "Phase"]

MODELS: dict[str, type[Model]] = {
    "conv_autoencoder": ConvAutoencoder,
    "conv_gan": ConvGAN,
}
