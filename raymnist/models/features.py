"""Features of images by a trained classifier: where it is found, and how it is used."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from raymnist import folder
from raymnist.datasets import Images, Pixels
from raymnist.errors import InputError
from raymnist.metrics import Features
from raymnist.models import networks, saved

TRAIN_ONE = (  # for messages
    "`raymnist run classifier --set dataset=... --set name=...` trains one, and --fresh makes a results folder use it"
)
WEIGHTS = Path(__file__).parent / "weights"

# The classifiers that come with the project, by the SHA-256 of the data set that each was trained on: the file in
# weights/ and its own SHA-256. experiments/classifier.yaml says how they were made.
BUNDLED = {
    "526a7da5e00568f43cde5a861d0182cc15664e8b5171c6f91b58ab6db17945a4": (
        "mnist.keras",
        "1531e4c1cbefd1ff2897b6a7c1e71e30bebfad6b1f5da4372af4427494bb1b6c",
    ),
    "4a34942577d09ca4ff69a18f1034f86a2a687b365a3cacf80161920b7d63f832": (
        "digits.keras",
        "bfeb4da87fb2dd2305665bb757b6a89cd7f41fb0eb63a6130fb4b23e06aaa62b",
    ),
}


@dataclass(frozen=True)
class ClassifierFile:
    """A saved classifier, as bytes that can be sent to any machine, and their SHA-256."""

    data: bytes = field(repr=False)
    sha256: str

    @classmethod
    def read(cls, path: Path) -> ClassifierFile:
        """Read a saved classifier."""
        data = path.read_bytes()
        return cls(data, hashlib.sha256(data).hexdigest())

    def open(self) -> Classify:
        """Load the network; imports TensorFlow."""
        return Classify(self)


class Classify:
    """Turns images into a classifier's features and logits."""

    def __init__(self, file: ClassifierFile):
        """Load the network."""
        import keras

        with tempfile.TemporaryDirectory(prefix="raymnist-") as scratch:
            path = Path(scratch) / "classifier.keras"
            path.write_bytes(file.data)
            network = saved.load(path)
        images = keras.Input(network.input_shape[1:])
        features = network.get_layer("features")(images)
        self.network = keras.Model(images, [features, network.get_layer("logits")(features)])

    def __call__(self, images: Pixels, batch: int = networks.CHUNK) -> Features:
        """Compute float32 features [n, d] and logits [n, classes] of uint8 images [n, H, W, C]."""
        return Features(*networks.outputs(self.network, networks.to_unit(images), batch))


def cache() -> Path:
    """Name the folder of what is worth keeping between runs: `$RAYMNIST_CACHE`, else one in the user's cache."""
    chosen = os.environ.get("RAYMNIST_CACHE")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "raymnist"


def find(images: Images) -> ClassifierFile | None:
    """Find the classifier of a data set: one that comes with the project, else one that was trained on it here.

    Raises InputError if a bundled file is not the one that was measured.
    """
    if images.whole_sha256 in BUNDLED:
        name, sha256 = BUNDLED[images.whole_sha256]
        file = ClassifierFile.read(WEIGHTS / name)
        if file.sha256 != sha256:
            raise InputError(f"{WEIGHTS / name}: expected the SHA-256 {sha256}, received {file.sha256}")
        return file
    try:
        return ClassifierFile.read(_kept(images))
    except OSError:  # none there, or none that may be read
        return None


def keep(network: Path, images: Images) -> str:
    """Keep a trained classifier for the scores of its data set, in the place of an earlier one; says where, or why not.

    One that has seen a part of the data set is not fit for it, and one that comes with the project is not replaced.
    """
    if images.sha256 != images.whole_sha256:
        return "not kept for scores, as it saw a part of the data set"
    if images.whole_sha256 in BUNDLED:
        return "not kept for scores, as one for this data set comes with the project"
    try:
        with folder.replacing(_kept(images)) as draft:
            draft.write_bytes(network.read_bytes())
    except OSError as error:
        return f"not kept for scores in {_kept(images)}: {error.strerror}"
    return f"kept for scores in {_kept(images)}"


def _kept(images: Images) -> Path:
    return cache() / "classifiers" / f"{images.whole_sha256}.keras"
