"""Pieces of an evaluation that are done at the same time, and of which one that fails stops no other."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import ray
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError, WorkerCrashedError

from raymnist.errors import InputError
from raymnist.sweep.gauges import Tally

T = TypeVar("T")


@dataclass(frozen=True)
class Attempt(Generic[T]):
    """What came of a piece: its result, or else the line that says why there is none."""

    result: T | None
    error: str = ""


def attempt_all(pieces: Sequence[Callable[[], T]], tally: Tally) -> list[Attempt[T]]:
    """Call functions that wait for Ray's tasks, a few at a time, each in a thread of its own.

    The traceback of one that fails goes to the log. What is wrong with Ray itself is raised. tally: counts those done.
    """

    def counted(piece: Callable[[], T]) -> Attempt[T]:
        done = attempt(piece)
        tally.done += 1
        return done

    threads = ThreadPoolExecutor(max_workers=2 + int(ray.cluster_resources().get("CPU", 1)))
    try:
        return list(threads.map(counted, pieces))
    finally:
        threads.shutdown(wait=False, cancel_futures=True)  # after an interrupt nothing more begins


def attempt(piece: Callable[[], T]) -> Attempt[T]:
    """Call a function, and note why it failed instead of raising it."""
    try:
        return Attempt(piece())
    except RayTaskError as error:  # Ray gives it the class of its cause too
        cause = error.cause if isinstance(error.cause, Exception) else error
        if not isinstance(cause, InputError):
            traceback.print_exception(error)
        return Attempt(None, line_of(cause))
    except (OutOfMemoryError, WorkerCrashedError) as error:  # of a library's own doing
        return Attempt(None, line_of(error))
    except RayError:
        raise
    except InputError as error:
        return Attempt(None, line_of(error))
    except Exception as error:
        traceback.print_exception(error)
        return Attempt(None, line_of(error))


def line_of(error: Exception) -> str:
    """Write an error as one line, a user's mistake without the name of its class."""
    said = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
    return next(iter(said.splitlines()), type(error).__name__)
