"""Labels that workers and the server count under alike."""

from collections.abc import Sequence

from upres.engine.models.catalog import SLUGS

CHAIN, OTHER = "chain", "other"  # in place of a model: of several, and of one that is none of the catalog's


def model_label(names: Sequence[str]) -> str:
    """Return what is made by these models, one after the other, is counted under: few values, whatever is asked for."""
    if len(names) != 1:
        return CHAIN
    return names[0] if names[0] in SLUGS else OTHER
