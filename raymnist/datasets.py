"""Images of digits: the named data sets, `.npz` files, and the split that keeps test images out of training."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raymnist.config import Dataset
from raymnist.errors import InputError, choices

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Arrays:
    """What a data set holds: uint8 images [n, H, W, C] and their int64 labels [n], or None where it has none."""

    x_train: Pixels
    y_train: Labels | None
    x_test: Pixels
    y_test: Labels | None


@dataclass(frozen=True)
class Images:
    """A data set as an experiment uses it.

    name: in DATASETS, or the full path of the file.
    train, validation, test: uint8 [n, H, W, C]; validation is the last tenth of the training images.
    train_labels, validation_labels, test_labels: int64 [n], or None for unlabelled data.
    label_values: the different labels of all training images, int64 in rising order; a class is a place in this list.
        Empty for unlabelled data.
    sha256: of all arrays, which stands for the data set in every key. whole_sha256: of the data set without a limit,
        which stands for it where its classifier is looked up.
    """

    name: str
    train: Pixels
    validation: Pixels
    test: Pixels
    train_labels: Labels | None
    validation_labels: Labels | None
    test_labels: Labels | None
    label_values: Labels
    sha256: str
    whole_sha256: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        height, width, channels = self.train.shape[1:]
        return height, width, channels

    @property
    def count(self) -> int:
        """How many images there are in all."""
        return len(self.train) + len(self.validation) + len(self.test)

    @property
    def classes(self) -> int:
        """The number of different labels; 10, as for digits, where there are none."""
        return 10 if self.train_labels is None else len(self.label_values)

    def classes_of(self, labels: Labels) -> Labels:
        """Turn labels [n] into classes, int64 [n] from 0."""
        return np.searchsorted(self.label_values, labels).astype(np.int64)

    def class_counts(self, labels: Labels) -> NDArray[np.int64]:
        """Count each class among labels [n]: int64 [classes]."""
        return np.bincount(self.classes_of(labels), minlength=self.classes)


def load(choice: Dataset) -> Images:
    """Load the data set that an experiment names, and hold the validation images out of the training ones.

    Raises InputError for an unknown name, a missing or damaged file, or MNIST with neither a copy nor a network.
    """
    if choice.name in DATASETS:
        arrays = DATASETS[choice.name]()
    elif choice.name.endswith(".npz") or "/" in choice.name:
        arrays = read_npz(Path(choice.name))
    else:
        raise choices("dataset", choice.name, [*DATASETS, "a path to a .npz file"])
    available = len(arrays.x_train)
    count = min(choice.limit or available, available)
    held_out = count // 10
    if held_out < 2:
        raise InputError(f"dataset {choice.name}: expected at least 20 training images, received {count}")
    values = np.empty(0, np.int64) if arrays.y_train is None else np.unique(arrays.y_train)
    if arrays.y_test is not None and not np.isin(arrays.y_test, values).all():
        other = arrays.y_test[~np.isin(arrays.y_test, values)][0]
        raise InputError(f"dataset {choice.name}: y_test: expected labels that y_train has too, received {other}")
    others = (arrays.y_train, arrays.x_test, arrays.y_test)
    whole_sha256 = _sha256(arrays.x_train, *others)
    return Images(
        name=choice.name if choice.name in DATASETS else str(Path(choice.name).resolve()),
        train=arrays.x_train[: count - held_out],
        validation=arrays.x_train[count - held_out : count],
        test=arrays.x_test,
        train_labels=None if arrays.y_train is None else arrays.y_train[: count - held_out],
        validation_labels=None if arrays.y_train is None else arrays.y_train[count - held_out : count],
        test_labels=arrays.y_test,
        label_values=values,
        sha256=whole_sha256 if count == available else _sha256(arrays.x_train[:count], *others),
        whole_sha256=whole_sha256,
    )


def _sha256(*arrays: NDArray[np.generic] | None) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        if array is not None:
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def load_digits() -> Arrays:
    """Load scikit-learn's 1,797 handwritten digits (UCI), resized from 8x8 to 28x28: 1,437 to train, 360 to test."""
    from scipy.ndimage import zoom
    from sklearn.datasets import load_digits as bundled_digits
    from sklearn.model_selection import train_test_split

    digits = bundled_digits()
    resized = zoom(digits.images, (1, 28 / 8, 28 / 8), order=3, mode="grid-constant", grid_mode=True)
    pixels = np.clip(np.rint(resized * (255 / 16)), 0, 255).astype(np.uint8)[..., np.newaxis]
    labels = digits.target.astype(np.int64)
    train, test = train_test_split(np.arange(len(labels)), test_size=360, stratify=labels, random_state=0)
    return Arrays(pixels[train], labels[train], pixels[test], labels[test])


def load_mnist() -> Arrays:
    """Load MNIST from `$RAYMNIST_DATA/mnist.npz`, else from Keras's cache, else let Keras download it there.

    Source: LeCun, Cortes and Burges, The MNIST database of handwritten digits; 60,000 to train, 10,000 to test.
    """
    return _load_or_download("mnist")


def load_fashion_mnist() -> Arrays:
    """Load Fashion-MNIST from `$RAYMNIST_DATA/fashion_mnist.npz`, else from Keras's cache or by Keras's download.

    Ten kinds of clothing in the shape of MNIST. Source: Xiao, Rasul and Vollgraf, Fashion-MNIST, 2017.
    """
    return _load_or_download("fashion_mnist")


def _load_or_download(name: str) -> Arrays:
    folder = os.environ.get("RAYMNIST_DATA")
    cache = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "datasets" / f"{name}.npz"
    for place in (Path(folder) / f"{name}.npz" if folder else cache, cache):
        if place.is_file():
            return read_npz(place)
    import keras

    try:
        (x_train, y_train), (x_test, y_test) = getattr(keras.datasets, name).load_data()
    except Exception as error:
        raise InputError(
            f"dataset {name}: not in $RAYMNIST_DATA ({folder or 'not set'}), nor in {cache}; the download failed "
            f"({str(error).splitlines()[0]:.120}); put {name}.npz into one of the two, or use the bundled "
            "`dataset: digits`"
        ) from None
    return Arrays(x_train[..., np.newaxis], y_train.astype(np.int64), x_test[..., np.newaxis], y_test.astype(np.int64))


DATASETS: dict[str, Callable[[], Arrays]] = {
    "digits": load_digits,
    "mnist": load_mnist,
    "fashion_mnist": load_fashion_mnist,
}


def read_npz(path: Path) -> Arrays:
    """Read and check an `.npz` file with `x_train, x_test` and, for labelled data, `y_train, y_test`.

    Images are [n, H, W] or [n, H, W, C] with 1 or 3 channels, uint8 or floats in [0, 1]; labels are whole numbers [n].
    Raises InputError, which names the file and the key, for anything else.
    """
    arrays = _read_arrays(path, f"dataset {path}")
    if set(arrays) not in ({"x_train", "x_test"}, {"x_train", "y_train", "x_test", "y_test"}):
        raise InputError(
            f"dataset {path}: expected the keys x_train, y_train, x_test, y_test (both y may be missing), "
            f"received {', '.join(sorted(arrays)) or 'none'}"
        )
    images = {key: _pixels(arrays[key], f"dataset {path}: {key}") for key in ("x_train", "x_test")}
    if images["x_train"].shape[1:] != images["x_test"].shape[1:]:
        raise InputError(
            f"dataset {path}: expected images of one shape, received {images['x_train'].shape[1:]} in x_train and "
            f"{images['x_test'].shape[1:]} in x_test"
        )
    labels = {
        key: _labels(arrays[key], len(images[f"x_{key[2:]}"]), f"dataset {path}: {key}")
        for key in ("y_train", "y_test")
        if key in arrays
    }
    return Arrays(images["x_train"], labels.get("y_train"), images["x_test"], labels.get("y_test"))


def read_images(path: Path) -> Pixels:
    """Read images, as `read_npz` does, that stand alone under the key x of an `.npz` file. Raises InputError."""
    arrays = _read_arrays(path, str(path))
    if "x" not in arrays:
        raise InputError(f"{path}: expected images under the key x, received {', '.join(sorted(arrays)) or 'nothing'}")
    return _pixels(arrays["x"], f"{path}: x")


def _read_arrays(path: Path, where: str) -> dict[str, NDArray[np.generic]]:
    if not path.is_file():
        raise InputError(f"{where}: expected an .npz file, found {'a folder' if path.is_dir() else 'none'}")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
    except Exception as error:  # a damaged archive fails in zipfile, zlib or NumPy, each with errors of its own
        # NumPy takes whatever is no zip archive for a pickle; only inside an archive it means one.
        is_pickle = "Object arrays" in str(error)
        received = "pickled objects" if is_pickle else "a truncated or other file"
        raise InputError(f"{where}: expected an .npz file of plain arrays, received {received}") from None
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise InputError(f"{where}: expected an .npz file of plain arrays, received other files in it")
    return arrays


def _pixels(array: NDArray[np.generic], where: str) -> Pixels:
    if array.ndim == 3:
        array = array[..., np.newaxis]
    if array.ndim != 4 or array.shape[-1] not in (1, 3) or min(array.shape[:3]) < 1:
        raise InputError(f"{where}: expected [n, height, width] or [n, height, width, 1 or 3], received {array.shape}")
    if array.dtype == np.uint8:
        return array.astype(np.uint8, copy=False)
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"{where}: expected uint8, or floats in [0, 1], received {array.dtype}")
    if not np.isfinite(array).all():
        raise InputError(f"{where}: expected finite numbers, received NaN or infinity")
    low, high = float(np.min(array)), float(np.max(array))
    if low < 0 or high > 1:
        raise InputError(f"{where}: expected floats in [0, 1], received {low:g} to {high:g}")
    return np.rint(array * np.asarray(255, array.dtype)).astype(np.uint8)


def _labels(array: NDArray[np.generic], count: int, where: str) -> Labels:
    if not np.issubdtype(array.dtype, np.integer) or array.ndim != 1:
        raise InputError(f"{where}: expected whole numbers [n], received {array.dtype} {array.shape}")
    if len(array) != count:
        raise InputError(f"{where}: expected {count} labels, one for each image, received {len(array)}")
    if array.size and array.min() < 0:
        raise InputError(f"{where}: expected whole numbers from 0, received {array.min()}")
    return array.astype(np.int64)
