"""The Ray session that a run works in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import ray

from raymnist.errors import InputError


@contextlib.contextmanager
def ray_session(address: str | None) -> Iterator[None]:
    """Use the Ray session there is, else join the cluster at `address`, else start one that ends with the block.

    Raises InputError where no cluster answers at `address`.
    """
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(address=address)
    except (ConnectionError, ValueError) as error:
        raise InputError(f"--address {address}: expected a Ray cluster; {str(error).splitlines()[0]}") from None
    try:
        yield
    finally:
        ray.shutdown()
