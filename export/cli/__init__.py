"""The commands of the exporters."""
