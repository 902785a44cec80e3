"""The networks are the seeds': layers, shapes and parameter counts."""

import keras
import numpy as np
import pytest
from conftest import a_trial
from keras import layers

from raymnist.config import Train
from raymnist.metrics import METRICS
from raymnist.models import MODELS, networks


def build(name, shape=(28, 28, 1), precision="float32", **settings):
    kind = MODELS[name]
    return kind(kind.Settings(**settings), Train(precision=precision), shape)


def five(name):
    """Give the setting that makes a code, noise or features of width 5."""
    return {"features" if name == "classifier" else "latent_dim": 5}


def outline(network):
    """List layers as (kind, output shape, parameters)."""
    return [(type(layer).__name__, tuple(layer.output.shape[1:]), layer.count_params()) for layer in network.layers]


def test_the_autoencoder_has_the_layers_of_its_description():
    model = build("conv_autoencoder")
    assert model.autoencoder.count_params() == 28_353
    assert outline(model.encoder) == [
        ("Conv2D", (28, 28, 32), 320),
        ("MaxPooling2D", (14, 14, 32), 0),
        ("Conv2D", (14, 14, 32), 9_248),
        ("MaxPooling2D", (7, 7, 32), 0),
    ]
    assert outline(model.decoder) == [
        ("Conv2D", (7, 7, 32), 9_248),
        ("UpSampling2D", (14, 14, 32), 0),
        ("Conv2D", (14, 14, 32), 9_248),
        ("UpSampling2D", (28, 28, 32), 0),
        ("Conv2D", (28, 28, 1), 289),
        ("Activation", (28, 28, 1), 0),
    ]
    convolutions = [layer for layer in model.encoder.layers + model.decoder.layers if isinstance(layer, layers.Conv2D)]
    assert {layer.kernel_size for layer in convolutions} == {(3, 3)}
    assert [layer.activation.__name__ for layer in convolutions] == ["relu"] * 4 + ["linear"]
    assert model.decoder.layers[-1].activation.__name__ == "sigmoid"


def test_a_number_as_latent_dim_puts_a_dense_bottleneck_into_the_autoencoder():
    model = build("conv_autoencoder", latent_dim=16)
    assert model.encoder.output_shape == (None, 16)
    assert model.autoencoder.count_params() == 28_353 + (1568 * 16 + 16) + (16 * 1568 + 1568)


def test_the_conv_gan_has_the_layers_of_its_description():
    model = build("conv_gan")
    assert model.generator.count_params() == 1_164_289
    assert outline(model.generator) == [
        ("Dense", (6272,), 633_472),
        ("LeakyReLU", (6272,), 0),
        ("Reshape", (7, 7, 128), 0),
        ("Conv2DTranspose", (14, 14, 128), 262_272),
        ("LeakyReLU", (14, 14, 128), 0),
        ("Conv2DTranspose", (28, 28, 128), 262_272),
        ("LeakyReLU", (28, 28, 128), 0),
        ("Conv2D", (28, 28, 1), 6_273),
        ("Activation", (28, 28, 1), 0),
    ]
    assert model.discriminator.count_params() == 40_705
    assert outline(model.discriminator) == [
        ("Conv2D", (14, 14, 64), 640),
        ("LeakyReLU", (14, 14, 64), 0),
        ("Dropout", (14, 14, 64), 0),
        ("Conv2D", (7, 7, 64), 36_928),
        ("LeakyReLU", (7, 7, 64), 0),
        ("Dropout", (7, 7, 64), 0),
        ("Flatten", (3136,), 0),
        ("Dense", (1,), 3_137),
        ("Activation", (1,), 0),
    ]
    drops = [layer.rate for layer in model.discriminator.layers if isinstance(layer, layers.Dropout)]
    every = [*model.generator.layers, *model.discriminator.layers]
    slopes = {layer.negative_slope for layer in every if isinstance(layer, layers.LeakyReLU)}
    assert drops == [0.4, 0.4]
    assert slopes == {0.2}


def test_the_conv_gan_takes_the_customisations_of_its_description():
    model = build(
        "conv_gan",
        generator_filters=16,
        generator_batch_norm=True,
        generator_activation="relu",
        discriminator_filters=8,
        discriminator_batch_norm=True,
        discriminator_activation="elu",
        dropout=0.25,
    )
    assert outline(model.generator) == [
        ("Dense", (784,), 100 * 784),
        ("BatchNormalization", (784,), 4 * 784),
        ("Activation", (784,), 0),
        ("Reshape", (7, 7, 16), 0),
        ("Conv2DTranspose", (14, 14, 16), 4_096),
        ("BatchNormalization", (14, 14, 16), 64),
        ("Activation", (14, 14, 16), 0),
        ("Conv2DTranspose", (28, 28, 16), 4_096),
        ("BatchNormalization", (28, 28, 16), 64),
        ("Activation", (28, 28, 16), 0),
        ("Conv2D", (28, 28, 1), 785),
        ("Activation", (28, 28, 1), 0),
    ]
    assert [kind for kind, _, _ in outline(model.discriminator)] == [
        *("Conv2D", "Activation", "Dropout", "Conv2D", "BatchNormalization", "Activation", "Dropout"),
        *("Flatten", "Dense", "Activation"),
    ]
    activations = [
        [layer.activation.__name__ for layer in network.layers if isinstance(layer, layers.Activation)]
        for network in (model.generator, model.discriminator)
    ]
    assert activations == [["relu", "relu", "relu", "sigmoid"], ["elu", "elu", "sigmoid"]]
    assert {layer.rate for layer in model.discriminator.layers if isinstance(layer, layers.Dropout)} == {0.25}


def test_the_dense_gan_has_the_layers_of_its_description():
    model = build("dense_gan")
    assert model.generator.count_params() == 1_493_520
    assert outline(model.generator) == [
        ("Dense", (256,), 25_856),
        ("BatchNormalization", (256,), 1_024),
        ("LeakyReLU", (256,), 0),
        ("Dense", (512,), 131_584),
        ("BatchNormalization", (512,), 2_048),
        ("LeakyReLU", (512,), 0),
        ("Dense", (1024,), 525_312),
        ("BatchNormalization", (1024,), 4_096),
        ("LeakyReLU", (1024,), 0),
        ("Dense", (784,), 803_600),
        ("Reshape", (28, 28, 1), 0),
        ("Activation", (28, 28, 1), 0),
    ]
    assert model.discriminator.count_params() == 1_460_225
    assert outline(model.discriminator) == [
        ("Flatten", (784,), 0),
        ("Dense", (1024,), 803_840),
        ("LeakyReLU", (1024,), 0),
        ("Dropout", (1024,), 0),
        ("Dense", (512,), 524_800),
        ("LeakyReLU", (512,), 0),
        ("Dropout", (512,), 0),
        ("Dense", (256,), 131_328),
        ("LeakyReLU", (256,), 0),
        ("Dropout", (256,), 0),
        ("Dense", (1,), 257),
        ("Activation", (1,), 0),
    ]
    every = [*model.generator.layers, *model.discriminator.layers]
    assert {layer.negative_slope for layer in every if isinstance(layer, layers.LeakyReLU)} == {0.2}
    assert {layer.momentum for layer in every if isinstance(layer, layers.BatchNormalization)} == {0.8}
    assert {layer.rate for layer in every if isinstance(layer, layers.Dropout)} == {0}
    dropping = build("dense_gan", dropout=0.3).discriminator
    assert {layer.rate for layer in dropping.layers if isinstance(layer, layers.Dropout)} == {0.3}


def test_the_dcgan_has_the_layers_of_the_tutorial():
    model = build("dcgan")
    assert model.generator.count_params() == 2_330_944
    assert outline(model.generator) == [
        ("Dense", (12544,), 1_254_400),
        ("BatchNormalization", (12544,), 50_176),
        ("LeakyReLU", (12544,), 0),
        ("Reshape", (7, 7, 256), 0),
        ("Conv2DTranspose", (7, 7, 128), 819_200),
        ("BatchNormalization", (7, 7, 128), 512),
        ("LeakyReLU", (7, 7, 128), 0),
        ("Conv2DTranspose", (14, 14, 64), 204_800),
        ("BatchNormalization", (14, 14, 64), 256),
        ("LeakyReLU", (14, 14, 64), 0),
        ("Conv2DTranspose", (28, 28, 1), 1_600),
        ("Activation", (28, 28, 1), 0),
        ("Rescaling", (28, 28, 1), 0),
    ]
    assert model.generator.layers[-2].activation.__name__ == "tanh"
    assert model.discriminator.count_params() == 212_865
    assert outline(model.discriminator) == [
        ("Rescaling", (28, 28, 1), 0),
        ("Conv2D", (14, 14, 64), 1_664),
        ("LeakyReLU", (14, 14, 64), 0),
        ("Dropout", (14, 14, 64), 0),
        ("Conv2D", (7, 7, 128), 204_928),
        ("LeakyReLU", (7, 7, 128), 0),
        ("Dropout", (7, 7, 128), 0),
        ("Flatten", (6272,), 0),
        ("Dense", (1,), 6_273),
        ("Activation", (1,), 0),
    ]
    every = [*model.generator.layers, *model.discriminator.layers]
    slopes = [layer.negative_slope for layer in every if isinstance(layer, layers.LeakyReLU)]
    drops = [layer.rate for layer in every if isinstance(layer, layers.Dropout)]
    assert (slopes, drops) == ([0.3] * 5, [0.3] * 2)


@pytest.mark.parametrize(
    ("name", "epochs", "rate", "beta_1"),
    [("dense_gan", 100, 2e-4, 0.5), ("conv_gan", 100, 2e-4, 0.5), ("dcgan", 100, 1e-4, 0.9)],
)
def test_a_gan_trains_both_networks_with_adam_as_described(name, epochs, rate, beta_1):
    kind = MODELS[name]
    trained_by = Train.model_validate(kind.defaults)
    assert (trained_by.epochs, trained_by.batch_size) == (epochs, 256)
    model = kind(kind.Settings(), trained_by, (28, 28, 1))
    for optimizer in (model.generator_optimizer, model.discriminator_optimizer):
        assert isinstance(optimizer, keras.optimizers.Adam)
        assert float(optimizer.learning_rate) == pytest.approx(rate)
        assert optimizer.beta_1 == beta_1


def test_each_network_of_a_gan_may_have_its_own_rate():
    kind = MODELS["dcgan"]
    model = kind(kind.Settings(), Train(learning_rate=3e-4, discriminator_learning_rate=1e-5), (28, 28, 1))
    assert float(model.generator_optimizer.learning_rate) == pytest.approx(3e-4)
    assert float(model.discriminator_optimizer.learning_rate) == pytest.approx(1e-5)


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("shape", [(28, 28, 1), (30, 21, 1), (32, 32, 3), (9, 9, 1), (2, 3, 3)])
def test_a_listed_model_fits_images_of_any_shape(name, shape):
    model = build(name, shape, **five(name))
    if model.kind == "classifier":
        assert networks.apply(model.network, np.zeros((3, *shape), np.float32)).shape == (3, 10)
        return
    if model.kind == "generator":
        images = networks.generate(model.network, 3, seed=0)
    else:
        images = networks.reconstruct(model.network, np.zeros((3, *shape), np.uint8))
        assert networks.encode(model.encoder, np.zeros((3, *shape), np.uint8)).shape == (3, 5)
    assert images.shape == (3, *shape)
    assert images.dtype == np.uint8


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_listed_model_keeps_its_contract(name):
    trial = a_trial(name)
    kind = MODELS[name]
    model = kind(kind.Settings(**{k: v for k, v in trial.model.items() if k != "name"}), trial.train, (28, 28, 1))
    assert {kind.objective, *kind.reports, *kind.unsuitable} <= set(METRICS)
    reported = set()
    for phase in model.phases():
        images = keras.ops.zeros((4, 28, 28, 1))
        values = phase.loss(model.share((images, np.arange(4)) if kind.kind == "classifier" else images))
        assert all(keras.backend.standardize_dtype(value.dtype) == "float32" for value in values.values())
        assert all(value.shape == () for value in values.values())
        loss = f"{phase.name}_loss" if len(model.phases()) > 1 else "loss"
        reported |= {loss, *values} - ({"loss"} if loss != "loss" else set())
    assert reported == set(kind.reports)
    trained = {id(variable) for phase in model.phases() for variable in phase.variables}
    assert trained == {id(variable) for variable in model.variables} & trained
    paths = [id(variable) for variable in model.variables]
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_precision_of_a_model_does_not_outlive_its_building(name):
    model = build(name, precision="mixed_bfloat16", **five(name))
    assert keras.config.dtype_policy().name == "float32"
    assert {variable.dtype for variable in model.network.trainable_variables} == {"float32"}
    hidden = {"generator": model.network, "autoencoder": model.network.layers[0]}.get(model.kind) or model.features
    assert hidden.layers[0].compute_dtype == "bfloat16"
    assert build(name, **five(name)).network.layers[0].compute_dtype == "float32"


def test_noise_of_fewer_images_is_the_beginning_of_that_of_more():
    longer = networks.noise(600, 7, seed=4)
    np.testing.assert_array_equal(networks.noise(300, 7, seed=4), longer[:300])
    np.testing.assert_array_equal(networks.noise(88, 7, seed=4, first_chunk=2), longer[512:])
    assert not np.array_equal(networks.noise(300, 7, seed=5), longer[:300])
    assert abs(longer.mean()) < 0.05
    assert longer.std() == pytest.approx(1, abs=0.05)
