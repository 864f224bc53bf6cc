"""Comparison of exported graphs with a reference implementation."""
