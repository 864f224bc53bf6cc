"""Architectures whose weights can be exported."""
