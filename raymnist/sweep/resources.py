"""What a trial asks for, held against what each node has: an impossible request would wait for ever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import ray

from raymnist.config import Resources
from raymnist.errors import InputError
from raymnist.sweep.autoscaler import node_types

Amounts = Mapping[str, float]  # by Ray's names: CPU, GPU, accelerator_type:A100, and whatever nodes were started with
ACCELERATOR = "accelerator_type:"
A_LITTLE = 0.001  # of an accelerator type, of which a node has 1 however many it holds; Ray's own way to ask for one


@dataclass(frozen=True)
class Request:
    """What one trial occupies, fractions allowed: CPUs, GPUs, and other resources by Ray's names."""

    cpus: float
    gpus: float
    other: dict[str, float] = field(default_factory=dict)

    @property
    def bundle(self) -> dict[str, float]:
        """The request by Ray's names."""
        return {"CPU": self.cpus, "GPU": self.gpus, **self.other}

    def __str__(self) -> str:
        """Write the request for a reader."""
        others = [name.removeprefix(ACCELERATOR) if name.startswith(ACCELERATOR) else f"{amount:g} {name}"
                  for name, amount in self.other.items()]  # fmt: skip
        return ", ".join([f"{self.cpus:g} CPU and {self.gpus:g} GPU", *others])


@dataclass(frozen=True)
class Cluster:
    """What the connected cluster can hold.

    nodes: what each living node has. types: what each type of node has that an autoscaler may add; None without one,
    empty amounts where they are not known.
    """

    nodes: Sequence[Amounts]
    types: Sequence[Amounts] | None = None

    @classmethod
    def connected(cls) -> Cluster:
        """Look at the cluster that this process is connected to."""
        return cls([node["Resources"] for node in ray.nodes() if node["Alive"]], node_types())

    def settle(self, where: str, resources: Resources) -> Request:
        """Settle what a study's trials ask for; `gpus: auto` is 1 where a node that can hold a trial has a GPU, else 0.

        where: the key above `resources`, such as `studies.gan`. Raises InputError if no node can ever hold a trial:
        neither one that is there, nor one that may be added.
        """
        other = {**resources.custom}
        if resources.accelerator:
            other[ACCELERATOR + resources.accelerator] = A_LITTLE
        if resources.gpus == "auto":
            with_gpu = Request(resources.cpus, 1, other)
            known = any(_times(amounts, with_gpu) for amounts in (*self.nodes, *(self.types or [])))
            wanted = with_gpu if known else Request(resources.cpus, 0, other)
        else:
            wanted = Request(resources.cpus, resources.gpus, other)
        if self.at_once(wanted) == 0 and not self._may_come(wanted):
            raise InputError(f"{where}.resources{self._what_lacks(wanted)}")
        return wanted

    def at_once(self, wanted: Request) -> int:
        """Count the trials that run at the same time on the nodes that are there, each within one and on one GPU."""
        return sum(_times(node, wanted) for node in self.nodes)

    def warning(self, study: str, wanted: Request) -> str | None:
        """Say that trials wait for a node that only an autoscaler can bring; None where they need not."""
        if self.at_once(wanted):
            return None
        known = any(_times(amounts, wanted) for amounts in self.types or [])
        may = "will" if known else "may, or may not,"
        return (
            f"studies.{study}.resources: no node holds {wanted} now; trials wait for one that the autoscaler {may} add"
        )

    def _may_come(self, wanted: Request) -> bool:
        return any(not amounts or _times(amounts, wanted) for amounts in self.types or [])

    def _what_lacks(self, wanted: Request) -> str:
        holders = [*self.nodes, *(self.types or [])]
        keys = {"CPU": "cpus", "GPU": "gpus"}
        for name, value in wanted.bundle.items():
            most = max(amounts.get(name, 0) for amounts in holders)
            if value <= most:
                continue
            if name.startswith(ACCELERATOR):
                names = {there for amounts in holders for there in amounts if there.startswith(ACCELERATOR)}
                known = sorted(there.removeprefix(ACCELERATOR) for there in names)
                there = f"of {', '.join(known)}" if known else "of a type that a node has; none has any"
                return f".accelerator: expected one {there}, received {name.removeprefix(ACCELERATOR)}"
            key = keys.get(name, f"custom.{name}")
            return (
                f".{key}: expected at most {most:g}, the most that any node has, received {value:g}; no node can hold "
                "a trial"
            )
        return f": no node has all of {wanted} for a trial"


def _times(amounts: Amounts, wanted: Request) -> int:
    """Count the trials that fit into a node; a trial with a share of a GPU has it of a single one."""
    counts = [int(amounts.get(name, 0) / value + 1e-9)  # 7 / 0.28 is a little less than 25
              for name, value in wanted.bundle.items() if value and name != "GPU"]  # fmt: skip
    if wanted.gpus:
        counts.append(int(amounts.get("GPU", 0)) * int(1 / wanted.gpus))
    return min(counts)
