"""What Keras 2 wrote otherwise: descriptions of layers, in the words of Keras 3.

Found by loading what the package tf-keras 2.21 saves with Keras 3.15, which takes most of it from `.h5` files but not
from `.keras` ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def layers_in(config: Any) -> Iterator[dict[str, Any]]:
    """Go through all serialised objects with a configuration of their own, at any depth."""
    if isinstance(config, dict):
        if isinstance(config.get("class_name"), str) and isinstance(config.get("config"), dict):
            yield config
        for value in config.values():
            yield from layers_in(value)
    elif isinstance(config, list):
        for value in config:
            yield from layers_in(value)


def translate(config: dict[str, Any]) -> bool:
    """Put a model's description, in place, into the words of Keras 3; tells whether that changed anything."""
    layers = list(layers_in(config))
    has_input = any(layer["class_name"] == "InputLayer" for layer in layers)
    changed = False
    for layer in layers:
        name, settings = layer["class_name"], layer["config"]
        before = dict(settings)
        if name == "InputLayer" and "batch_input_shape" in settings:
            settings["batch_shape"] = settings.pop("batch_input_shape")
            settings.pop("ragged", None)
        if has_input:
            settings.pop("batch_input_shape", None)  # of a first layer; the input says it already
        if name == "Conv2DTranspose":
            settings.pop("groups", None)  # always 1
        if name == "LeakyReLU" and "alpha" in settings:
            settings["negative_slope"] = settings.pop("alpha")
        if name == "BatchNormalization" and isinstance(settings["axis"], list):
            (settings["axis"],) = settings["axis"]
        changed |= settings != before
    return changed
