"""What it brings to share NVIDIA GPUs: trials per hour at 1, 2 and 4 trials per card, and the memory that they take.

RAYMNIST_DATA=folder python benchmarks/gpu.py [--quick] [--json FILE]

The same sweep of a conv_gan, then of a conv_autoencoder, on MNIST, on all cards that CUDA_VISIBLE_DEVICES shows, each
time in a process and a Ray session of its own. With --quick scikit-learn's digits, smaller networks and half as many
trials. The columns:

- failed: trials, and of those the ones that ran out of memory.
- seconds: of the sweep, in which each process starts once and imports TensorFlow. trials/h: finished trials by this
  time. ratio: to 1 per card. s a trial: the mean time spent in training and scoring, longer where trials wait for each
  other.
- on one: the most processes that had the same card; a row with fewer than its trials per card is not what it says.
- limit: MB that TensorFlow may take in a process, `devices.memory_limit`; with a whole card there is none.
- peak: MB in use on the fullest card, as nvidia-smi saw it twice a second. beside: what each process took of that
  beside its limit; with more than `devices.CONTEXT` leaves for it, 600 MB, the shares do not fit.
- differ: the largest relative difference between a trial's last losses and those at 1 per card; not 0 where a card adds
  in another order each time.

Ends with status 2 where there is no NVIDIA GPU that TensorFlow sees, and with 1 where a trial failed.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

PER_CARD = (1, 2, 4)
MODELS = {"gan": {"name": "conv_gan"}, "autoencoder": {"name": "conv_autoencoder", "latent_dim": 32}}
SMALLER = {"gan": {"generator_filters": 16, "discriminator_filters": 16}, "autoencoder": {"filters": 8}}
MEMORY = re.compile(r"out of memory|ResourceExhausted|\bOOM\b|ALLOC_FAILED|OUT_OF_MEMORY", re.IGNORECASE)


def ask_driver(*fields: str) -> list[list[str]]:
    """Ask for fields of each card that this process may use; none without a driver, or where it is told to use none."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is not None and not re.match(r"\d|GPU-", shown):
        return []
    words = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    words += [f"--id={shown}"] if shown else []
    try:
        said = subprocess.run(words, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return [line.split(", ") for line in said.stdout.splitlines()]


def used_memory() -> list[int]:
    return [int(used) for (used,) in ask_driver("memory.used")]


def what_is_missing(cards: list[list[str]]) -> str | None:
    """Say in one line why nothing can be measured here; without the libraries TensorFlow would train on the CPU."""
    if not cards:
        return "expected an NVIDIA GPU, found none"
    words = [sys.executable, "-c", "import tensorflow as tf; print(len(tf.config.list_physical_devices('GPU')))"]
    seen = int(subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout)
    if seen != len(cards):
        return f"expected TensorFlow to see {len(cards)} GPU as the driver does, it sees {seen}; install '.[gpu]'"
    return None


class Peak(threading.Thread):
    """Looks at the memory in use on each card, twice a second."""

    def __init__(self, used: Callable[[], list[int]]):
        super().__init__(daemon=True)
        self.used, self.before, self.over = used, used(), threading.Event()
        self.most = list(self.before)

    def run(self):
        while not self.over.wait(0.5):
            self.most = [max(pair) for pair in zip(self.most, self.used() or self.most, strict=True)]


def experiment(study: str, per_card: int, trials: int, quick: bool) -> dict:
    epochs = 2 if quick else 10
    return {
        "name": "gpu",
        "dataset": "digits" if quick else "mnist",
        "studies": {
            study: {
                "model": {**MODELS[study], **(SMALLER[study] if quick else {})},
                "train": {
                    "epochs": epochs,
                    "batch_size": 64 if quick else 256,
                    "learning_rate": {"loguniform": [1e-4, 4e-4]},
                },
                "sweep": {"trials": trials, "every": epochs, "images": 100 if quick else 2000},
                "samples": {"every": epochs, "epochs": []},
                # So few CPUs that the cards decide how many trials there are; a trial has one thread at any share.
                "resources": {"cpus": 0.1, "gpus": 1 / per_card},
            }
        },
        "evaluation": None,
    }


def sweep(study: str, per_card: int, trials: int, quick: bool, place: Path, used: Callable[[], list[int]]) -> dict:
    """Run the sweep in the Ray session there is, else in one of its own; cards that do not exist serve for a try.

    used: tells the MB in use on each card.
    """
    import raymnist

    (place / "gpu.yaml").write_text(json.dumps(experiment(study, per_card, trials, quick)))
    peak = Peak(used)
    peak.start()
    results = raymnist.run(place / "gpu.yaml", results=place)
    peak.over.set()
    peak.join()
    table, history = results.trials, results.history
    finished = table[table["status"] == "finished"]
    errors = list(table.loc[table["status"] != "finished", "error"])
    seconds = results.manifest["seconds"][study]
    losses = [name for name in history if name.endswith("loss")]
    last = history.groupby("trial_id").last().loc[list(finished["trial_id"]), losses]
    return {
        "study": study, "per_card": per_card, "trials": trials, "finished": len(finished), "failed": len(errors),
        "out_of_memory": sum(bool(MEMORY.search(error)) for error in errors), "errors": errors, "seconds": seconds,
        "trials_per_hour": 3600 * len(finished) / seconds,
        "seconds_of_a_trial": float(finished["seconds"].mean()) if len(finished) else None,
        "on_one": int(table.groupby("cuda_visible_devices")["pid"].nunique().max()),
        "cards": sorted(table["cuda_visible_devices"].unique()), "before_mb": peak.before, "peak_mb": peak.most,
        "losses": last.to_dict("index"),
    }  # fmt: skip


def compare(record: dict, alone: dict | None, limit: int | None) -> None:
    """Add the limit in MB, and what follows from a record and that of one trial per card, if there is one."""
    was = alone or {"finished": 0, "losses": {}}
    record["limit_mb"] = limit
    fullest = max(range(len(record["peak_mb"])), key=lambda card: record["peak_mb"][card])
    taken = record["peak_mb"][fullest] - record["before_mb"][fullest]
    record["beside_mb"] = round(taken / record["on_one"] - limit) if limit and record["on_one"] else None
    record["ratio"] = record["trials_per_hour"] / was["trials_per_hour"] if was["finished"] else None
    differences = [
        abs(value - was["losses"][trial][name]) / max(abs(was["losses"][trial][name]), 1e-12)
        for trial, losses in record["losses"].items()
        if trial in was["losses"]
        for name, value in losses.items()
    ]
    record["differ"] = max(differences, default=None)


def line(record: dict) -> str:
    def cell(name: str, form: str, width: int) -> str:
        value = record[name]
        return f"{'-' if value is None else format(value, form):>{width}}"

    failed = f"{record['failed']} ({record['out_of_memory']})"
    return (
        f"{record['study']:12} {record['per_card']:8} {record['trials']:6} {failed:>7} {cell('seconds', '.0f', 7)} "
        f"{cell('trials_per_hour', ',.0f', 8)} {cell('ratio', '.2f', 5)} {cell('seconds_of_a_trial', '.1f', 9)} "
        f"{record['on_one']:6} {cell('limit_mb', ',', 8)} {max(record['peak_mb']):8,} {cell('beside_mb', ',', 6)} "
        f"{cell('differ', '.1e', 8)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="digits, smaller networks, half as many trials")
    parser.add_argument("--json", type=Path, help="write the records to a file")
    parser.add_argument("--one", nargs=3, metavar=("STUDY", "PER_CARD", "TRIALS"), help="one sweep, in this process")
    options = parser.parse_args()
    if options.one:
        study, per_card, trials = options.one[0], int(options.one[1]), int(options.one[2])
        with tempfile.TemporaryDirectory() as place:
            print(json.dumps(sweep(study, per_card, trials, options.quick, Path(place), used_memory)))
        return
    cards = ask_driver("name", "memory.total", "memory.used", "memory.free")
    missing = what_is_missing(cards)
    if missing:
        print(missing, file=sys.stderr)
        sys.exit(2)
    from raymnist.training.devices import memory_limit

    smallest, trials = min(int(card[1]) for card in cards), (4 if options.quick else 8) * len(cards)
    limits = {per_card: memory_limit(1 / per_card, smallest) if per_card > 1 else None for per_card in PER_CARD}
    for name, *memory in cards:
        whole, used, free = map(int, memory)
        print(f"{name}: {whole:,} MB, of which the driver keeps {whole - used - free:,} and {used:,} are in use")
    print(f"{len(os.sched_getaffinity(0))} CPU cores\n")
    print(
        f"{'':12} per card trials  failed seconds trials/h ratio s a trial on one limit MB  peak MB beside   differ",
        flush=True,
    )
    records: list[dict] = []
    is_whole = True
    for study in MODELS:
        alone = None
        for per_card in PER_CARD:
            words = [sys.executable, __file__, "--one", study, str(per_card), str(trials)]
            said = subprocess.run(
                [*words, *(["--quick"] if options.quick else [])], stdout=subprocess.PIPE, text=True, check=False
            )
            if said.returncode:
                is_whole = False
                print(f"{study:12} {per_card:8} the sweep itself ended with status {said.returncode}", flush=True)
                continue
            record = json.loads(said.stdout.splitlines()[-1])
            alone = record if per_card == 1 else alone
            compare(record, alone, limits[per_card])
            records.append(record)
            print(line(record), flush=True)
    if options.json:
        options.json.write_text(json.dumps(records, indent=2) + "\n")
    sys.exit(0 if is_whole and not any(record["failed"] for record in records) else 1)


if __name__ == "__main__":
    main()
