"""How long a network takes to make images: `networks.apply` beside Keras' `predict`, the first call and later ones.

python benchmarks/networks.py [--quick] [--json FILE]
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np

from raymnist.config import Train
from raymnist.models import MODELS, networks

GENERATORS = {
    "dense_gan, 8 units": ("dense_gan", {"generator_units": [8]}),
    "dense_gan": ("dense_gan", {}),
    "conv_gan, 16 filters": ("conv_gan", {"generator_filters": 16}),
    "dcgan": ("dcgan", {}),
    "conv_gan": ("conv_gan", {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="500 images and 2 later calls instead of 5,000 and 5")
    parser.add_argument("--json", type=Path, help="write the records to a file")
    options = parser.parse_args()
    count, rounds = (500, 2) if options.quick else (5000, 5)
    records = []
    print(f"{count} images from   {'first call, s':>24} {'later calls, s':>24}")
    print(f"{'':24} {'predict':>8} {'apply':>6} {'ratio':>6}   {'predict':>8} {'apply':>6} {'ratio':>6}")
    for title, (name, settings) in GENERATORS.items():
        kind = MODELS[name]
        train = Train(epochs=1, batch_size=64, learning_rate=1e-3)
        network = kind(kind.Settings(**settings), train, (28, 28, 1)).network
        noise = networks.noise(count, network.input_shape[-1], 0)
        times: dict[str, list[float]] = {"predict": [], "apply": []}
        for _ in range(1 + rounds):  # interleaved, so that a busy moment hits both alike
            start = time.perf_counter()
            expected = network.predict(noise, batch_size=networks.CHUNK, verbose=0)
            between = time.perf_counter()
            made = networks.apply(network, noise)
            times["predict"].append(between - start)
            times["apply"].append(time.perf_counter() - between)
        np.testing.assert_allclose(made, expected, atol=1e-6)
        first = {way: taken[0] for way, taken in times.items()}
        later = {way: statistics.median(taken[1:]) for way, taken in times.items()}
        cells = [
            f"{taken['predict']:8.2f} {taken['apply']:6.2f} {taken['apply'] / taken['predict']:6.2f}"
            for taken in (first, later)
        ]
        print(f"{title:24} {'   '.join(cells)}")
        records.append({"network": title, "images": count, "first": first, "later": later})
    if options.json:
        options.json.write_text(json.dumps(records, indent=2) + "\n")


if __name__ == "__main__":
    main()
