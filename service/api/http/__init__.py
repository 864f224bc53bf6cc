"""The HTTP API: the v2 contract, its WebSockets and downloads."""
