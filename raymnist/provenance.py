"""Where results come from: versions, commit, host and time, for the manifest."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

LIBRARIES = (
    "raymnist",
    "ray",
    "tensorflow",
    "keras",
    "numpy",
    "scikit-learn",
    "umap-learn",
    "openTSNE",
    "pandas",
)

COMMIT = "COMMIT"  # the file beside the package that has it where there is no checkout


def facts() -> dict[str, Any]:
    """Collect what a reader needs to repeat a run."""
    return {
        "command": sys.argv,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
        "git_commit": git_commit(),
        "host": platform.node(),
    }


def labels(experiment: str, studies: Iterable[str]) -> dict[str, str]:
    """Describe an experiment for the list of jobs in the Ray dashboard."""
    return {"experiment": experiment, "studies": ", ".join(studies), "git_commit": git_commit() or "unknown"}


def git_commit() -> str | None:
    """Find the commit of the project's checkout; None without git, or outside a checkout, as in an installed wheel.

    What was shipped to a cluster has the commit in a file.
    """
    here = Path(__file__).parent
    shipped = here.parent / COMMIT
    if shipped.is_file():
        return shipped.read_text(encoding="utf-8").strip() or None
    if not (here.parent / ".git").exists() or shutil.which("git") is None:
        return None
    asked = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or None


def now() -> str:
    """Write the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
