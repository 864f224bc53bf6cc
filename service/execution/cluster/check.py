"""Checks of every node of a cluster for `upres doctor`: the installed version of upres, and the server's folder."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from .nodes import Node, connect, nodes
from .shared_folder import Mark, Marked, problem

ANSWER_SECONDS = 60.0  # for a Ray process to start on the node


@dataclass(frozen=True, slots=True)
class Checked:
    """A node, and the reason why it cannot be used; None if it can."""

    node: Node
    problem: str | None


def check(folder: Path) -> list[Checked]:
    """Check all nodes of the cluster that this machine belongs to. SettingsError if it belongs to none."""
    connect()
    marked = Marked(folder)
    try:
        node_list = nodes()
        refs = [_start_check(node, marked.mark) for node in node_list]
        return [Checked(node, _answer(ref)) for node, ref in zip(node_list, refs, strict=True)]
    finally:
        marked.remove()
        ray.shutdown()


def _start_check(node: Node, mark: Mark) -> ray.ObjectRef:
    strategy = NodeAffinitySchedulingStrategy(node.id, soft=False)
    ref: ray.ObjectRef = ray.remote(_look).options(num_cpus=0, max_retries=0, scheduling_strategy=strategy).remote(mark)
    return ref


def _look(mark: Mark) -> tuple[str, str | None]:
    """Return the version of upres on this node, and the problem with its folder, if any."""
    return version("upres"), problem(mark)


def _answer(ref: ray.ObjectRef) -> str | None:
    try:
        installed, why = ray.get(ref, timeout=ANSWER_SECONDS)
    except RayError as error:
        return f"upres does not run there: {str(error).strip().splitlines()[-1]}"
    own = version("upres")
    return why or (f"it has upres {installed}, and this machine {own}: install the same" if installed != own else None)
