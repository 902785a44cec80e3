import contextlib
import gzip
import os
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from conftest import needs_mnist
from sklearn.datasets import load_digits

from raymnist import datasets
from raymnist.config import Dataset
from raymnist.datasets import DATASETS
from raymnist.errors import InputError


@pytest.fixture
def arrays(rng):
    return {
        "x_train": rng.integers(0, 256, (50, 12, 10), dtype=np.uint8),
        "y_train": np.arange(50) % 5,
        "x_test": rng.integers(0, 256, (20, 12, 10), dtype=np.uint8),
        "y_test": np.arange(20) % 5,
    }


def stored(tmp_path, arrays):
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=needs_mnist if name == "mnist" else ())
        for name in sorted(DATASETS)
        if name != "fashion_mnist"  # no copy at hand; read below from files in its format
    ],
)
def test_a_listed_data_set_has_uint8_images_and_labels(name):
    arrays = DATASETS[name]()
    assert arrays.x_train.dtype == arrays.x_test.dtype == np.uint8
    assert arrays.x_train.shape[1:] == arrays.x_test.shape[1:] == (28, 28, 1)
    assert len(arrays.x_train) == len(arrays.y_train)
    assert len(arrays.x_test) == len(arrays.y_test)
    assert set(np.unique(arrays.y_train)) == set(np.unique(arrays.y_test)) == set(range(10))


def test_digits_are_scikit_learns_in_a_stratified_split():
    digits = DATASETS["digits"]()
    assert (len(digits.x_train), len(digits.x_test)) == (1437, 360)
    shares = [np.bincount(labels) / len(labels) for labels in (digits.y_train, digits.y_test)]
    np.testing.assert_allclose(*shares, atol=0.005)
    # 28 / 8 = 3.5: averaged back over blocks of 7 x 7 (two pixels a side), the resized images are the originals.
    originals = load_digits().images.reshape(-1, 4, 2, 4, 2).mean((2, 4)) * 255 / 16
    images = np.concatenate([digits.x_train, digits.x_test])[..., 0]
    blocks = images.reshape(-1, 4, 7, 4, 7).mean((2, 4))
    np.testing.assert_allclose(np.sort(blocks.mean((1, 2))), np.sort(originals.mean((1, 2))), atol=8)


@needs_mnist
def test_mnist_is_whole():
    mnist = DATASETS["mnist"]()
    assert mnist.x_train.shape == (60000, 28, 28, 1)
    assert mnist.x_test.shape == (10000, 28, 28, 1)
    assert (mnist.x_train / 255).mean() == pytest.approx(0.13066, abs=1e-5)


def test_validation_is_the_last_tenth_of_the_training_images():
    whole = DATASETS["digits"]()
    images = datasets.load(Dataset(name="digits", limit=500))
    assert (len(images.train), len(images.validation), len(images.test)) == (450, 50, 360)
    np.testing.assert_array_equal(images.train, whole.x_train[:450])
    np.testing.assert_array_equal(images.validation, whole.x_train[450:500])
    np.testing.assert_array_equal(images.train_labels, whole.y_train[:450])


def test_another_limit_is_another_data_set():
    a, b = (datasets.load(Dataset(name="digits", limit=limit)).sha256 for limit in (100, 200))
    assert a != b


def test_an_npz_file_is_read(tmp_path, arrays):
    path = stored(tmp_path, arrays)
    images = datasets.load(Dataset(name=str(path)))
    assert images.shape == (12, 10, 1)
    assert images.classes == 5
    assert images.name == str(path)
    np.testing.assert_array_equal(images.test[..., 0], arrays["x_test"])


def test_floats_in_0_to_1_become_uint8(tmp_path, arrays):
    as_floats = arrays | {key: (arrays[key] / 255).astype(np.float32) for key in ("x_train", "x_test")}
    images = datasets.load(Dataset(name=str(stored(tmp_path, as_floats))))
    np.testing.assert_array_equal(images.test[..., 0], arrays["x_test"])


def test_colour_and_missing_labels_are_fine(tmp_path, rng):
    colour = {
        "x_train": rng.integers(0, 256, (30, 9, 9, 3), dtype=np.uint8),
        "x_test": rng.integers(0, 256, (5, 9, 9, 3), dtype=np.uint8),
    }
    images = datasets.load(Dataset(name=str(stored(tmp_path, colour))))
    assert images.shape == (9, 9, 3)
    assert images.test_labels is None


def broken(**changes):
    return lambda arrays: {key: value for key, value in (arrays | changes).items() if value is not None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (broken(y_test=None), "expected the keys x_train, y_train, x_test, y_test"),
        (broken(x_train=None, extra=np.zeros(3)), "expected the keys"),
        (broken(x_train=np.zeros((50, 12), np.uint8)), r"x_train: expected \[n, height, width\]"),
        (broken(x_train=np.zeros((50, 12, 10, 2), np.uint8)), r"1 or 3\], received \(50, 12, 10, 2\)"),
        (broken(x_test=np.zeros((20, 11, 10), np.uint8)), "expected images of one shape"),
        (broken(x_test=np.zeros((0, 12, 10), np.uint8)), "x_test: expected"),
        (broken(x_train=np.zeros((50, 12, 10), np.int64)), "x_train: expected uint8, or floats"),
        (broken(x_train=np.full((50, 12, 10), np.nan)), "expected finite numbers"),
        (broken(x_train=np.full((50, 12, 10), 255.0)), r"expected floats in \[0, 1\], received 255 to 255"),
        (broken(y_train=np.zeros(49, np.int64)), "y_train: expected 50 labels"),
        (broken(y_train=np.zeros(50)), "y_train: expected whole numbers"),
        (broken(y_test=np.zeros((20, 1), np.int64)), "y_test: expected whole numbers"),
        (broken(y_test=np.full(20, -1)), "y_test: expected whole numbers from 0, received -1"),
        (broken(x_train=np.zeros((9, 12, 10), np.uint8), y_train=np.zeros(9, int)), "at least 20 training images"),
    ],
)
def test_a_wrong_npz_file_is_refused_in_one_line(tmp_path, arrays, change, message):
    path = stored(tmp_path, change(arrays))
    with pytest.raises(InputError, match=message) as caught:
        datasets.load(Dataset(name=str(path)))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pickled_objects_are_never_loaded(tmp_path, arrays):
    path = stored(tmp_path, arrays | {"y_train": np.array([object()] * 50)})
    with pytest.raises(InputError, match="received pickled objects"):
        datasets.load(Dataset(name=str(path)))
    path.write_bytes(pickle.dumps(arrays))
    with pytest.raises(InputError, match="received a truncated or other file"):
        datasets.load(Dataset(name=str(path)))


@pytest.mark.parametrize("keep", [0, 3, 100, 5000])
def test_a_truncated_file_is_refused(tmp_path, arrays, keep):
    path = stored(tmp_path, arrays)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="truncated or other"):
        datasets.load(Dataset(name=str(path)))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.npz: expected an .npz file, found none"):
        datasets.load(Dataset(name=str(tmp_path / "nothing.npz")))


def test_a_damaged_file_is_refused_or_read_but_never_crashes(tmp_path, arrays, rng):
    path = tmp_path / "data.npz"
    np.savez_compressed(path, **arrays)
    whole = path.read_bytes()
    for position in rng.integers(0, len(whole), 150):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with contextlib.suppress(InputError):
            datasets.load(Dataset(name=str(path)))


def test_an_archive_of_other_files_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("x_train", "text")
        archive.writestr("x_test", "text")
    with pytest.raises(InputError, match=r"expected an \.npz file of plain arrays, received other files in it"):
        datasets.load(Dataset(name=str(tmp_path / "data.npz")))


def test_mnist_without_copy_or_network_names_the_places_and_the_way_out(tmp_path):
    """In a process of its own, as Keras settles its home when it is imported."""
    offline = {
        "RAYMNIST_DATA": str(tmp_path),
        "KERAS_HOME": str(tmp_path / "keras"),
        "https_proxy": "http://127.0.0.1:9",  # nobody listens there
    }
    asked = [sys.executable, "-m", "raymnist", "run", "quickstart", "--set", "dataset=mnist"]
    ended = subprocess.run(asked, env=os.environ | offline, cwd=tmp_path, capture_output=True, text=True, check=False)
    (message,) = [line for line in ended.stderr.splitlines() if line.startswith("raymnist: ")]
    assert ended.returncode == 2
    assert f"dataset mnist: not in $RAYMNIST_DATA ({tmp_path}), nor in {tmp_path / 'keras'}" in message
    assert "download failed" in message
    assert "dataset: digits" in message
    assert not (tmp_path / "results").exists()


def as_idx(array):
    """Write an array in the format of the MNIST files: a magic number, the sizes, the bytes."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return gzip.compress(header + array.tobytes())


@pytest.mark.parametrize("place", ["RAYMNIST_DATA", "KERAS_HOME"])
def test_fashion_mnist_is_found_where_mnist_is(place, tmp_path, rng):
    """In a new process, as Keras settles on its cache when it is imported."""
    images, labels = rng.integers(0, 256, (60, 28, 28), dtype=np.uint8), rng.integers(0, 10, 60, dtype=np.uint8)
    if place == "RAYMNIST_DATA":
        parts = {"x_train": images[:40], "y_train": labels[:40], "x_test": images[40:], "y_test": labels[40:]}
        np.savez(tmp_path / "fashion_mnist.npz", **parts)
    else:
        cache = tmp_path / "datasets" / "fashion-mnist"
        cache.mkdir(parents=True)
        for part, rows in (("train", slice(40)), ("t10k", slice(40, 60))):
            (cache / f"{part}-images-idx3-ubyte.gz").write_bytes(as_idx(images[rows]))
            (cache / f"{part}-labels-idx1-ubyte.gz").write_bytes(as_idx(labels[rows]))
    code = (
        "import sys, numpy as np; from raymnist.datasets import DATASETS; arrays = DATASETS['fashion_mnist']()\n"
        "np.savez(sys.argv[1], x=np.concatenate([arrays.x_train, arrays.x_test]), y=arrays.y_test)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "RAYMNIST_DATA"}
    command = [sys.executable, "-c", code, str(tmp_path / "read.npz")]
    subprocess.run(command, check=True, capture_output=True, env=environment | {place: str(tmp_path)})
    with np.load(tmp_path / "read.npz") as read:
        np.testing.assert_array_equal(read["x"], images[..., np.newaxis])
        np.testing.assert_array_equal(read["y"], labels[40:])
