"""How long the commands take to answer that need no training: medians over several starts.

python benchmarks/startup.py [--quick] [--json FILE]
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = {
    "bare Python": ["-c", "pass"],
    "raymnist --help": ["-m", "raymnist", "--help"],
    "raymnist run --help": ["-m", "raymnist", "run", "--help"],
    "raymnist list": ["-m", "raymnist", "list"],
    "raymnist run (wrong input)": ["-m", "raymnist", "run", "quickstart", "--set", "seed=x"],
}


def seconds(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 starts of each instead of 10")
    parser.add_argument("--json", type=Path, help="write the records to a file")
    options = parser.parse_args()
    rounds = 3 if options.quick else 10
    for arguments in COMMANDS.values():
        seconds(arguments)  # fills the file cache
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):  # interleaved, so that a busy moment hits all alike
        for name, arguments in COMMANDS.items():
            times[name].append(seconds(arguments))
    bare = statistics.median(times["bare Python"])
    records = [
        {"task": name, "seconds": statistics.median(taken), "ratio": statistics.median(taken) / bare}
        for name, taken in times.items()
    ]
    print(f"{'command':30} {'seconds':>8} {'x bare Python':>14}")
    for record in records:
        print(f"{record['task']:30} {record['seconds']:8.3f} {record['ratio']:14.1f}")
    if options.json:
        options.json.write_text(json.dumps(records, indent=2) + "\n")


if __name__ == "__main__":
    main()
