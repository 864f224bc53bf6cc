"""Recording of the largest activations of a PyTorch run, to check whether they fit in float16."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class ActivationScan(TorchFunctionMode):  # type: ignore[misc]  # PyTorch is not type-checked
    """A context manager that records the largest absolute result of every PyTorch call, by function name and call number."""

    def __init__(self) -> None:
        super().__init__()
        self.largest: dict[str, float] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - any result
        """Call the function and record its result."""
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dtype in (torch.float32, torch.float16, torch.bfloat16):
            with torch._C.DisableTorchFunction():
                name = f"{getattr(func, '__name__', func)} {len(self.largest)} {tuple(result.shape)}"
                self.largest[name] = float(result.abs().amax()) if result.numel() else 0.0
        return result
