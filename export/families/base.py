"""The contract of a network family: what the exporter needs to know of it, in one class."""

from abc import ABC, abstractmethod
from typing import ClassVar, Self

from upres.export.weights.tensors import Shapes, Tensors

from .layers import Layers, Planes


class Family(ABC):
    """A family of per-frame networks; an instance is one network of it, with its sizes.

    To add one: a module with such a class, and its line among the entry points of the group `upres.families`. Its trained
    networks may be listed in the engine's catalogue; without that, they are exported under names that the user chooses.
    """

    name: ClassVar[str]
    """The name of its entry point, and `Network.family` in the catalogue."""
    overlap: ClassVar[int | None] = None
    """Input pixels by which tiles overlap and are blended. None: tiles equal the whole frame, with the halo of the graph."""

    scale: int
    """Output size over input size."""

    @property
    def multiple(self) -> int:
        """What the sizes of a frame must be a multiple of."""
        return 1

    @classmethod
    @abstractmethod
    def recognize(cls, tensors: Tensors) -> Self | None:
        """Read the sizes off the tensors; None where they belong to another family."""

    @classmethod
    def tensor_names(cls, count: int) -> list[str]:
        """Return the names of this many tensors in the order of the layers; any other number where no network has as many.

        For formats that do not name them; a family that is never stored in one need not know.
        """
        return []

    @abstractmethod
    def shapes(self) -> Shapes:
        """Return the shape of every tensor by its PyTorch name."""

    @abstractmethod
    def write(self, tensors: Tensors, scale: int, name: str) -> bytes:
        """Write the network as an ONNX file that upscales by `scale`, as `graphs.frame_writer` makes one.

        Raises ModelError for a scale that the network cannot be brought to.
        """

    def pad(self, scale: int) -> int:
        """Return how many pixels must be reflected around a frame before it goes into the graph of this scale."""
        return 0

    @abstractmethod
    def forward(self, planes: Planes, layers: Layers) -> Planes:
        """Run the network step by step, to check graphs against; apart from `write`.

        planes: (3, height, width) float32, 0 to 1. Returns (3, scale * height, scale * width), by the network's own scale.
        """
