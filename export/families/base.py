"""The interface of a network family, which the exporter uses."""

from abc import ABC, abstractmethod
from typing import ClassVar, Self

from upres.export.weights.tensors import Shapes, Tensors

from .layers import Layers, Planes


class Family(ABC):
    """A family of per-frame networks; an instance is one network of the family, with its sizes.

    To add a family, write a module with a subclass and register it as an entry point of the group `upres.families`. Its
    trained networks can be listed in the engine's catalog; otherwise they are exported under names that the user chooses.
    """

    name: ClassVar[str]
    """The name of its entry point, and `Network.family` in the catalog."""
    overlap: ClassVar[int | None] = None
    """Input pixels by which tiles overlap and are blended. None: with the graph's halo, tiles equal the whole frame exactly."""

    scale: int
    """Output size over input size."""

    @property
    def multiple(self) -> int:
        """The number that width and height of a frame must be multiples of."""
        return 1

    @classmethod
    @abstractmethod
    def recognize(cls, tensors: Tensors) -> Self | None:
        """Return the network that the tensors belong to, with its sizes; None if they belong to another family."""

    @classmethod
    def tensor_names(cls, count: int) -> list[str]:
        """Return the tensor names, in layer order, of the network with this many tensors.

        The list has another length if no network of the family has that many. Used for formats without names; a family that is
        never stored in such a format need not override it.
        """
        return []

    @abstractmethod
    def shapes(self) -> Shapes:
        """Return the shape of every tensor by its PyTorch name."""

    @abstractmethod
    def write(self, tensors: Tensors, scale: int, name: str) -> bytes:
        """Write the network as an ONNX file that upscales by `scale`, with `graphs.frame_writer`.

        Raises ModelError for a scale that the network does not support.
        """

    def pad(self, scale: int) -> int:
        """Return how many pixels of reflection padding a frame needs before it is passed to the graph of this scale."""
        return 0

    @abstractmethod
    def forward(self, planes: Planes, layers: Layers) -> Planes:
        """Run the network layer by layer, independently of `write`, as a reference for graphs.

        planes: (3, height, width) float32, 0 to 1. Returns (3, scale * height, scale * width), at the network's own scale.
        """
