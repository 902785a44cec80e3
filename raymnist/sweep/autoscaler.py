"""Which nodes an autoscaler may add to the connected cluster.

Ray 2.60 has no interface for this: the types stand in a record that nothing of this version writes yet, and in the log
that the autoscaler's monitor writes as it starts, on the head node or, on Kubernetes, in the container beside it.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import ray
import yaml
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

LOG_START = 1 << 20  # bytes; the configuration is among the first lines
HEAD = "node:__internal_head__"


def node_types() -> list[dict[str, float]] | None:
    """List the resources of each type of node that may be added; None where there is no autoscaler.

    A type whose resources are not known, as of machines that are named one by one, has none in the list.
    """
    node = ray._private.worker._global_node
    if node is None or node.is_head():
        return None  # a client knows no nodes, and a process that has started the cluster has no autoscaler
    head = next((node for node in ray.nodes() if node["Alive"] and HEAD in node["Resources"]), None)
    if head is None:
        return None
    on_head = NodeAffinitySchedulingStrategy(head["NodeID"], soft=False)
    config = ray.get(ray.remote(_configuration).options(num_cpus=0, scheduling_strategy=on_head).remote())
    if config is None or config.get("provider", {}).get("type") == "readonly":
        return None
    return [
        dict(kind.get("resources", {}))
        for kind in config.get("available_node_types", {}).values()
        if kind.get("max_workers", config.get("max_workers", 0))
    ]


def _configuration() -> dict[str, Any] | None:
    """Find the autoscaler's configuration in its log, on the head node; both of its versions write it."""
    log = Path(ray._private.worker._global_node.get_logs_dir_path(), "monitor.log")
    if not log.is_file():
        return None
    with log.open(encoding="utf-8", errors="replace") as file:
        text = file.read(LOG_START)
    first = re.search(r"StandardAutoscaler: (\{.*\})$", text, re.MULTILINE)
    if first:
        config: dict[str, Any] = ast.literal_eval(first[1])
        return config
    second = re.search(r"Using Autoscaling Config: \n(.*?)^\d{4}-", text, re.MULTILINE | re.DOTALL)
    return yaml.safe_load(second[1]) if second else None
