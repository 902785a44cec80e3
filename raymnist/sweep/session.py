"""The Ray session that a run works in."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

import ray

from raymnist.errors import InputError


@contextlib.contextmanager
def ray_session(address: str | None, scratch: str, labels: dict[str, str]) -> Iterator[str | None]:
    """Use the Ray session there is, else join the cluster at `address`, else start one that ends with the block.

    Where no address is given, that of $RAY_ADDRESS counts, which Ray sets in its jobs; Ray itself would also join any
    cluster that somebody has started on this machine, and fail when that ends.

    scratch: a folder for the temporary files of a session that is started here, which Ray leaves behind. labels: of the
    run, in the dashboard's list of jobs. Yields the address of the dashboard, where there is one.
    Raises InputError where no cluster answers at `address`.
    """
    if ray.is_initialized():
        yield None
        return
    try:
        place = os.environ.get("RAY_TMPDIR", tempfile.gettempdir())  # where Ray's own session folders go, as ever
        with environment({"TMPDIR": scratch, "RAY_TMPDIR": place}):
            job = ray.job_config.JobConfig(metadata=labels)
            begun = ray.init(address=address or os.environ.get("RAY_ADDRESS") or "local", job_config=job)
    except (ConnectionError, ValueError) as error:
        raise InputError(f"--address {address}: expected a Ray cluster; {str(error).splitlines()[0]}") from None
    try:
        yield f"http://{begun.dashboard_url}" if begun.dashboard_url else None
    finally:
        ray.shutdown()


@contextlib.contextmanager
def without(*names: str) -> Iterator[None]:
    """Take environment variables away for the length of a block."""
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


@contextlib.contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables for the length of a block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
