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
    """Settle what a study's trials ask for; `gpus: auto` is 1 where a node that can hold a trial has a GPU, else 0.

    Raises InputError if no single node can hold a trial.
    """
    if resources.gpus == "auto":
        with_gpu = Request(resources.cpus, 1)
        return with_gpu if at_once(with_gpu, nodes) else request(study, resources.model_copy(update={"gpus": 0}), nodes)
    wanted = Request(resources.cpus, resources.gpus)
    if at_once(wanted, nodes) == 0:
        for key, value, most in (
            ("cpus", wanted.cpus, max(node.cpus for node in nodes)),
            ("gpus", wanted.gpus, max(node.gpus for node in nodes)),
        ):
            if value > most:
                raise InputError(
                    f"studies.{study}.resources.{key}: expected at most {most:g}, the most that any node has, "
                    f"received {value:g}; no node can hold a trial"
                )
        raise InputError(
            f"studies.{study}.resources: no node has both {wanted.cpus:g} CPU and {wanted.gpus:g} GPU for a trial"
        )
    return wanted


def at_once(wanted: Request, nodes: list[Request]) -> int:
    """Count the trials that run at the same time, each within one node and on one GPU."""
    if not wanted.gpus:
        return sum(_times(node.cpus, wanted.cpus) for node in nodes)
    return sum(min(_times(node.cpus, wanted.cpus), int(node.gpus) * _times(1, wanted.gpus)) for node in nodes)


def _times(whole: float, part: float) -> int:
    return int(whole / part + 1e-9)  # 1 // 0.2 is 4, as 0.2 is a little more than a fifth
