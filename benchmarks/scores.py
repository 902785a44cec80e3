"""How long the scores of generators take: features, each score with its interval, and the peak of memory.

RAYMNIST_DATA=folder python benchmarks/scores.py [--quick] [--json FILE]

Fakes are the training images of MNIST with some noise, so that no generator's speed is measured; the real features and
the floor come from the cache, as on every run but the first. With --quick 2,000 images instead of 10,000, else also
50,000 beside 50,000 (features drawn at random, as MNIST has no 50,000 test images).
"""

import argparse
import json
import os
import resource
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from raymnist import datasets
from raymnist.config import Dataset
from raymnist.evaluation.reference import reference
from raymnist.metrics import GENERATOR_METRICS, Comparison, Features, Memory
from raymnist.models import features


def timed(records, task, function):
    start = time.perf_counter()
    result = function()
    records.append({"task": task, "seconds": time.perf_counter() - start})
    return result


def score(records, comparison, prefix=""):
    start = time.perf_counter()
    for name, metric in GENERATOR_METRICS.items():
        timed(records, prefix + name, lambda metric=metric: metric.function(comparison))
    records.append({"task": f"{prefix}all scores with intervals", "seconds": time.perf_counter() - start})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2,000 images, and not 50,000")
    parser.add_argument("--json", type=Path, help="write the records to a file")
    options = parser.parse_args()
    count = 2_000 if options.quick else 10_000
    images = datasets.load(Dataset(name="mnist"))
    classifier = features.find(images)
    classify = classifier.open()
    rng = np.random.default_rng(0)
    fakes = np.clip(images.train[:count] + rng.normal(0, 20, images.train[:count].shape), 0, 255).astype(np.uint8)
    classify(fakes[:256])  # traces the graph
    reference(images, "classifier", classifier, classify, count, 0).floor()  # fills the cache
    records: list[dict[str, object]] = []
    seen = timed(records, f"features of {count} images", lambda: classify(fakes))
    start = time.perf_counter()
    beside = timed(
        records, "real features from the cache", lambda: reference(images, "classifier", classifier, classify, count, 0)
    )
    timed(records, "floor from the cache", beside.floor)
    memory = Memory(beside.real.training.points, beside.real.own)
    score(records, Comparison(beside.test, seen, 0, beside.counts, memory))
    records.append({"task": f"{count} beside {count}, whole", "seconds": time.perf_counter() - start})
    if not options.quick:
        large = [
            Features(rng.normal(size=(50_000, 64)).astype(np.float32), rng.normal(size=(50_000, 10)).astype(np.float32))
            for _ in range(2)
        ]
        score(records, Comparison(*large, 0, np.full(10, 5_000), memory), prefix="50,000: ")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for record in records:
        print(f"{record['task']:40} {record['seconds']:8.2f} s")
    print(f"{'peak memory of the process':40} {peak:8.0f} MiB")
    if options.json:
        options.json.write_text(json.dumps([*records, {"task": "peak memory", "mib": peak}], indent=2) + "\n")


if __name__ == "__main__":
    main()
