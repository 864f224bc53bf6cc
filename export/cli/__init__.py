"""Commands of the exporters."""
