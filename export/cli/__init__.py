"""The exporters' commands."""
