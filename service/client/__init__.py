"""The Python clients, with and without asyncio."""

from .aio import AsyncClient
from .sync import Client

__all__ = ["AsyncClient", "Client"]
