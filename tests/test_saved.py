"""Generators that others have trained: what is read off them, and what is refused."""

import json
import shutil
import subprocess
import sys
import textwrap
import zipfile

import h5py
import keras
import numpy as np
import pytest
from conftest import a_trial
from keras import layers

from raymnist.errors import InputError
from raymnist.models import MODELS, networks
from raymnist.models.saved import SavedGenerator, load

# What a script with Keras 2 leaves: TensorFlow's own Keras of before version 2.16, kept alive as the package tf-keras.
KERAS_2 = """
    import sys
    import numpy as np
    import tf_keras
    from tf_keras import layers

    def stack(first):
        return tf_keras.Sequential([
            first,
            layers.LeakyReLU(alpha=0.2),
            layers.Reshape((7, 7, 8)),
            layers.BatchNormalization(),
            layers.Conv2DTranspose(8, (4, 4), strides=(2, 2), padding="same"),
            layers.LeakyReLU(alpha=0.2),
            layers.DepthwiseConv2D(3, padding="same"),
            layers.SeparableConv2D(8, 3, padding="same"),
            layers.Conv2DTranspose(8, (4, 4), strides=(2, 2), padding="same"),
            layers.Conv2D(1, (7, 7), activation="tanh", padding="same"),
        ])

    tf_keras.utils.set_random_seed(0)
    noise = tf_keras.Input((20,))
    hidden = layers.LeakyReLU(alpha=0.2)(layers.Dense(32)(noise))
    models = {
        "sequential": stack(layers.Dense(7 * 7 * 8, input_dim=20)),
        "functional": tf_keras.Model(noise, layers.Reshape((28, 28, 1))(layers.Dense(784, activation="tanh")(hidden))),
        "nested": tf_keras.Model(noise, stack(layers.Dense(7 * 7 * 8, input_dim=20))(noise)),
    }
    tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
    models["mixed"] = stack(layers.Dense(7 * 7 * 8, input_dim=20))
    folder = sys.argv[1]
    inputs = np.load(folder + "/noise.npy")
    for name, generator in models.items():
        generator.save(f"{folder}/{name}.h5")
        generator.save(f"{folder}/{name}.keras")
        np.save(f"{folder}/{name}.npy", generator.predict(inputs, verbose=0).astype(np.float32))
"""


@pytest.fixture(scope="module")
def of_keras_2(tmp_path_factory):
    """A folder with generators as Keras 2 saved them, in both formats, and what they made there of some noise."""
    folder = tmp_path_factory.mktemp("keras_2")
    np.save(folder / "noise.npy", networks.noise(10, 20, seed=5))
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(KERAS_2), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("suffix", ["h5", "keras"])
@pytest.mark.parametrize("name", ["sequential", "functional", "nested", "mixed"])
def test_a_generator_of_keras_2_makes_what_it_made_there(of_keras_2, name, suffix):
    generator = SavedGenerator.open(of_keras_2 / f"{name}.{suffix}")
    assert (generator.latent_dim, generator.shape, generator.output_range) == (20, (28, 28, 1), (-1.0, 1.0))
    expected = np.rint((np.load(of_keras_2 / f"{name}.npy") + 1) / 2 * 255)
    assert np.abs(generator.generate(10, seed=5) - expected).max() <= 1


def test_a_first_layer_that_says_the_shape_itself_gets_an_input(of_keras_2, tmp_path):
    """As Keras before 2.4 wrote sequential models: without an InputLayer."""
    shutil.copy(of_keras_2 / "sequential.h5", tmp_path / "older.h5")
    with h5py.File(tmp_path / "older.h5", "r+") as stored:
        config = json.loads(stored.attrs["model_config"])
        assert config["config"]["layers"].pop(0)["class_name"] == "InputLayer"
        assert config["config"]["layers"][0]["config"]["batch_input_shape"] == [None, 20]
        stored.attrs["model_config"] = json.dumps(config)
    older, newer = (SavedGenerator.open(path) for path in (tmp_path / "older.h5", of_keras_2 / "sequential.h5"))
    np.testing.assert_array_equal(older.generate(5, seed=1), newer.generate(5, seed=1))


@pytest.mark.parametrize("name", sorted(name for name, kind in MODELS.items() if kind.kind == "generator"))
@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_ones_own_generators_make_the_same_from_their_files(name, suffix, tmp_path, capfd):
    kind, trial = MODELS[name], a_trial(name)
    model = kind(kind.Settings(**{k: v for k, v in trial.model.items() if k != "name"}), trial.train, (13, 10, 3))
    model.network.save(tmp_path / f"generator.{suffix}")
    generator = SavedGenerator.open(tmp_path / f"generator.{suffix}")
    assert (generator.latent_dim, generator.shape, generator.output_range) == (8, (13, 10, 3), (0.0, 1.0))
    np.testing.assert_array_equal(generator.generate(300, seed=2), networks.generate(model.network, 300, seed=2))


def sequential(*stack):
    return keras.Sequential([keras.Input((4,)), *stack])


@pytest.mark.parametrize(
    ("network", "output_range"),
    [
        (sequential(layers.Dense(784, activation="sigmoid"), layers.Reshape((28, 28, 1))), (0, 1)),
        (sequential(layers.Dense(784, activation="tanh")), (-1, 1)),
        (sequential(layers.Dense(784), layers.Activation("tanh"), layers.Rescaling(127.5, offset=127.5)), (0, 255)),
        (
            sequential(layers.Dense(784, activation="sigmoid"), layers.Rescaling(2), layers.Rescaling(3, offset=-1)),
            (-1, 5),
        ),
        (sequential(sequential(layers.Dense(784, activation="tanh")), layers.Reshape((28, 28))), (-1, 1)),
    ],
)
def test_the_output_range_follows_from_the_last_activation(network, output_range, tmp_path):
    network.save(tmp_path / "generator.keras")
    generator = SavedGenerator.open(tmp_path / "generator.keras")
    assert generator.output_range == output_range
    assert generator.shape == (28, 28, 1)
    raw = network.predict(networks.noise(5, 4, seed=1), verbose=0).reshape(5, 28, 28, 1)
    low, high = output_range
    assert np.abs(generator.generate(5, seed=1) - np.rint((raw - low) / (high - low) * 255)).max() <= 1


def test_an_output_without_bounds_needs_its_range_said(tmp_path):
    sequential(layers.Dense(784, activation="relu")).save(tmp_path / "open.keras")
    with pytest.raises(InputError, match=r"open\.keras: the range of its output does not follow .*--output-range"):
        SavedGenerator.open(tmp_path / "open.keras")
    assert SavedGenerator.open(tmp_path / "open.keras", [0, 255]).output_range == (0, 255)


class Doubling(layers.Layer):
    """A custom layer, registered nowhere."""

    def call(self, inputs):
        return inputs * 2


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_file_with_code_of_its_own_is_refused_by_the_layers_name(suffix, tmp_path, capfd):
    path = tmp_path / f"unsafe.{suffix}"
    sequential(layers.Lambda(lambda x: x * 2, name="doubling"), layers.Dense(784, activation="tanh")).save(path)
    with pytest.raises(InputError, match=rf"unsafe\.{suffix}: layer 'doubling' is a Lambda, which would run code"):
        load(path)
    sequential(Doubling(name="custom"), layers.Dense(784, activation="tanh")).save(path)
    with pytest.raises(InputError, match=rf"unsafe\.{suffix}: layer 'custom' is of the custom class 'Doubling'"):
        load(path)
    sequential(sequential(Doubling(name="custom")), layers.Dense(784, activation="tanh")).save(path)
    with pytest.raises(InputError, match="layer 'custom' is of the custom class 'Doubling'"):
        load(path)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            keras.Sequential([keras.Input((7, 7, 2)), layers.Flatten()]),
            r"expected a generator with one input \[latent_dim\]",
        ),
        (sequential(layers.Dense(10, activation="tanh")), "expected images .* or a flat square as output"),
        (sequential(layers.Dense(8, activation="tanh"), layers.Reshape((2, 2, 2))), "expected images .* as output"),
    ],
)
def test_what_is_no_generator_is_refused(network, message, tmp_path):
    network.save(tmp_path / "other.keras")
    with pytest.raises(InputError, match=message):
        SavedGenerator.open(tmp_path / "other.keras")


@pytest.mark.parametrize("name", ["text.keras", "text.h5"])
def test_a_damaged_or_missing_file_is_refused(name, tmp_path):
    with pytest.raises(InputError, match=rf"{name}: expected a saved Keras model, found none"):
        load(tmp_path / name)
    (tmp_path / name).write_text("no model")
    with pytest.raises(InputError, match=rf"{name}: expected a saved Keras model, received"):
        load(tmp_path / name)
    weights = sequential(layers.Dense(784))
    weights.save_weights(tmp_path / "only.weights.h5")
    with pytest.raises(InputError, match="expected a whole model, received weights alone"):
        load(tmp_path / "only.weights.h5")


def test_a_single_layer_is_no_generator(tmp_path):
    sequential(layers.Dense(784)).save(tmp_path / "layer.keras")
    with zipfile.ZipFile(tmp_path / "layer.keras") as archive:
        stored = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(stored["config.json"])
    stored["config.json"] = json.dumps(config["config"]["layers"][1]).encode()
    with zipfile.ZipFile(tmp_path / "layer.keras", "w") as archive:
        for name, content in stored.items():
            archive.writestr(name, content)
    with pytest.raises(InputError, match=r"layer\.keras: expected a saved Keras model, received"):
        SavedGenerator.open(tmp_path / "layer.keras")


@pytest.mark.parametrize("output_range", [(1, 0), (0, 0), (0, float("nan")), (0, 1, 2), (0,)])
def test_an_output_range_that_is_none_is_refused(output_range, tmp_path):
    sequential(layers.Dense(784, activation="relu")).save(tmp_path / "open.keras")
    with pytest.raises(InputError, match="output range: expected two numbers, the lower first"):
        SavedGenerator.open(tmp_path / "open.keras", output_range)


def test_a_network_that_makes_no_numbers_is_refused(tmp_path):
    network = sequential(layers.Dense(784, activation="sigmoid"))
    network.set_weights([np.full_like(weights, np.nan) for weights in network.get_weights()])
    network.save(tmp_path / "nan.keras")
    with pytest.raises(InputError, match=r"nan\.keras: expected images, received numbers that are not finite"):
        SavedGenerator.open(tmp_path / "nan.keras").generate(3)
