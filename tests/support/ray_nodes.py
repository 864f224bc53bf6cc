"""A Ray cluster whose nodes all run on this machine."""

from contextlib import contextmanager

import pytest
from paths import SUPPORT

OBJECT_STORE = 80 << 20  # bytes of memory; upres needs almost none of it


@contextmanager
def cluster(*cpus):
    """Yield a cluster whose nodes offer this many CPUs each; this process and its children run on the first."""
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
    """Add a node and return it once it has joined."""
    return nodes.add_node(num_cpus=cpus, object_store_memory=OBJECT_STORE, include_dashboard=False)
