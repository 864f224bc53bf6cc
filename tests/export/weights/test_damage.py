"""Any damaged weights file is either read or rejected with ModelError."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from paths import DATA
from safetensors.numpy import save_file
from small_networks import SMALL, tensors, write_srvgg

from upres.engine.core.errors import ModelError
from upres.export.families.registry import identify
from upres.export.weights.read import read

EDITS = st.lists(
    st.tuples(
        st.integers(0, 700),
        st.integers(0, 40),
        st.sampled_from([b"", b"nan", b"-1", b"1e99", b"\n", b"="]) | st.binary(),
    ),
    min_size=1,
    max_size=4,
)
"""Where, how many bytes are dropped, and what is put there."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights")
    write_srvgg(path, SMALL, tensors(SMALL, dtype=np.float16))
    save_file(tensors(SMALL), path / "small.safetensors")
    (path / "small.pth").write_bytes((DATA / "saved_by_torch.pth").read_bytes())
    return path


@pytest.mark.parametrize("name", ["small.param", "small.bin", "small.safetensors", "small.pth"])
@given(edits=EDITS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_read_or_refused(folder, tmp_path, name, edits):
    data = (folder / name).read_bytes()
    for start, dropped, inserted in edits:
        data = data[:start] + inserted + data[start + dropped :]
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(data if path.name == name else path.read_bytes())
    try:
        identify(read(tmp_path / name))
    except ModelError as error:
        assert str(error)
