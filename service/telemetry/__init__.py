"""Observability of the service: traces and Prometheus metrics."""
