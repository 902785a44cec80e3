"""Saved networks: this project's own, and generators that others have trained, read in Keras's safe mode."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raymnist.datasets import Pixels
from raymnist.errors import InputError
from raymnist.models import networks
from raymnist.models.keras_2 import NETWORKS, layers_of, translate

if TYPE_CHECKING:
    import keras

SUFFIXES = (".keras", ".h5", ".hdf5")
RANGES = {"sigmoid": (0.0, 1.0), "hard_sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}  # of activations that have bounds
SHAPING = ("Reshape", "Flatten", "Cropping2D", "UpSampling2D", "ZeroPadding2D", "Dropout")  # leave the range as it is


def load(path: Path) -> keras.Model:
    """Load a saved network, `.keras` or `.h5`, of Keras 3 or Keras 2, without running code from the file.

    Raises InputError for a missing or damaged file, or one with a Lambda layer or custom code.
    """
    if not path.is_file():
        raise InputError(f"{path}: expected a saved Keras model, found {'a folder' if path.is_dir() else 'none'}")
    import keras

    try:
        config = _read_config(path)
        _refuse_code(config, path)
        with _as_keras_3_reads_it(path, config) as readable:
            network = keras.saving.load_model(readable, compile=False, safe_mode=True)
        if not isinstance(network, keras.Model):
            raise InputError(f"{path}: expected a saved Keras model, received a {type(network).__name__}")
        return network
    except InputError:
        raise
    except Exception as error:  # a damaged file fails in zipfile, h5py, JSON or Keras, each with errors of its own
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{path}: expected a saved Keras model, received {reason:.200}") from None


def _read_config(path: Path) -> dict[str, Any]:
    """Read the description of the layers from either format."""
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            config: dict[str, Any] = json.loads(archive.read("config.json"))
        return config
    import h5py

    with h5py.File(path) as stored:
        if "model_config" not in stored.attrs:
            raise InputError(f"{path}: expected a whole model, received weights alone")
        config = json.loads(stored.attrs["model_config"])
    return config


def _refuse_code(config: dict[str, Any], path: Path) -> None:
    """Refuse what would need code that is in the file, or on the machine that wrote it; Keras's safe mode does too."""
    import keras

    for layer in layers_of(config):
        name = layer["class_name"]
        where = (
            f"{path}: layer {layer['config'].get('name', name)!r}" if isinstance(layer["config"], dict) else f"{path}"
        )
        if name == "Lambda":
            raise InputError(f"{where} is a Lambda, which would run code from the file; it is not loaded")
        if name not in NETWORKS and not hasattr(keras.layers, name):
            raise InputError(f"{where} is of the custom class {name!r}; expected Keras's own layers")


@contextlib.contextmanager
def _as_keras_3_reads_it(path: Path, config: dict[str, Any]) -> Iterator[Path]:
    """Yield the file, or a copy of one that Keras 2 wrote, in the words of Keras 3."""
    if not translate(config):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="raymnist-") as scratch:
        copy = Path(scratch) / path.name
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive, zipfile.ZipFile(copy, "w") as written:
                for name in archive.namelist():
                    written.writestr(name, json.dumps(config) if name == "config.json" else archive.read(name))
        else:
            import h5py

            shutil.copy(path, copy)
            with h5py.File(copy, "r+") as stored:
                stored.attrs["model_config"] = json.dumps(config)
        yield copy


@dataclass(frozen=True)
class SavedGenerator:
    """A generator from a file: one input, the noise [latent_dim], and images as output.

    shape: height, width and channels of its images. output_range: its values of black and white.
    """

    path: Path
    network: keras.Model
    latent_dim: int
    shape: tuple[int, int, int]
    output_range: tuple[float, float]

    @classmethod
    def open(cls, path: Path, output_range: Sequence[float] | None = None) -> SavedGenerator:
        """Load a generator, and read its latent size, shape and range off its layers.

        output_range: needed where the last activation has no bounds. Raises InputError for a file that `load` refuses,
        a network that is no generator, or an unknown range.
        """
        network = load(path)
        inputs, outputs = network.input_shape, network.output_shape
        if not isinstance(inputs, tuple) or len(inputs) != 2 or None in inputs[1:]:
            raise InputError(f"{path}: expected a generator with one input [latent_dim], received the input {inputs}")
        if output_range is not None:
            finite = len(output_range) == 2 and all(math.isfinite(value) for value in output_range)
            if not finite or output_range[0] >= output_range[1]:
                raise InputError(f"output range: expected two numbers, the lower first, received {tuple(output_range)}")
        shape = _image_shape(outputs)
        if shape is None:
            raise InputError(
                f"{path}: expected images [height, width, 1 or 3] or a flat square as output, received {outputs}"
            )
        known = output_range or _range_of(network)
        if known is None:
            raise InputError(
                f"{path}: the range of its output does not follow from its last activation; say it, as in "
                "`output_range: [-1, 1]` or --output-range -1 1"
            )
        return cls(path, network, inputs[1], shape, (float(known[0]), float(known[1])))

    def generate(self, count: int, seed: int = 0, first_chunk: int = 0) -> Pixels:
        """Make uint8 images [count, H, W, C] from the noise of `seed`."""
        black, white = self.output_range
        images = networks.apply(self.network, networks.noise(count, self.latent_dim, seed, first_chunk))
        if not np.isfinite(images).all():
            raise InputError(f"{self.path}: expected images, received numbers that are not finite from the network")
        return networks.to_pixels((images.reshape(count, *self.shape) - black) / np.float32(white - black))


def _image_shape(outputs: Any) -> tuple[int, int, int] | None:
    if not isinstance(outputs, tuple) or None in outputs[1:]:
        return None
    shape = outputs[1:]
    if len(shape) == 1 and round(shape[0] ** 0.5) ** 2 == shape[0]:
        return round(shape[0] ** 0.5), round(shape[0] ** 0.5), 1
    if len(shape) == 2:
        return *shape, 1
    return shape if len(shape) == 3 and shape[2] in (1, 3) else None


def _range_of(network: keras.Model) -> tuple[float, float] | None:
    """Follow the output back to the last activation; None if that has no bounds."""
    tensor = network.outputs[0]
    scale, offset = 1.0, 0.0
    while True:
        layer = tensor._keras_history.operation
        activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
        if hasattr(layer, "layers"):
            tensor = layer.outputs[0]
        elif activation in RANGES:
            low, high = RANGES[activation]
            return low * scale + offset, high * scale + offset
        elif type(layer).__name__ == "Rescaling" and _is_rising(layer):
            scale, offset = scale * layer.scale, offset + scale * layer.offset
            tensor = layer.input
        elif type(layer).__name__ in SHAPING or (type(layer).__name__ == "Activation" and activation == "linear"):
            tensor = layer.input
        else:
            return None


def _is_rising(rescaling: Any) -> bool:
    """Tell whether a Rescaling layer maps all pixels alike, and black below white."""
    return all(isinstance(value, (int, float)) for value in (rescaling.scale, rescaling.offset)) and rescaling.scale > 0
