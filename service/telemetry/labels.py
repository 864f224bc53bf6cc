"""Metric labels shared by workers and the server."""

from collections.abc import Sequence

from upres.engine.models.catalog import SLUGS

CHAIN, OTHER = "chain", "other"  # in place of a model: for several models, and for a model that is not in the catalog


def model_label(names: Sequence[str]) -> str:
    """Return the metric label for a chain of models; the number of labels is small for any input."""
    if len(names) != 1:
        return CHAIN
    return names[0] if names[0] in SLUGS else OTHER
