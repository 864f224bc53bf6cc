"""A cluster of Ray whose nodes all are on this machine."""

from contextlib import contextmanager

import pytest
from paths import SUPPORT

OBJECT_STORE = 80 << 20  # bytes of memory, of which upres uses next to nothing


@contextmanager
def cluster(*cpus):
    """Nodes that offer so many CPUs each; this process, and what it starts, is on the first."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(SUPPORT))  # workers import `fake`
        nodes = Cluster()
        try:
            for count in cpus:
                joined(nodes, count)
            patch.setenv("RAY_ADDRESS", nodes.address)
            yield nodes
        finally:
            nodes.shutdown()


def joined(nodes, cpus=4):
    """A node that has just joined."""
    return nodes.add_node(num_cpus=cpus, object_store_memory=OBJECT_STORE, include_dashboard=False)
