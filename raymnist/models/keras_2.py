"""What Keras 2 wrote otherwise: descriptions of layers, in the words of Keras 3.

Found by loading what the package tf-keras 2.21 saves with Keras 3.15, which takes most of it from `.h5` files but not
from `.keras` ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

NETWORKS = ("Sequential", "Functional", "Model")


def layers_of(network: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Go through a network's description and those of its layers, at any depth."""
    yield network
    config = network["config"]
    inner = config.get("layers", []) if isinstance(config, dict) else config
    for layer in inner if network["class_name"] in NETWORKS else []:
        yield from layers_of(layer)


def translate(network: dict[str, Any]) -> bool:
    """Put a network's description, in place, into the words of Keras 3; tells whether that changed anything."""
    before = str(network)
    for layer in list(layers_of(network)):
        name, config = layer["class_name"], layer["config"]
        if not isinstance(config, dict):
            continue
        if isinstance(config.get("dtype"), dict) and config["dtype"]["class_name"] == "Policy":
            config["dtype"] = config["dtype"]["config"]["name"]  # a policy such as mixed_float16
        if name == "Sequential":
            _give_input(config["layers"])
        elif name in NETWORKS:
            _renumber_calls(config)
            if ".engine." in layer.get("module", ""):
                layer["module"] = "keras.src.models.functional"
        elif name == "InputLayer" and "batch_input_shape" in config:
            config["batch_shape"] = config.pop("batch_input_shape")
            config.pop("ragged", None)
        elif name in ("Conv2DTranspose", "DepthwiseConv2D", "SeparableConv2D"):
            config.pop("groups", None)  # always 1
            for key in ("initializer", "regularizer", "constraint") if name == "SeparableConv2D" else ():
                config.pop(f"kernel_{key}", None)  # of a kernel that it does not have
        elif name == "LeakyReLU" and "alpha" in config:
            config["negative_slope"] = config.pop("alpha")
        elif name == "BatchNormalization" and isinstance(config["axis"], list):
            (config["axis"],) = config["axis"]
    return str(network) != before


def _give_input(layers: list[dict[str, Any]]) -> None:
    """Say the shape of the input by an InputLayer, which the first layer said by itself."""
    shapes = [layer["config"].pop("batch_input_shape", None) for layer in layers if layer["class_name"] != "InputLayer"]
    if layers and layers[0]["class_name"] != "InputLayer" and shapes[0]:
        module = {"module": "keras.layers", "registered_name": None} if "module" in layers[0] else {}
        config = {"batch_shape": shapes[0], "dtype": "float32", "name": "input"}
        layers.insert(0, {"class_name": "InputLayer", "config": config, **module})


def _renumber_calls(config: dict[str, Any]) -> None:
    """Count the calls of each layer from 0: Keras 2 counted the one by which a network inside was built."""
    once = {layer["name"] for layer in config["layers"] if len(layer.get("inbound_nodes", [])) <= 1}

    def renumber(places: Any) -> None:
        if not isinstance(places, list):
            return
        if len(places) >= 3 and isinstance(places[0], str) and places[0] in once:
            places[1] = 0
        for place in places:
            renumber(place)

    renumber(config.get("output_layers"))
    for layer in config["layers"]:
        renumber(layer.get("inbound_nodes"))
