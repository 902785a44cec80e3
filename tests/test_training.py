"""The engine does what plain Keras does, and a stopped trial goes on as if it had never stopped."""

import json
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import a_trial
from matplotlib.image import imread

from raymnist.metrics import FrechetPixels
from raymnist.models import MODELS
from raymnist.training import samples
from raymnist.training.engine import Engine
from raymnist.training.loop import Training, TrialFolder, train

NAMES = sorted(MODELS)


def variables(training):
    return [np.asarray(variable) for variable in training.model.variables]


def test_an_epoch_of_the_autoencoder_equals_plain_keras_on_the_same_batches(digits):
    training = Training(a_trial("conv_autoencoder"), digits)
    plain = keras.models.clone_model(training.model.autoencoder)
    plain.set_weights(training.model.autoencoder.get_weights())
    plain.compile(keras.optimizers.Adam(1e-3), "binary_crossentropy")
    keys = tf.random.stateless_uniform([len(digits.train)], seed=[3, 1])
    order = tf.argsort(keys, stable=True).numpy()
    steps = len(digits.train) // 32
    losses = []
    for batch in order[: steps * 32].reshape(steps, 32):
        images = digits.train[batch].astype(np.float32) / 255
        losses.append(float(plain.train_on_batch(images, images)))
        plain.reset_metrics()
    row = training.epoch()
    assert row["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    for ours, theirs in zip(training.model.autoencoder.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)
    validation = digits.validation.astype(np.float32) / 255
    assert row["val_loss"] == pytest.approx(plain.evaluate(validation, validation, verbose=0), rel=1e-4)


def test_a_step_of_the_gan_equals_the_seeds_procedure_in_plain_keras(digits):
    """Without dropout: one batch of half real and half fake for the discriminator, then the generator against it."""
    trial = a_trial("conv_gan", model={"dropout": 0.0}, batch_size=32)
    training = Training(trial, digits)
    model = training.model
    noise = keras.random.SeedGenerator(0)
    noise.state.assign(model.noise_seed.state)
    discriminator, generator = keras.models.clone_model(model.discriminator), keras.models.clone_model(model.generator)
    discriminator.set_weights(model.discriminator.get_weights())
    generator.set_weights(model.generator.get_weights())
    discriminator.compile(keras.optimizers.Adam(1e-3, beta_1=0.9), "binary_crossentropy", metrics=["accuracy"])

    batch = digits.train[:32].astype(np.float32) / 255
    fakes = generator.predict(np.asarray(keras.random.normal((16, 8), seed=noise)), verbose=0)
    is_real = np.concatenate([np.ones((16, 1)), np.zeros((16, 1))])
    discriminator_loss, accuracy = discriminator.train_on_batch(np.concatenate([batch[:16], fakes]), is_real)
    discriminator.trainable = False
    combined = keras.Sequential([generator, discriminator])
    combined.compile(keras.optimizers.Adam(1e-3, beta_1=0.9), "binary_crossentropy")
    generator_loss = combined.train_on_batch(np.asarray(keras.random.normal((32, 8), seed=noise)), np.ones((32, 1)))

    engine = Engine(model, digits.train[:32], batch_size=32, seed=0)
    reported = engine._step(tf.constant(batch))
    assert float(reported["discriminator_loss"]) == pytest.approx(float(discriminator_loss), rel=1e-5)
    assert float(reported["generator_loss"]) == pytest.approx(float(generator_loss), rel=1e-5)
    shares = [float(reported["accuracy_real"]), float(reported["accuracy_fake"])]
    assert np.mean(shares) == pytest.approx(float(accuracy))
    for ours, theirs in ((model.discriminator, discriminator), (model.generator, generator)):
        for own, plain in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_allclose(own, plain, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_training(name, digits):
    first, second = (Training(a_trial(name, epochs=1), digits) for _ in range(2))
    a, b = first.epoch(), second.epoch()
    same = set(a) - {"seconds", "images_per_second"}
    assert {key: a[key] for key in same} == {key: b[key] for key in same}
    for one, other in zip(variables(first), variables(second), strict=True):
        np.testing.assert_array_equal(one, other)


RESUME = """
    import sys, json
    from pathlib import Path
    import numpy as np
    sys.path.insert(0, {tests!r})
    from conftest import a_trial
    from raymnist import datasets
    from raymnist.config import Dataset
    from raymnist.training.loop import Training

    training = Training(a_trial({name!r}, {arguments}), datasets.load(Dataset(name="digits", limit=300)))
    training.restore(Path({checkpoint!r}))
    while not training.is_done:
        training.epoch()
    training.save(Path({checkpoint!r}).with_name("resumed.npz"))
"""


@pytest.mark.parametrize("name", NAMES)
def test_a_trial_resumed_in_a_new_process_ends_as_one_that_never_stopped(name, digits, tmp_path):
    arguments = "model={'dropout': 0.4}" if name == "conv_gan" else ""
    trial = a_trial(name, model={"dropout": 0.4} if name == "conv_gan" else {})
    whole, stopped = Training(trial, digits), None
    for _ in range(4):
        whole.epoch()
    stopped = Training(trial, digits)
    stopped.epoch()
    stopped.epoch()
    stopped.save(tmp_path / "stopped.npz")
    tests = str(__import__("pathlib").Path(__file__).parent)
    code = RESUME.format(name=name, arguments=arguments, checkpoint=str(tmp_path / "stopped.npz"), tests=tests)
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, capture_output=True)
    stopped.restore(tmp_path / "resumed.npz")
    ours, theirs = variables(stopped), variables(whole)
    assert len(ours) == len(theirs)
    for resumed, undisturbed in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(resumed, undisturbed)
    timings = {"seconds", "images_per_second"}
    for resumed, undisturbed in zip(stopped.history, whole.history, strict=True):
        assert {k: v for k, v in resumed.items() if k not in timings} == {
            k: v for k, v in undisturbed.items() if k not in timings
        }


def test_a_checkpoint_holds_dropouts_seeds_and_the_optimizers_slots(digits):
    paths = [variable.path for variable in Training(a_trial("conv_gan"), digits).model.variables]
    assert sum("seed_generator_state" in path for path in paths) >= 3  # two dropouts and the noise
    assert sum("momentum" in path for path in paths) == 14
    assert sum("iteration" in path for path in paths) == 2


def test_a_checkpoint_of_another_model_is_refused(digits, tmp_path):
    Training(a_trial("conv_autoencoder"), digits).save(tmp_path / "a.npz")
    other = Training(a_trial("conv_autoencoder", model={"latent_dim": 5}), digits)
    with pytest.raises(ValueError, match="expected the variables of"):
        other.restore(tmp_path / "a.npz")


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_trains_to_about_the_losses_of_float32(name, digits):
    rows = [Training(a_trial(name, precision=precision), digits).epoch() for precision in ("float32", "mixed_bfloat16")]
    for metric in MODELS[name].reports:
        if metric.endswith("loss"):
            assert rows[0][metric] == pytest.approx(rows[1][metric], rel=0.05)


def test_the_autoencoder_learns_to_reconstruct(digits):
    training = Training(
        a_trial("conv_autoencoder", model={"latent_dim": 16, "filters": 8}, epochs=8, learning_rate=5e-3), digits
    )
    while not training.is_done:
        training.epoch()
    assert training.history[-1]["val_loss"] < 0.75 * training.history[0]["val_loss"]


def test_an_epoch_sees_every_image_once_in_a_fresh_order(digits):
    seen = []

    class Watcher:
        reports = ("loss",)

        def phases(self):
            variable = keras.Variable(0.0)

            def loss(images):
                tf.py_function(lambda batch: seen.append(batch.numpy()), [images], [])
                return {"loss": variable * 1.0}

            from raymnist.models import Phase

            optimizer = keras.optimizers.SGD(0.1)
            optimizer.build([variable])
            return [Phase("watch", loss, [variable], optimizer)]

    images = np.arange(64, dtype=np.uint8).reshape(64, 1, 1, 1)
    engine = Engine(Watcher(), images, batch_size=16, seed=0)
    engine.epoch(1)
    engine.epoch(2)
    orders = np.rint(np.concatenate(seen).ravel() * 255).astype(int).reshape(2, 64)
    assert [sorted(order) for order in orders.tolist()] == [list(range(64))] * 2
    assert orders[0].tolist() != orders[1].tolist() != list(range(64))


@pytest.mark.parametrize("name", NAMES)
def test_the_epoch_compiles_with_xla_as_on_a_gpu_and_trains_alike(name, digits):
    """XLA draws other random numbers from the same seeds, so that only the size of the losses is the same."""
    plain, xla = (Training(a_trial(name), digits) for _ in range(2))
    xla.engine._compiled_epoch = tf.function(xla.engine._epoch, jit_compile=True, autograph=False)
    a, b = plain.engine.epoch(1), xla.engine.epoch(1)
    for loss in (metric for metric in MODELS[name].reports if metric.endswith("loss")):
        assert a[loss] == pytest.approx(b[loss], rel=0.1)


def test_a_loss_that_is_no_longer_finite_fails_the_trial_by_name(digits):
    training = Training(a_trial("conv_autoencoder", learning_rate=1e30), digits)
    with pytest.raises(FloatingPointError, match=r"loss became (nan|inf) in epoch \d+; a lower learning_rate"):
        for _ in range(4):
            training.epoch()


def test_a_trials_folder_has_what_the_contract_names(digits, tmp_path):
    training = train(a_trial("conv_gan", every=2), digits, tmp_path / "gan-00", key="k")
    files = sorted(str(path.relative_to(tmp_path / "gan-00")) for path in (tmp_path / "gan-00").rglob("*.*"))
    assert files == [
        "checkpoints/last.npz",
        "config.json",
        "generators/epoch_0001.keras",
        "generators/epoch_0002.keras",
        "generators/epoch_0004.keras",
        "history.csv",
        "model.keras",
        "samples/best.png",
        "samples/epoch_0001.png",
        "samples/epoch_0002.png",
        "samples/epoch_0004.png",
    ]
    assert [("frechet_pixels" in row) for row in training.history] == [False, True, False, True]
    assert imread(tmp_path / "gan-00/samples/epoch_0004.png").shape[:2] == (560, 560)
    config = json.loads((tmp_path / "gan-00/config.json").read_text())
    assert (config["key"], config["model"]["latent_dim"]) == ("k", 8)


def test_the_network_that_is_kept_is_that_of_the_best_epoch(digits, tmp_path):
    training = train(a_trial("conv_gan", epochs=6, learning_rate=5e-3), digits, tmp_path, key="k")
    best = min(training.history, key=lambda row: row["frechet_pixels"])
    assert training.best == best
    kept = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    from raymnist.models import networks

    distance = FrechetPixels.fit(digits.train, digits.validation)
    assert distance(networks.generate(kept, 2000, training.trial.seed)) == pytest.approx(
        best["frechet_pixels"], rel=1e-4
    )


def test_a_folder_of_another_key_is_begun_anew(digits, tmp_path):
    train(a_trial("conv_autoencoder", epochs=1), digits, tmp_path / "a", key="old")
    training = Training(a_trial("conv_autoencoder", epochs=1), digits)
    TrialFolder(tmp_path / "a", "new").begin(training)
    assert training.epochs_done == 0
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["config.json"]


def test_a_mosaic_lays_images_out_in_rows():
    images = np.arange(3, dtype=np.uint8).repeat(4).reshape(3, 2, 2, 1)
    expected = [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 0, 0], [2, 2, 0, 0]]
    assert samples.mosaic(images, columns=2)[..., 0].tolist() == expected


def test_a_grid_is_written_as_it_is(tmp_path, rng):
    picture = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    samples.save_png(tmp_path / "grid.png", picture, scale=2)
    read = np.rint(imread(tmp_path / "grid.png")[..., :3] * 255).astype(np.uint8)
    np.testing.assert_array_equal(read[::2, ::2], picture)
