"""`python -m raymnist.dashboard start --head ...`: `ray start`, with the page in the dashboard of the head."""

from __future__ import annotations

import os
from pathlib import Path

from raymnist.dashboard.hook import page_in_dashboard


def main() -> None:
    """Hand all arguments to Ray's own command line."""
    from ray.scripts import scripts

    with page_in_dashboard(Path(os.environ.get("RAYMNIST_RESULTS", "~/raymnist_results"))):
        scripts.main()


if __name__ == "__main__":
    main()
