"""The engine does what plain Keras does, and a stopped trial goes on as if it had never stopped."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import a_trial
from keras import layers
from matplotlib.image import imread
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score

from raymnist.config import Samples
from raymnist.metrics import FrechetPixels
from raymnist.metrics.frechet import frechet_distance, moments
from raymnist.models import MODELS, Phase, features, networks
from raymnist.training import loop, samples
from raymnist.training.engine import Engine
from raymnist.training.loop import Training
from raymnist.training.trial_folder import TrialFolder, train

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


def test_an_epoch_of_the_classifier_equals_plain_keras_on_the_same_batches(digits):
    training = Training(a_trial("classifier", model={"dropout": 0.0}), digits)
    network = training.model.network
    plain = keras.models.clone_model(network)
    plain.set_weights(network.get_weights())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    plain.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    order = tf.argsort(tf.random.stateless_uniform([len(digits.train)], seed=[3, 1]), stable=True).numpy()
    losses = []
    for batch in order[: len(order) // 32 * 32].reshape(-1, 32):
        images = digits.train[batch].astype(np.float32) / 255
        losses.append(plain.train_on_batch(images, digits.train_labels[batch], return_dict=True)["loss"])
        plain.reset_metrics()
    row = training.epoch()
    assert row["loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    for ours, theirs in zip(network.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    loss, accuracy = plain.evaluate(digits.validation / np.float32(255), digits.validation_labels, verbose=0)
    assert (row["val_loss"], row["val_accuracy"]) == pytest.approx((loss, accuracy), rel=1e-3)


def test_the_classifiers_rate_falls_along_half_a_cosine(digits):
    training = Training(a_trial("classifier", epochs=4, learning_rate=1e-2), digits)
    rates = []
    while not training.is_done:
        training.epoch()
        rates.append(float(training.model.optimizer.learning_rate))
    assert rates == pytest.approx([1e-2, 1e-2 * (1 + 0.5**0.5) / 2, 5e-3, 1e-2 * (1 - 0.5**0.5) / 2], rel=1e-5)


def test_fid_as_an_objective_is_that_of_fixed_noise_and_the_first_validation_images(digits_whole, monkeypatch):
    monkeypatch.setattr(loop, "FOR_PIXELS", 20)  # more are made where the objective needs more
    classifier = features.find(digits_whole)
    trial = a_trial("dense_gan", metric="fid", every=2, epochs=3).model_copy(update={"images": 90})
    training = Training(trial, digits_whole, classifier)
    while not training.is_done:
        training.epoch()
    assert ["fid" in row for row in training.history] == [False, True, True]
    assert training.best["fid"] == min(row.get("fid", np.inf) for row in training.history)
    first = digits_whole.class_counts(digits_whole.validation_labels[:90])
    np.testing.assert_array_equal(training.judge.counts, first)
    classify = classifier.open()
    real, fake = classify(digits_whole.validation[:90]).points, classify(training.generate(90)).points
    formula = frechet_distance(*moments(fake), *moments(real))
    assert training.history[-1]["fid"] == pytest.approx(formula, rel=1e-5)
    assert all(0 < row["scoring_seconds"] < row["seconds"] for row in training.history[1:])


@pytest.mark.parametrize("metric", ["silhouette", "ari"])
def test_an_autoencoder_can_be_chosen_by_the_clusters_of_its_validation_codes(metric, digits_whole):
    trial = a_trial("conv_autoencoder", metric=metric, epochs=1).model_copy(update={"images": 120})
    training = Training(trial, digits_whole)
    row = training.epoch()
    codes = networks.encode(training.model.encoder, digits_whole.validation[:120])
    clusters = KMeans(10, n_init=4, random_state=0).fit_predict(codes)
    expected = {
        "silhouette": silhouette_score(codes, clusters),
        "ari": adjusted_rand_score(digits_whole.validation_labels[:120], clusters),
    }
    assert row[metric] == pytest.approx(expected[metric], abs=1e-6)
    assert training.best is row


@pytest.mark.parametrize(
    ("name", "model", "rates"),
    [
        ("conv_gan", {"dropout": 0.0}, {}),
        ("conv_gan", {"dropout": 0.0, "generator_batch_norm": True, "label_smoothing": 0.1}, {}),
        ("conv_gan", {"dropout": 0.0, "discriminator_batch_norm": True}, {}),
        ("dense_gan", {}, {}),
        ("dense_gan", {}, {"generator_learning_rate": 3e-3, "discriminator_learning_rate": 2e-4}),
    ],
)
def test_a_step_of_an_alternating_gan_equals_its_descriptions_procedure_in_plain_keras(name, model, rates, digits):
    """Without dropout: one batch of half real and half fake for the discriminator, then the generator against it."""
    training = Training(a_trial(name, model=model, batch_size=32, **rates), digits)
    ours = training.model
    noise = keras.random.SeedGenerator(0)
    noise.state.assign(ours.noise_seed.state)
    discriminator, generator = keras.models.clone_model(ours.discriminator), keras.models.clone_model(ours.generator)
    discriminator.set_weights(ours.discriminator.get_weights())
    generator.set_weights(ours.generator.get_weights())
    adam = keras.optimizers.Adam(rates.get("discriminator_learning_rate", 1e-3), beta_1=0.9)
    discriminator.compile(adam, "binary_crossentropy", metrics=["accuracy"])

    batch = digits.train[:32].astype(np.float32) / 255
    fakes = generator.predict(np.asarray(keras.random.normal((16, 8), seed=noise)), verbose=0)
    is_real = np.concatenate([np.full((16, 1), 1 - model.get("label_smoothing", 0)), np.zeros((16, 1))])
    discriminator_loss, accuracy = discriminator.train_on_batch(np.concatenate([batch[:16], fakes]), is_real)
    discriminator.trainable = False
    combined = keras.Sequential([generator, discriminator])
    adam = keras.optimizers.Adam(rates.get("generator_learning_rate", 1e-3), beta_1=0.9)
    combined.compile(adam, "binary_crossentropy")
    generator_loss = combined.train_on_batch(np.asarray(keras.random.normal((32, 8), seed=noise)), np.ones((32, 1)))

    engine = Engine(ours, digits.train[:32], batch_size=32, seed=0)
    reported = engine._step(tf.constant(batch))
    assert float(reported["discriminator_loss"]) == pytest.approx(float(discriminator_loss), rel=1e-5)
    assert float(reported["generator_loss"]) == pytest.approx(float(generator_loss), rel=1e-5)
    if not model.get("label_smoothing"):
        shares = [float(reported["accuracy_real"]), float(reported["accuracy_fake"])]
        assert np.mean(shares) == pytest.approx(float(accuracy))
    for own, theirs in ((ours.discriminator, discriminator), (ours.generator, generator)):
        for weights, plain in zip(own.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_allclose(weights, plain, atol=5e-5)


def the_tutorials_networks(latent_dim, filters):
    """TensorFlow's DCGAN tutorial, with images in [-1, 1] and logits, `filters` in the place of its 64."""
    generator = keras.Sequential(
        [
            keras.Input((latent_dim,)),
            layers.Dense(7 * 7 * 4 * filters, use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(),
            layers.Reshape((7, 7, 4 * filters)),
            layers.Conv2DTranspose(2 * filters, 5, 1, "same", use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(),
            layers.Conv2DTranspose(filters, 5, 2, "same", use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(),
            layers.Conv2DTranspose(1, 5, 2, "same", use_bias=False, activation="tanh"),
        ]
    )
    discriminator = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(filters, 5, 2, "same"),
            layers.LeakyReLU(),
            layers.Conv2D(2 * filters, 5, 2, "same"),
            layers.LeakyReLU(),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    return generator, discriminator


@pytest.mark.parametrize("smoothing", [0, 0.1])
def test_a_step_of_the_dcgan_equals_the_tutorials_procedure_in_plain_keras(smoothing, digits):
    """Without dropout: one pass of real and fake images, both gradients taken from it, then both updates."""
    settings = {"dropout": 0.0, "label_smoothing": smoothing}
    model = Training(a_trial("dcgan", model=settings, batch_size=32), digits).model
    generator, discriminator = the_tutorials_networks(8, 4)
    generator.set_weights(model.generator.get_weights())
    discriminator.set_weights(model.discriminator.get_weights())
    noise_seed = keras.random.SeedGenerator(0)
    noise_seed.state.assign(model.noise_seed.state)
    noise = keras.random.normal((32, 8), seed=noise_seed)
    cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    with tf.GradientTape() as for_generator, tf.GradientTape() as for_discriminator:
        fakes = generator(noise, training=True)
        real_logits = discriminator((digits.train[:32].astype(np.float32) - 127.5) / 127.5, training=True)
        fake_logits = discriminator(fakes, training=True)
        generator_loss = cross_entropy(tf.ones_like(fake_logits), fake_logits)
        real_loss = cross_entropy((1 - smoothing) * tf.ones_like(real_logits), real_logits)
        discriminator_loss = real_loss + cross_entropy(tf.zeros_like(fake_logits), fake_logits)
    for tape, loss, network in (
        (for_generator, generator_loss, generator),
        (for_discriminator, discriminator_loss, discriminator),
    ):
        variables = network.trainable_variables
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        keras.optimizers.Adam(1e-3).apply(gradients, variables)

    engine = Engine(model, digits.train[:32], batch_size=32, seed=0)
    reported = engine._step(tf.constant(digits.train[:32].astype(np.float32) / 255))
    assert float(reported["discriminator_loss"]) == pytest.approx(float(discriminator_loss), rel=1e-5)
    assert float(reported["generator_loss"]) == pytest.approx(float(generator_loss), rel=1e-5)
    for own, theirs in ((model.discriminator, discriminator), (model.generator, generator)):
        for weights, plain in zip(own.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_allclose(weights, plain, atol=5e-5)
    latent = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    np.testing.assert_allclose(
        model.generator.predict(latent, verbose=0) * 2 - 1, generator.predict(latent, verbose=0), atol=1e-3
    )


def test_ema_keeps_the_moving_average_of_the_generators_weights(digits):
    model = Training(a_trial("dense_gan", model={"ema": 0.75}), digits).model
    engine = Engine(model, digits.train[:32], batch_size=32, seed=0)
    average = None
    for _ in range(3):
        engine._step(tf.constant(digits.train[:32].astype(np.float32) / 255))
        weights = [np.asarray(variable) for variable in model.generator.trainable_variables]
        average = weights if average is None else [0.75 * a + 0.25 * w for a, w in zip(average, weights, strict=True)]
    for kept, expected in zip(model.network.trainable_variables, average, strict=True):
        np.testing.assert_allclose(np.asarray(kept), expected, atol=1e-6)
    collected = (model.network.non_trainable_variables, model.generator.non_trainable_variables)
    for kept, expected in zip(*collected, strict=True):
        np.testing.assert_array_equal(np.asarray(kept), np.asarray(expected))
    assert not np.allclose(model.network.get_weights()[0], model.generator.get_weights()[0])


def test_the_accuracies_at_sampled_epochs_are_those_of_the_discriminator_after_training(digits):
    training = Training(a_trial("conv_gan", model={"dropout": 0.4}), digits)
    rows = [training.epoch() for _ in range(4)]
    assert ["val_accuracy_real" in row for row in rows] == [True, True, False, True]
    fakes = training.generate(2000)
    for share, images, is_right in (
        ("val_accuracy_real", digits.validation, lambda p: p > 0.5),
        ("val_accuracy_fake", fakes, lambda p: p <= 0.5),
    ):
        probabilities = training.model.discriminator.predict(images.astype(np.float32) / 255, verbose=0)
        assert rows[-1][share] == pytest.approx(np.mean(is_right(probabilities)))


def test_weights_taken_over_from_another_trial_train_at_ones_own_rates(digits, tmp_path):
    """The optimizer's state holds the rate of the trial it comes from."""
    donor = Training(a_trial("dcgan", learning_rate=1e-2), digits)
    donor.epoch()
    donor.save(tmp_path / "donor.npz")
    rates = {"generator_learning_rate": 1e-30, "discriminator_learning_rate": 5e-3}
    heir = Training(a_trial("dcgan", **rates).model_copy(update={"trial_id": "heir-00"}), digits)
    heir.take_over(tmp_path / "donor.npz")
    assert heir.history == []
    row = heir.epoch()
    assert row["taken_from"] == "study-00"
    assert "taken_from" not in heir.epoch()
    model, given = heir.model, donor.model
    assert float(model.generator_optimizer.learning_rate) == pytest.approx(1e-30)
    assert float(model.discriminator_optimizer.learning_rate) == pytest.approx(5e-3)
    for ours, theirs in zip(model.generator.trainable_variables, given.generator.trainable_variables, strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    assert not np.allclose(model.discriminator.get_weights()[0], given.discriminator.get_weights()[0])


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_training(name, digits):
    first, second = (Training(a_trial(name, epochs=1), digits) for _ in range(2))
    a, b = first.epoch(), second.epoch()
    same = set(a) - TIMINGS
    assert {key: a[key] for key in same} == {key: b[key] for key in same}
    for one, other in zip(variables(first), variables(second), strict=True):
        np.testing.assert_array_equal(one, other)


TIMINGS = {"seconds", "scoring_seconds", "images_per_second"}
RESUME = """
    import sys
    from pathlib import Path

    sys.path.insert(0, {tests!r})
    from raymnist import datasets
    from raymnist.config import Dataset
    from raymnist.training.loop import Training
    from test_training import NAMES, a_trial_with_state

    for name in NAMES:
        training = Training(a_trial_with_state(name), datasets.load(Dataset(name="digits", limit=300)))
        training.restore(Path(f"{{name}}_stopped.npz"))
        while not training.is_done:
            training.epoch()
        training.save(Path(f"{{name}}_resumed.npz"))
"""


def a_trial_with_state(name):
    """One whose checkpoint has all that a model can have: dropout's seeds, and a moving average."""
    return a_trial(
        name, model={"conv_autoencoder": {}, "classifier": {"dropout": 0.4}}.get(name, {"dropout": 0.4, "ema": 0.5})
    )


@pytest.fixture(scope="module")
def stopped_and_resumed(digits, tmp_path_factory):
    """Of each model a checkpoint after two of its epochs, and one that a new process has made of it after all four."""
    place = tmp_path_factory.mktemp("resumed")
    for name in NAMES:
        stopped = Training(a_trial_with_state(name), digits)
        stopped.epoch()
        stopped.epoch()
        stopped.save(place / f"{name}_stopped.npz")
    code = textwrap.dedent(RESUME.format(tests=str(Path(__file__).parent)))
    subprocess.run([sys.executable, "-c", code], cwd=place, check=True, capture_output=True)
    return place


@pytest.mark.parametrize("name", NAMES)
def test_a_trial_resumed_in_a_new_process_ends_as_one_that_never_stopped(name, digits, stopped_and_resumed):
    whole = Training(a_trial_with_state(name), digits)
    for _ in range(4):
        whole.epoch()
    stopped = Training(whole.trial, digits)
    stopped.restore(stopped_and_resumed / f"{name}_resumed.npz")
    ours, theirs = variables(stopped), variables(whole)
    assert len(ours) == len(theirs)
    for resumed, undisturbed in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(resumed, undisturbed)
    for resumed, undisturbed in zip(stopped.history, whole.history, strict=True):
        assert {k: v for k, v in resumed.items() if k not in TIMINGS} == {
            k: v for k, v in undisturbed.items() if k not in TIMINGS
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
        update = "alternating"

        def share(self, images):
            return images

        def phases(self):
            variable = keras.Variable(0.0)

            def loss(images):
                tf.py_function(lambda batch: seen.append(batch.numpy()), [images], [])
                return {"loss": variable * 1.0}

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
    trial = a_trial("conv_gan", every=2)
    trial = trial.model_copy(update={"samples": Samples(every=2, save=["keras", "h5"])})
    training = train(trial, digits, tmp_path / "gan-00", key="k")
    files = sorted(str(path.relative_to(tmp_path / "gan-00")) for path in (tmp_path / "gan-00").rglob("*.*"))
    assert files == [
        ".worker",
        "checkpoints/epoch_0004.npz",
        "checkpoints/last.npz",
        "config.json",
        "generators/epoch_0001.h5",
        "generators/epoch_0001.keras",
        "generators/epoch_0002.h5",
        "generators/epoch_0002.keras",
        "generators/epoch_0004.h5",
        "generators/epoch_0004.keras",
        "history.csv",
        "model.h5",
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
