"""The models, by the name that an experiment gives."""

from raymnist.models.base import Model, Phase
from raymnist.models.classifier import Classifier
from raymnist.models.conv_autoencoder import ConvAutoencoder
from raymnist.models.conv_gan import ConvGAN
from raymnist.models.dcgan import DCGAN
from raymnist.models.dense_gan import DenseGAN

__all__ = ["MODELS", "Model", "Phase"]

MODELS: dict[str, type[Model]] = {
    "conv_autoencoder": ConvAutoencoder,
    "dense_gan": DenseGAN,
    "conv_gan": ConvGAN,
    "dcgan": DCGAN,
    "classifier": Classifier,
}
