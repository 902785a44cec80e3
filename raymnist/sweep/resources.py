"""What a trial asks for, held against what each node has: an impossible request would wait for ever."""

from __future__ import annotations

from dataclasses import dataclass

import ray

from raymnist.config import Resources
from raymnist.errors import InputError


@dataclass(frozen=True)
class Request:
    """What one trial occupies: CPUs and GPUs, fractions allowed."""

    cpus: float
    gpus: float


def node_resources() -> list[Request]:
    """List the CPUs and GPUs of each living node of the connected cluster."""
    return [
        Request(node["Resources"].get("CPU", 0), node["Resources"].get("GPU", 0))
        for node in ray.nodes()
        if node["Alive"]
    ]


def request(study: str, resources: Resources, nodes: list[Request]) -> Request:
    """Settle what a study's trials ask for; `gpus: auto` is 1 where a node has a GPU, else 0.

    Raises InputError if no single node can hold a trial.
    """
    most_gpus = max(node.gpus for node in nodes)
    gpus = float(most_gpus >= 1) if resources.gpus == "auto" else resources.gpus
    wanted = Request(resources.cpus, gpus)
    if at_once(wanted, nodes) == 0:
        most_cpus = max(node.cpus for node in nodes)
        key, value, most = ("cpus", wanted.cpus, most_cpus) if wanted.cpus > most_cpus else ("gpus", gpus, most_gpus)
        raise InputError(
            f"studies.{study}.resources.{key}: expected at most {most:g}, the most that any node has, "
            f"received {value:g}; no node can hold a trial"
        )
    return wanted


def at_once(wanted: Request, nodes: list[Request]) -> int:
    """Count the trials that run at the same time, each within one node."""
    return sum(
        int(min(node.cpus // wanted.cpus, node.gpus // wanted.gpus if wanted.gpus else float("inf"))) for node in nodes
    )
