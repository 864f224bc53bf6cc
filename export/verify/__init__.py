"""Exported graphs compared with their reference."""
