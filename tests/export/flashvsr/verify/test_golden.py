"""Numeric references."""

import pytest

from upres.engine.core.errors import ModelError
from upres.export.flashvsr.verify.golden import read_golden, read_heads


def test_a_file_that_is_no_reference_is_named(tmp_path):
    (tmp_path / "no.npz").write_bytes(b"no")
    with pytest.raises(ModelError, match=r"no\.npz is not a FlashVSR reference"):
        read_golden(tmp_path / "no.npz")


def test_a_configuration_that_is_none_is_named(tmp_path):
    (tmp_path / "no.json").write_text("{}")
    with pytest.raises(ModelError, match=r"no\.json does not describe a FlashVSR configuration"):
        read_heads(tmp_path / "no.json")
