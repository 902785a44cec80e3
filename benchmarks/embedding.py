"""How the embedding of many fakes scales: images a second, peak memory of all processes, and what Ray spilled.

python benchmarks/embedding.py [--quick] [--json FILE]

Each size in a process and a Ray session of its own. Fakes of a dense_gan, made inside the pipeline, encoded by a
conv_autoencoder with 16 dimensions and written as Parquet; both untrained, which costs the same. Memory is the sum of
the proportional set sizes of the driver, Ray's own processes and the workers, so that shared pages count once.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
SIZES = (100_000, 300_000, 1_000_000)


def save_networks(place: Path) -> None:
    from raymnist.config import Train
    from raymnist.models import MODELS

    for name, settings in (("conv_autoencoder", {"latent_dim": 16}), ("dense_gan", {})):
        MODELS[name](MODELS[name].Settings(**settings), Train(), (28, 28, 1)).network.save(place / f"{name}.keras")


class Peak(threading.Thread):
    """Looks at the memory of this process and all that it has started, every half second."""

    def __init__(self):
        super().__init__(daemon=True)
        self.bytes, self.over = 0, threading.Event()

    def run(self):
        import psutil

        own = psutil.Process()
        while not self.over.wait(0.5):
            total = 0
            for process in [own, *own.children(recursive=True)]:
                try:
                    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
                except OSError:  # it has just ended
                    continue
                total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            self.bytes = max(self.bytes, total)


def embed_in_this_process(count: int, place: Path) -> dict[str, float]:
    import ray
    from ray._private.internal_api import get_memory_info_reply, get_state_from_address

    from raymnist.evaluation.embedding import embed
    from raymnist.evaluation.sources import Fakes, Network
    from raymnist.sweep.gauges import Tally
    from raymnist.sweep.resources import Request

    ray.init("local", include_dashboard=False, log_to_driver=False)
    encoder = Network("autoencoder", "autoencoder-00", str(place / "conv_autoencoder.keras"), "")
    generator = Network("gan", "gan-00", str(place / "dense_gan.keras"), "")
    peak = Peak()
    peak.start()
    start = time.perf_counter()
    fakes = Fakes("gan", "gan-00", count, None, generator)
    embed([fakes], (28, 28, 1), [encoder], None, ["code"], 0, Request(1, 0), place / "points", Tally())
    seconds = time.perf_counter() - start
    peak.over.set()
    peak.join()
    state = get_state_from_address(ray.get_runtime_context().gcs_address)
    spilled = get_memory_info_reply(state).store_stats.spilled_bytes_total
    written = sum(file.stat().st_size for file in (place / "points").glob("*"))
    ray.shutdown()
    return {
        "images": count, "seconds": seconds, "images_per_second": count / seconds, "peak_mib": peak.bytes / 2**20,
        "spilled_mib": spilled / 2**20, "written_mib": written / 2**20,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10,000 and 30,000 images")
    parser.add_argument("--json", type=Path, help="write the records to a file")
    parser.add_argument("--one", nargs=2, metavar=("COUNT", "FOLDER"), help="one size, in this process")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(embed_in_this_process(int(options.one[0]), Path(options.one[1]))))
        return
    records = []
    with tempfile.TemporaryDirectory() as place:
        save_networks(Path(place))
        for count in (10_000, 30_000) if options.quick else SIZES:
            words = [sys.executable, __file__, "--one", str(count), place]
            said = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
            record = json.loads(said.stdout.splitlines()[-1])
            record["ratio"] = record["peak_mib"] / records[0]["peak_mib"] if records else 1.0
            records.append(record)
    print("    images  seconds  images/s  peak MiB  ratio  spilled MiB  written MiB")
    for r in records:
        print(
            f"{r['images']:10,} {r['seconds']:8.1f} {r['images_per_second']:9,.0f} {r['peak_mib']:9,.0f} "
            f"{r['ratio']:6.3f} {r['spilled_mib']:12,.0f} {r['written_mib']:12,.0f}"
        )
    if options.json:
        options.json.write_text(json.dumps(records, indent=2) + "\n")


if __name__ == "__main__":
    main()
