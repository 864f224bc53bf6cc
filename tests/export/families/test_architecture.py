import numpy as np
import pytest
from small_networks import RRDB, SMALL, SRVGG, tensors

from upres.engine.core.errors import ModelError
from upres.export.families import architecture

NETS = [SMALL, SRVGG(8, 1, 2), RRDB(8, 4, 2, 4), RRDB(8, 4, 1, 2)]


@pytest.mark.parametrize("net", NETS, ids=str)
def test_the_architecture_follows_from_the_shapes(net):
    assert architecture.infer(tensors(net)) == net


def test_names_follow_from_the_number_of_tensors():
    assert architecture.srvgg_names(len(SMALL.shapes())) == list(SMALL.shapes())
    assert architecture.rrdb_names(len(NETS[2].shapes())) == list(NETS[2].shapes())


def test_every_mismatch_is_named_at_once():
    weights = tensors(NETS[2])
    del weights["conv_body.bias"]
    weights["extra"] = np.zeros(3)
    weights["conv_hr.weight"] = np.zeros((8, 8, 1, 1))
    weights["conv_up1.bias"][3] = np.nan
    expected = (
        r"conv_body.bias is missing; extra is unknown; conv_up1.bias has numbers that are not finite; "
        r"conv_hr.weight is \(8, 8, 1, 1\), expected \(8, 8, 3, 3\)"
    )
    with pytest.raises(ModelError, match=expected):
        architecture.infer(weights)


def test_other_weights_are_refused():
    with pytest.raises(ModelError, match=r"neither an SRVGGNetCompact nor an RRDBNet; their 1 tensors: linear.weight"):
        architecture.infer({"linear.weight": np.zeros((3, 3))})
