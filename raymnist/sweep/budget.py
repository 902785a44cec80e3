"""How long a study is searched."""

from __future__ import annotations

import time
from typing import Any

from ray import tune

from raymnist.folder import Folder

NOTED_EVERY = 5.0  # seconds; so much is not counted of a run that was killed


class Stopwatch:
    """Counts the seconds of a study's part into the manifest, over all runs."""

    def __init__(self, results: Folder, part: str):
        """Start counting."""
        self.results = results
        self.part = part
        self.noted = time.monotonic()

    def tick(self, every: float = NOTED_EVERY) -> None:
        """Note the seconds since the last time, if they are as many as `every`."""
        now = time.monotonic()
        if now - self.noted >= every:
            self.results.add_seconds(self.part, now - self.noted)
            self.noted = now


class Deadline(tune.Stopper):
    """Ends trials at their next look when the time is over."""

    def __init__(self, seconds: float):
        """So many are left from now; infinitely many without a budget."""
        self.end = time.monotonic() + seconds

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() >= self.end

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Tell whether a trial ends with this look."""
        return self.is_over

    def stop_all(self) -> bool:
        """Never end the trials in the midst of an epoch, as this would."""
        return False
