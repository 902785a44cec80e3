"""The classifiers: found, checked, kept, and used as their layers say."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from conftest import needs_mnist

from raymnist import datasets
from raymnist.config import Dataset
from raymnist.errors import InputError
from raymnist.models import features, networks, saved


@pytest.mark.parametrize(("name", "least"), [("digits", 0.99), pytest.param("mnist", 0.995, marks=needs_mnist)])
def test_a_bundled_classifier_is_small_and_as_accurate_as_stated(name, least):
    images = datasets.load(Dataset(name=name))
    found = features.find(images)
    assert len(found.data) < 1_000_000
    assert found.sha256 == hashlib.sha256((features.WEIGHTS / f"{name}.keras").read_bytes()).hexdigest()
    seen = found.open()(images.test)
    assert (seen.logits.argmax(1) == images.classes_of(images.test_labels)).mean() >= least


def test_a_part_of_a_data_set_has_the_classifier_of_the_whole(digits, digits_whole):
    assert digits.sha256 != digits_whole.sha256
    assert features.find(digits) == features.find(digits_whole)


def test_features_and_logits_are_those_of_the_layers(digits):
    seen = features.find(digits).open()(digits.test)
    network = saved.load(features.WEIGHTS / "digits.keras")
    images = networks.to_unit(digits.test)
    assert seen.points.shape == (len(images), 64)
    assert seen.points.min() >= 0  # averages behind relu
    np.testing.assert_allclose(seen.logits, network.predict(images, verbose=0), atol=1e-4)
    weights, biases = network.get_layer("logits").get_weights()
    np.testing.assert_allclose(seen.logits, seen.points @ weights + biases, atol=1e-4)


def test_a_changed_bundled_file_is_refused(digits, tmp_path, monkeypatch):
    data = bytearray((features.WEIGHTS / "digits.keras").read_bytes())
    data[-1] ^= 1
    (tmp_path / "digits.keras").write_bytes(data)
    monkeypatch.setattr(features, "WEIGHTS", tmp_path)
    with pytest.raises(InputError, match=r"digits.keras: expected the SHA-256 \w+, received \w+"):
        features.find(digits)


def other_data(tmp_path, limit=None):
    """The digits backwards: a data set that no classifier comes for."""
    whole = datasets.load_digits()
    path = tmp_path / "other.npz"
    if not path.exists():
        np.savez(
            path, x_train=whole.x_train[::-1], y_train=whole.y_train[::-1], x_test=whole.x_test, y_test=whole.y_test
        )
    return datasets.load(Dataset(name=str(path), limit=limit))


def test_a_trained_classifier_is_kept_for_its_data_set_alone(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("RAYMNIST_CACHE", str(tmp_path / "cache"))
    other = other_data(tmp_path)
    assert features.find(other) is None
    network = features.WEIGHTS / "digits.keras"
    assert "saw a part" in features.keep(network, other_data(tmp_path, limit=100))
    assert features.find(other) is None
    assert features.keep(network, other).startswith(f"kept for scores in {tmp_path}")
    assert features.find(other).data == network.read_bytes()
    assert features.find(other_data(tmp_path, limit=100)).data == network.read_bytes()
    assert "saw a part" in features.keep(network, digits)
    assert "comes with the project" in features.keep(network, datasets.load(Dataset(name="digits")))
    assert len(list((tmp_path / "cache").rglob("*.keras"))) == 1


def test_a_cache_that_may_not_be_used_is_none(digits, tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    other = other_data(tmp_path)
    monkeypatch.setenv("RAYMNIST_CACHE", "/proc/nowhere")
    said = features.keep(features.WEIGHTS / "digits.keras", other)
    assert said.startswith("not kept for scores in /proc/nowhere/classifiers/")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert features.find(other) is None


def test_labels_need_not_count_from_nought(tmp_path):
    whole = datasets.load_digits()
    np.savez(
        tmp_path / "d.npz", x_train=whole.x_train, y_train=3 * whole.y_train + 5, x_test=whole.x_test,
        y_test=3 * whole.y_test + 5,
    )  # fmt: skip
    images = datasets.load(Dataset(name=str(tmp_path / "d.npz")))
    np.testing.assert_array_equal(images.classes_of(images.test_labels), whole.y_test)
    np.testing.assert_array_equal(images.class_counts(images.test_labels), np.bincount(whole.y_test))


def test_a_part_of_the_images_has_all_classes_of_the_whole():
    images = datasets.load(Dataset(name="digits", limit=20))
    assert images.classes == 10 > len(np.unique(images.train_labels))
    assert len(images.class_counts(images.validation_labels)) == 10


def test_a_test_label_that_no_training_image_has_is_refused(tmp_path):
    whole = datasets.load_digits()
    np.savez(
        tmp_path / "d.npz", x_train=whole.x_train, y_train=whole.y_train % 9, x_test=whole.x_test, y_test=whole.y_test
    )
    with pytest.raises(InputError, match="y_test: expected labels that y_train has too, received 9"):
        datasets.load(Dataset(name=str(tmp_path / "d.npz")))
