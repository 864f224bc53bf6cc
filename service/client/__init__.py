"""Python clients of the gRPC service, with and without asyncio."""

from .aio import AsyncClient
from .sync import Client

__all__ = ["AsyncClient", "Client"]
