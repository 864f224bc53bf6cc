"""The nodes of a cluster, and the devices that upres uses on each."""

import logging
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray

from upres.engine.core.errors import SettingsError
from upres.engine.runtime import registry as runtimes

NAMESPACE = "upres"
CONNECT_SECONDS = 10.0
HOW = "start one by `ray start --head` here, or join one by `ray start --address HOST:6379`; RAY_ADDRESS=HOST:6379 names its head"


@dataclass(frozen=True, slots=True)
class Node:
    """One node of the cluster. name: its address. cpus, gpus: the resources that it offers."""

    id: str
    name: str
    cpus: float
    gpus: float


@dataclass(frozen=True, slots=True)
class Place:
    """A device on a node. count: number of devices there. cpus, gpus: resources that Ray reserves for it."""

    node: Node
    number: int
    count: int
    cpus: float
    gpus: float


def connect() -> str:
    """Connect this process to the cluster of this machine; return the id of its node. SettingsError if there is none."""
    # Ray warns that it cannot handle signals outside the main thread; the server handles them itself.
    logging.getLogger("ray._private.worker").setLevel(logging.ERROR)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        if (address := os.environ.get("RAY_ADDRESS", "auto")) != "auto":  # Ray itself would retry for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        ray.init("auto", namespace=NAMESPACE, log_to_driver=False, configure_logging=False, ignore_reinit_error=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise SettingsError(f"no Ray cluster was found ({error}); {HOW}") from error
    node: str = ray.get_runtime_context().get_node_id()
    return node


def nodes() -> list[Node]:
    """Return the nodes that are alive."""
    return [_node(each) for each in ray.nodes() if each["Alive"]]


def _node(description: dict[str, Any]) -> Node:
    resources = description["Resources"]
    return Node(description["NodeID"], description["NodeName"], resources.get("CPU", 0.0), resources.get("GPU", 0.0))


def places(node: Node, workers: int | None, runtime: str) -> Iterator[Place]:
    """Yield the devices of a node: `workers` of them, or else one for each GPU that the runtime may use, or one for its CPUs.

    Yield none for a node that offers no resources. If there are more devices than GPUs, they share the GPUs.
    """
    gpus = int(node.gpus) if runtime == runtimes.AUTO or runtimes.load(runtime).device == "cuda" else 0
    if not gpus and not node.cpus:
        return
    # An automatically selected runtime may be the CPU's, which two workers would then share.
    count = workers if workers is not None else max(1, gpus) if runtime != runtimes.AUTO else 1
    for number in range(count):
        yield Place(node, number, count, min(1.0, node.cpus / count), min(1.0, gpus / count))
