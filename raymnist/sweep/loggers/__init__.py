"""Loggers: each trial's settings, epochs and end, told to other tools."""

from __future__ import annotations

import importlib.util
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from raymnist.errors import InputError, choices
from raymnist.folder import Folder
from raymnist.sweep.loggers.mlflow_store import MLflow
from raymnist.sweep.loggers.tensorboard import TensorBoard
from raymnist.sweep.outcome import Outcome


class Logger(Protocol):
    """Tells another tool about trials; nothing is told twice, in whatever runs they were trained."""

    PACKAGE: str

    def __init__(self, experiment: str, results: Folder):
        """Open or begin what the experiment's trials are logged to."""

    def log(self, outcome: Outcome) -> None:
        """Tell what is new of a trial: its settings, the epochs since the last time, how it ended."""

    def close(self) -> None:
        """Write what is not written yet."""


LOGGERS: dict[str, type[Logger]] = {"tensorboard": TensorBoard, "mlflow": MLflow}


def check(names: Sequence[str]) -> None:
    """Check that there are such loggers, and that their packages are installed; raises InputError."""
    for name in names:
        if name not in LOGGERS:
            raise InputError(f"loggers: {choices('logger', name, LOGGERS)}")
        if importlib.util.find_spec(LOGGERS[name].PACKAGE) is None:
            raise InputError(f"loggers: {name} is not installed; expected `pip install 'raymnist[{name}]'`")


class Logging:
    """The loggers of a run. One that fails says so and is left out from then on; training goes on."""

    def __init__(self, names: Sequence[str], experiment: str, results: Folder, say: Callable[..., None]):
        """`say` shows a line to the user."""
        self.say = say
        self.loggers: dict[str, Logger] = {}
        for name in names:
            self._guarded(name, partial(self._open, name, experiment, results))

    def log(self, outcome: Outcome) -> None:
        """Tell every logger about a trial."""
        for name, logger in list(self.loggers.items()):
            self._guarded(name, partial(logger.log, outcome))

    def close(self) -> None:
        """Close every logger."""
        for name, logger in list(self.loggers.items()):
            self._guarded(name, logger.close)

    def _open(self, name: str, experiment: str, results: Folder) -> None:
        self.loggers[name] = LOGGERS[name](experiment, results)

    def _guarded(self, name: str, work: Callable[[], Any]) -> None:
        try:
            work()
        except Exception as error:
            self.loggers.pop(name, None)
            traceback.print_exc()  # into the log
            problem = next(iter(str(error).splitlines()), "")
            self.say(f"logger {name} failed and is left out: {type(error).__name__}: {problem}", problem=True)
