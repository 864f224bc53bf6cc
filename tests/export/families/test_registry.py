"""Identification of the family of weights, and errors for unknown ones."""

import numpy as np
import pytest
from small_networks import RRDB, SMALL, SRVGG, tensors

from upres.engine.core.errors import ModelError
from upres.export.families.registry import identify, names
from upres.export.weights.read import Weights

NETWORKS = [SMALL, SRVGG(8, 1, 2), RRDB(8, 4, 2, 4), RRDB(8, 4, 1, 2)]


def test_the_shipped_families_are_found_by_their_entry_points():
    assert {"rrdb", "srvgg"} <= set(names())


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_the_network_follows_from_the_shapes(network):
    weights = tensors(network)
    assert identify(Weights(weights, "")) == (network, weights)


@pytest.mark.parametrize("network", [SMALL, SRVGG(8, 1, 2), RRDB(8, 4, 2, 4), RRDB(8, 4, 1, 2)], ids=str)
def test_tensors_without_names_get_those_of_the_family_that_has_as_many(network):
    weights = tensors(network)
    identified, named = identify(Weights(list(weights.values()), ""))
    assert identified == network
    assert {name: id(array) for name, array in named.items()} == {name: id(array) for name, array in weights.items()}


def test_every_mismatch_is_named_at_once():
    weights = tensors(RRDB(8, 4, 2, 4))
    del weights["conv_body.bias"]
    weights["extra"] = np.zeros(3)
    weights["conv_hr.weight"] = np.zeros((8, 8, 1, 1))
    weights["conv_up1.bias"][3] = np.nan
    expected = (
        r"conv_body.bias is missing; extra is unknown; conv_up1.bias has numbers that are not finite; "
        r"conv_hr.weight is \(8, 8, 1, 1\), expected \(8, 8, 3, 3\)"
    )
    with pytest.raises(ModelError, match=expected):
        identify(Weights(weights, ""))


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"linear.weight": np.zeros((3, 3))}, "linear.weight"),
        ({"conv_first.weight": np.zeros(3), "body.0.weight": np.zeros(3)}, "conv_first.weight, body.0.weight"),
        ([np.zeros(3)] * 7, "without names"),
        ({}, "their 0 tensors"),
    ],
)
def test_other_weights_are_refused(weights, words):
    with pytest.raises(ModelError, match=rf"belong to none of the families .*rrdb, srvgg.*{words}"):
        identify(Weights(weights, ""))
