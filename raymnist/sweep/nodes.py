"""What every node of a cluster must have: the folder that a run writes to, and the versions that the driver has."""

from __future__ import annotations

import platform
import uuid
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raymnist import provenance
from raymnist.errors import InputError

TRAINS = ("ray", "tensorflow", "keras", "numpy")  # trials of other versions would not be those of this experiment


def check(place: Path) -> None:
    """Check that every node sees the folder `place` and has the driver's versions; raises InputError for one that not.

    A file is written into the nearest folder that is there, for the others to find, and removed again.
    """
    here = ray.get_runtime_context().get_node_id()
    others = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] != here]
    if not others:
        return
    above = next(folder for folder in (place, *place.absolute().parents) if folder.is_dir()).absolute()
    probe = above / f".raymnist-{uuid.uuid4().hex}"
    probe.write_text(provenance.now(), encoding="utf-8")
    try:
        on = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in others]
        looks = [_look.options(scheduling_strategy=one).remote(probe) for one in on]
        for node, look in zip(others, looks, strict=True):
            _compare(f"node {node['NodeManagerAddress']}", above, look)
    finally:
        probe.unlink()


def versions() -> dict[str, str]:
    """Tell the versions that decide how a trial ends."""
    return {"python": platform.python_version().rpartition(".")[0], **{name: version(name) for name in TRAINS}}


@ray.remote(num_cpus=0)
def _look(probe: Path) -> tuple[bool, Mapping[str, str]]:
    return probe.is_file(), versions()


def differs(where: str, theirs: Mapping[str, str], ours: Mapping[str, str]) -> str | None:
    """Say which version differs from the driver's, `theirs`; None for none."""
    for name, expected in theirs.items():
        if ours[name] != expected:
            return f"{where}: expected {name} {expected}, as on the driver's node, found {ours[name]}"
    return None


def _compare(where: str, above: Path, look: ray.ObjectRef) -> None:
    try:
        is_shared, there = ray.get(look)
    except RayTaskError as error:
        why = next(iter(str(error.cause).splitlines()), "")
        raise InputError(f"{where}: expected the project there as it is here; {why}") from None
    except RayError:
        return  # the node is gone, as nodes of a cluster may be
    if line := differs(where, versions(), there):
        raise InputError(line)
    if not is_shared:
        raise InputError(
            f"{above}: expected a folder that all nodes share, as trials on any of them write there; {where} "
            "does not see it; name one that they share with --results"
        )
