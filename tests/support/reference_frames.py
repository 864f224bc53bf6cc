"""A network's graph and its reference implementation, run on the same frame."""

import numpy as np
import onnxruntime

from upres.export.families.layers import Layers, by_products


def run_graph(graph: bytes, pixels: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return session.run(None, {"frame": pixels[None]})[0][0]


def run_steps(network, weights, pixels: np.ndarray) -> np.ndarray:
    """Return a frame as planes, 0 to 1."""
    return network.forward(pixels.transpose(2, 0, 1) / np.float32(255), Layers(weights, by_products))


def levels(planes: np.ndarray) -> np.ndarray:
    """Return planes as pixels."""
    return np.rint(np.clip(planes * 255, 0, 255)).astype(int).transpose(1, 2, 0)
